"""The engine ring: workers inside the test's own process, on every shelf."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from piecework import Piecework


@pytest.fixture
def app(store_url: str) -> Iterator[Piecework]:
    app = Piecework(store_url)
    yield app
    app.close()
