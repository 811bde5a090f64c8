"""The torture under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torturekit import Small

from piecework.testing import ModelStore


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Small]:
    def make(store: ModelStore, **faults: float) -> Small:
        return Small(tmp_path, store, **faults)

    return make
