"""How SQLite goes about each statement: through the index that was made for it, and never through every job there is.

No clock here: the plan is what makes a fetch as fast with millions of finished and future jobs as without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from piecework.store.sqlite.store import SqliteStore
from piecework.store.sqlite.transaction import SQL

JOBS = {"id": "sqlite_autoindex_piecework_job_1", "seq": "INTEGER PRIMARY KEY"}
INDEX = "piecework_job_"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path_factory.mktemp('plans')}/jobs.db")
    store.migrate()
    yield store
    store.close()


def plan(store: SqliteStore, sql: str) -> list[str]:
    """The steps that touch tables, one line each."""
    params = dict.fromkeys(re.findall(r":([a-z_]+)", sql), "[]")
    with store.db.read() as con:
        return [str(row[3]) for row in con.execute("EXPLAIN QUERY PLAN " + sql, params)]


TITLES = [title for title in SQL if "{" not in SQL[title]]


@pytest.mark.parametrize("title", TITLES)
def test_print(store: SqliteStore, title: str) -> None:
    print(title, plan(store, SQL[title]))
