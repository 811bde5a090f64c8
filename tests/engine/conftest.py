"""The engine ring: workers inside the test's own process, on a real SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from piecework import Piecework


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store's file."""
    return tmp_path / "engine.db"


@pytest.fixture
def app(path: Path) -> Iterator[Piecework]:
    app = Piecework(f"sqlite:///{path}")
    yield app
    app.close()
