"""The engine ring: workers inside the test's own process, on every shelf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from piecework import Piecework


@pytest.fixture
def path(shelf: str, store_url: str, tmp_path: Path) -> Path | str:
    """Where a test itself looks into the store: its file, or its URL."""
    return tmp_path / "jobs.db" if shelf == "sqlite" else store_url


@pytest.fixture
def app(store_url: str) -> Iterator[Piecework]:
    app = Piecework(store_url)
    yield app
    app.close()
