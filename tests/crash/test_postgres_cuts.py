"""Every verb that changes something on PostgreSQL loses its connection at every message, before and after the server has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from cutting import Stage, Verb, play
from cutverbs import VERBS, Call, add_first_ever
from tests.proxy import Proxy
from tests.servers import Postgres

from piecework.store import Store
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.transaction import TABLES
from piecework.testing.conformance import kit

SCHEMA = "cuts"
KEPT = [name for name in TABLES if name not in ("schema", "sleeper", "tally")]  # what the state of a store is made of

NUMBERED = [("operation", "job"), ("part", "job")]  # columns that hold a number of arrival


class PostgresStage(Stage):
    may_be_told = (
        add_first_ever,
    )  # one that is lost is made again, if that can be; that none can be made is told at once

    def __init__(self, postgres: Postgres, proxy: Proxy) -> None:
        url = f"{postgres.url}?schema={SCHEMA}"
        through = url.replace(f":{postgres.port}/", f":{proxy.port}/")
        super().__init__(proxy, lambda url, clock: PostgresStore(url, clock=clock), (url, through))
        self.direct.migrate()
        self._admin = psycopg.connect(postgres.url, autocommit=True, options=f"-c search_path={SCHEMA}")

    def empty(self) -> None:
        self._admin.execute("; ".join(f"DELETE FROM piecework_{name}" for name in TABLES if name != "schema").encode())

    def rows(self) -> list[Any]:
        """All rows of all tables, and the sums of the counters."""
        return [*(self._rows(name) for name in KEPT), {p: n for p, n in self.direct.counts().items() if n}]

    def _rows(self, name: str) -> list[str]:
        """The rows of a table. Numbers of arrival are left out: what was rolled back took some along."""
        cursor = self._admin.execute(f"SELECT * FROM piecework_{name} ORDER BY 1".encode())
        assert cursor.description is not None
        shown = [
            n
            for n, column in enumerate(cursor.description)
            if column.name not in ("seq", "operation") and (name, column.name) not in NUMBERED
        ]
        return sorted(str([row[n] for n in shown]) for row in cursor)

    def close(self) -> None:
        super().close()
        self._admin.close()


@pytest.fixture(scope="module")
def stage(postgres: Postgres) -> Iterator[Stage]:
    _servers.append(postgres)
    with Proxy(postgres.port) as proxy:
        stage = PostgresStage(postgres, proxy)
        yield stage
        stage.close()


_servers: list[Postgres] = []


def repair(store: Store) -> Call:
    kit.loose_batch(store, 2)
    with psycopg.connect(_servers[-1].url, autocommit=True) as con:
        con.execute(f"UPDATE {SCHEMA}.piecework_batch SET open = 7".encode())
    return lambda at: at.repair(limit=1000)


@pytest.mark.parametrize("verb", [*VERBS, repair], ids=lambda verb: verb.__name__)
def test_a_verb_that_is_cut_at_any_message_leaves_what_it_leaves_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    play(stage, monkeypatch, verb)
