"""A store of an earlier version is brought to this one, with all that is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from piecework.errors import SchemaOutdated
from piecework.job import Answer, Filter, NewOperation, OnFailure, State
from piecework.store.sqlite import schema
from piecework.store.sqlite.store import SqliteStore
from piecework.testing import FrozenClock
from piecework.testing.conformance import assert_sound
from piecework.testing.conformance.kit import (
    a_job,
    a_session,
    add,
    complete_leaves,
    completed,
    everything,
    failed,
    fetch_one,
    leaves,
    retried,
    settle,
    split,
    state,
)
from piecework.testing.conformance.operations import FIRST, start, stepped


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FrozenClock) -> SqliteStore:
    """A store whose file was set up before there were operations."""
    url = f"sqlite:///{tmp_path}/old.db"
    with monkeypatch.context() as then:
        then.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        then.setattr(schema, "VERSION", 1)
        SqliteStore(url, clock=clock).migrate()
    return SqliteStore(url, clock=clock)


def insert_old_rows(store: SqliteStore) -> None:
    """Rows as the earlier version wrote them: none of the new columns is named."""
    with store.db.write() as con:
        con.execute(
            "INSERT INTO piecework_job (id, task, queue, priority, state, run_at, run, settled, created_at, args)"
            " VALUES ('left', 'demo', 'default', 0, 'available', 1.0, 1, 1, 1.0, '[]')"
        )
        con.execute("INSERT INTO piecework_tally VALUES ('default', 'available', 1)")
        con.execute("INSERT INTO piecework_attempt VALUES ('left', 1, 1, 'retry', 1.0, 2.0, 'w.1', NULL, 'busy')")


def test_an_old_store_is_refused_until_it_is_migrated(old: SqliteStore) -> None:
    with pytest.raises(SchemaOutdated, match="piecework migrate"):
        old.counts()
    assert old.migrate() == [name for _, name, _ in schema.MIGRATIONS[1:]]
    assert old.migrate() == []
    assert old.counts() == {}


def test_what_was_there_is_there_and_runs(old: SqliteStore) -> None:
    insert_old_rows(old)
    old.migrate()
    old.enlist(a_session("w"))
    (line,) = old.attempts("left")
    assert (line.outcome, line.reason, line.cursor, line.changes) == ("retry", "busy", None, ())
    (left,) = old.get(["left"])
    assert (left.identity, left.tags, left.status, left.status_at) == (None, (), None, None)
    assert settle(old, completed(fetch_one(old))) is Answer.OK
    assert_sound(old)


def test_a_migrated_store_does_what_a_new_one_does(old: SqliteStore) -> None:
    old.migrate()
    for session in ("w", "splitter"):
        old.enlist(a_session(session))
    plain, walked = add(old), start(old)
    for run in (fetch_one(old), fetch_one(old)):
        settle(old, retried(run) if run.id == plain else stepped(run, FIRST, State.COMPLETED))
    id, _ = split(old, 2, OnFailure.COMPOSE)
    settle(old, failed(leaves(old, 1)[0]))
    complete_leaves(old)
    assert (state(old, id), state(old, walked), state(old, plain)) == (
        State.AVAILABLE,
        State.COMPLETED,
        State.AVAILABLE,
    )
    known = add(old, identity="7", tags=("x",), task="known")
    assert (
        [job.id for job in old.find(Filter(identity="7"))]
        == [job.id for job in old.find(Filter(tags=("x",)))]
        == [known]
    )
    assert old.cancel(Filter(tags=("x",)), reason="r") == 1
    assert old.add([a_job("op", operation=NewOperation(FIRST, "d", "{}"))]) == ["op"]
    assert [job.id for job in everything(old, Filter(operations=True))] == [walked, "op"]
    assert_sound(old)


def test_check_tells_of_what_a_hand_in_the_tables_left(tmp_path: Path, clock: FrozenClock) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/jobs.db", clock=clock)
    start(store)
    assert {finding.level for finding in store.examine() if finding.subject == "operations"} == set()
    with store.db.write() as con:
        con.execute("DELETE FROM piecework_job")
    assert [finding.level for finding in store.examine() if finding.subject == "operations"] == ["warning"]
