"""The daily verbs on the newest PostgreSQL that is here, and with the plans that a server keeps for all arguments.

By itself a server makes a plan for the arguments of each call, until it thinks that one for all is as good. All rings on all
servers are played by `make postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.schemas import Schemas
from tests.servers import UNSYNCED, Postgres, ServerMissing, servers

from piecework.store.postgres.store import PostgresStore
from piecework.testing import FrozenClock
from piecework.testing.conformance import (
    AdvanceConformance,
    ExchangeConformance,
    ExpiryConformance,
    SealConformance,
    SettleConformance,
)


def version(said: str) -> tuple[int, ...]:
    """As numbers, so that 18 is more than 9; a beta counts as its first."""
    return tuple(int(part) for part in said.split(".") if part.isdigit())


@pytest.fixture(scope="module")
def newest() -> Iterator[Schemas]:
    """A server that always keeps its plans."""
    found = servers()
    try:
        place = found[max(found, key=version)] if found else None
        server = Postgres(place, plan_cache_mode="force_generic_plan", **UNSYNCED)
        server.start()
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    yield Schemas(server)
    server.stop()


class TestNewestPostgres(
    SettleConformance,
    ExchangeConformance,
    ExpiryConformance,
    AdvanceConformance,
    SealConformance,
):
    """What a server plans anew in each version, and runs all day."""

    @pytest.fixture
    def store(self, newest: Schemas, clock: FrozenClock) -> Iterator[PostgresStore]:
        url = newest.take()
        store = PostgresStore(url, clock=clock)
        with newest.warm(store):
            yield store
        store.close()
        newest.give_back(url)


def test_its_plans_are_kept(newest: Schemas) -> None:
    store = PostgresStore(newest.take())
    found = store.db.read(lambda con: con.execute("SELECT current_setting('plan_cache_mode')").fetchone())
    assert found == ("force_generic_plan",)
    store.close()
