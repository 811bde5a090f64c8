"""Every verb that changes something loses its connection at every message that it sends, before and after the server has it.

What is left must be what the verb leaves when nothing breaks; and where the server stays away the caller is told so, and
sends the same call again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from cutverbs import PARTS, VERBS, Call, add_first_ever, renew
from tests.proxy import Cut, Proxy
from tests.servers import Postgres
from tests.support import until

from piecework.errors import StoreUnavailable
from piecework.store import Store
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.transaction import TABLES
from piecework.testing import FrozenClock
from piecework.testing.conformance import kit
from piecework.testing.conformance.kit import a_session, assert_sound

SCHEMA = "cuts"
KEPT = [name for name in TABLES if name not in ("schema", "sleeper", "tally")]  # what the state of a store is made of

NUMBERED = [("operation", "job"), ("part", "job")]  # columns that hold a number of arrival


def repair(store: Store) -> Call:
    kit.loose_batch(store, 2)
    with psycopg.connect(_servers[-1].url, autocommit=True) as con:
        con.execute(f"UPDATE {SCHEMA}.piecework_batch SET open = 7".encode())
    return lambda at: at.repair(limit=1000)


ALL = [*VERBS, repair]

# ── the same store again and again ───────────────────────────────────────────────────────────────

_servers: list[Postgres] = []


@pytest.fixture(scope="module")
def place(postgres: Postgres) -> str:
    _servers.append(postgres)
    return f"?schema={SCHEMA}"


@pytest.fixture(scope="module")
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def admin(postgres: Postgres, place: str) -> Iterator[psycopg.Connection[Any]]:
    store = PostgresStore(postgres.url + place)
    store.migrate()
    store.close()
    with psycopg.connect(postgres.url, autocommit=True, options=f"-c search_path={SCHEMA}") as con:
        yield con


class Stage:
    """Sets the scene, calls, and tells what is left."""

    def __init__(self, postgres: Postgres, proxy: Proxy, admin: psycopg.Connection[Any], place: str) -> None:
        self.clock = FrozenClock()
        self.proxy = proxy
        self._admin = admin
        self._direct = PostgresStore(postgres.url + place, clock=self.clock)
        self._url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/") + place

    def set(self, verb: Callable[[Store], Call], monkeypatch: pytest.MonkeyPatch) -> Call:
        """An emptied store with what the verb is about; the same ids and claims each time."""
        numbers = itertools.count(1)
        monkeypatch.setattr(kit, "new_id", lambda: f"id{next(numbers)}")
        monkeypatch.setattr(kit, "_claims", itertools.count(1))
        self._admin.execute("; ".join(f"DELETE FROM piecework_{name}" for name in TABLES if name != "schema").encode())
        for session in kit.SESSIONS:
            self._direct.enlist(a_session(session))
        return verb(self._direct)

    def sender(self, verb: Callable[[Store], Call]) -> PostgresStore:
        """A store whose messages pass the proxy."""
        until(lambda: self.proxy.connected == 0, "the sender before has said goodbye, which is a message, too")
        self.proxy.serve()
        sender = PostgresStore(self._url, clock=self.clock)
        if verb is not add_first_ever:
            sender.counts()  # it has a connection
        return sender

    def left(self) -> list[Any]:
        """All rows of all tables, and the sums of the counters."""
        assert_sound(self._direct)
        return [*(self._rows(name) for name in KEPT), {p: n for p, n in self._direct.counts().items() if n}]

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
        self._direct.close()


@pytest.fixture(scope="module")
def stage(postgres: Postgres, proxy: Proxy, admin: psycopg.Connection[Any], place: str) -> Iterator[Stage]:
    stage = Stage(postgres, proxy, admin, place)
    yield stage
    stage.close()


@pytest.mark.parametrize("verb", ALL, ids=lambda verb: verb.__name__)
def test_a_verb_that_is_cut_at_any_message_leaves_what_it_leaves_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Store], Call]
) -> None:
    call = stage.set(verb, monkeypatch)
    sender = stage.sender(verb)
    answers, once = [call(sender)], stage.left()
    answers.append(call(sender))  # sent a second time, it may say that there was nothing left to do
    twice = stage.left()
    assert verb is renew or once == twice
    assert verb not in PARTS or answers[0] == answers[1]
    sender.close()
    for done in itertools.count():  # messages that the server has
        call = stage.set(verb, monkeypatch)
        sender = stage.sender(verb)
        for_good = done % 2 == 0  # the caller sends it again; else the store does
        with stage.proxy.cutting(max(1, done), Cut.AFTER if done else Cut.BEFORE, for_good=for_good):
            try:
                answer = call(sender)
                told = False
            except StoreUnavailable:
                told = True
                stage.proxy.serve()
                answer = call(sender)
            struck = stage.proxy.struck
        sender.close()
        where = f"cut when the server had {done} messages"
        # A connection that cannot be made is told at once; one that is lost is made again, if that can be.
        assert told == (struck and for_good) or (struck and verb is add_first_ever), where
        assert answer in answers, where
        left = stage.left()
        assert left == (once if left != twice else twice), where
        if not struck:
            break
    assert done > 1, "no message was cut"
