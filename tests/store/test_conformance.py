"""Every store keeps the contract; so does the model they are measured against."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from piecework.store import Store
from piecework.testing import FrozenClock, ModelStore
from piecework.testing.conformance import (
    NoWithinConformance,
    StoreConformance,
    TransactionConformance,
    WithinConformance,
)


class TestStores(StoreConformance):
    """The shelves."""


class InDatabases:
    """On those shelves that are databases in which programs have transactions of their own."""

    @pytest.fixture(params=["sqlite", "postgres"])
    def shelf(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


class TestTransactions(InDatabases, TransactionConformance):
    """Shelves that open a transaction for a run."""


class TestNoWithin(NoWithinConformance):
    """The shelf that can neither."""

    @pytest.fixture
    def shelf(self) -> str:
        return "redis"


class TestWithin(InDatabases, WithinConformance):
    """Shelves that write on a caller's connection."""

    @pytest.fixture
    def transaction(self, shelf: str, store_url: str, tmp_path: Path) -> Callable[[], AbstractContextManager[Any]]:
        @contextmanager
        def on_sqlite() -> Iterator[sqlite3.Connection]:
            connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
            try:
                connection.execute("BEGIN")
                with connection:
                    yield connection
            finally:
                connection.close()

        @contextmanager
        def on_postgres() -> Iterator[psycopg.Connection[Any]]:
            with psycopg.connect(store_url.partition("?")[0]) as connection:
                yield connection

        return {"sqlite": on_sqlite, "postgres": on_postgres}[shelf]


def test_no_theme_hides_a_test_of_another() -> None:
    """A suite inherits from every theme: two tests of one name would be one test."""
    names = Counter(name for theme in StoreConformance.__mro__ for name in vars(theme) if name.startswith("test_"))
    assert [name for name, n in names.items() if n > 1] == []


class TestModel(StoreConformance, NoWithinConformance):
    """The model."""

    @pytest.fixture
    def store(self, clock: FrozenClock) -> Store:
        return ModelStore(clock=clock)
