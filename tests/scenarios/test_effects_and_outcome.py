"""`@app.task(transaction=True)`: what a task wrote and that it completed are committed together, or neither is."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from processes import Tree
from support import until
from tests.callers import make_table, numbers_in, table_of

from piecework import Fail, Piece, Pieces, Piecework, Snooze, State, current
from piecework.engine import absence
from piecework.errors import BadOption, JobFailed, StoreUnavailable, UsageError
from piecework.outcome import Again, Release
from piecework.testing.drain import drain


@pytest.fixture(params=["sqlite", "postgres"])  # the stores that have tables of others beside their own
def shelf(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def table(app: Piecework, store_url: str) -> str:
    """A table of the task's own, beside the store's."""
    app.store.migrate()
    make_table(store_url)
    return table_of(store_url)


@pytest.fixture
def write(table: str) -> Callable[[int], object]:
    """Puts a number into it, in the job's own transaction."""
    return lambda n: current.connection.execute(f"INSERT INTO {table} VALUES ({n})")


def test_effects_and_outcome_are_there_together(app: Piecework, write: Any, store_url: str) -> None:
    seen: list[Any] = []

    @app.task(transaction=True)
    def charge(n: int) -> int:
        write(n)
        write(n + 1)
        seen.append((type(current.connection).__mro__, numbers_in(store_url)))
        return n

    job = charge.later(1)
    drain(app)
    ((kinds, inside),) = seen
    assert {psycopg.Connection, sqlite3.Connection} & set(kinds)
    assert inside == []  # others see nothing of it before the job ends
    assert numbers_in(store_url) == [1, 2]
    record = job.record()
    assert (record.state, record.run, record.attempt, job.result(timeout=0)) == (State.COMPLETED, 1, 1, 1)
    assert list(job.attempts()) == []
    assert app.jobs.counts()["default", "completed"] == 1


def test_an_exception_rolls_back_and_the_retry_is_as_usual(app: Piecework, write: Any, store_url: str) -> None:
    @app.task(transaction=True, attempts=3, retry=0)
    def charge() -> None:
        write(current.attempt)
        if current.attempt < 3:
            raise ValueError(f"no {current.attempt}")

    job = charge.later()
    drain(app)
    assert numbers_in(store_url) == [3]
    assert (job.state, job.record().run) == (State.COMPLETED, 3)
    assert [line.outcome for line in job.attempts()] == ["retry", "retry"]


@pytest.mark.parametrize("verdict", [Snooze(60), Fail("no")], ids=["snooze", "fail"])
def test_a_verdict_that_is_no_completion_rolls_back(
    app: Piecework, write: Any, store_url: str, verdict: BaseException
) -> None:
    @app.task(transaction=True)
    def said() -> Any:
        write(1)
        return verdict

    @app.task(transaction=True)
    def raised() -> None:
        write(2)
        raise verdict

    jobs = [said.later(), raised.later()]
    drain(app)
    assert numbers_in(store_url) == []
    assert {job.state for job in jobs} <= {State.AVAILABLE, State.FAILED}


def test_a_result_that_cannot_travel_rolls_back(app: Piecework, write: Any, store_url: str) -> None:
    @app.task(transaction=True)
    def charge() -> object:
        write(1)
        return object()

    job = charge.later()
    drain(app)
    assert job.state is State.FAILED
    assert numbers_in(store_url) == []


def test_who_lost_the_job_rolls_back(app: Piecework, write: Any, store_url: str) -> None:
    """The job was taken away while it ran: the other run's effects count, and this one's are gone."""

    @app.task(transaction=True)
    def charge() -> None:
        if current.run == 1:
            (record,) = app.store.get([current.id])
            assert record.worker is not None
            app.store.reap(record.worker)
        write(current.run)

    job = charge.later()
    until(lambda: drain(app) and job.state.finished, lambda: f"it ran again: {job.record()}")
    assert job.record().run > 1
    assert numbers_in(store_url) == [job.record().run]


def test_pieces_count_and_a_batch_that_fails_by_the_last_of_them_fails(
    app: Piecework, write: Any, store_url: str
) -> None:
    @app.task(transaction=True, attempts=1)
    def piece(n: int) -> int:
        if n == 13:
            raise ValueError("no")
        write(n)
        return n

    @app.split
    def parts(*numbers: int) -> Iterator[Piece[int]]:
        for n in numbers:
            yield piece.piece(n)

    @parts.compose
    def add_up(pieces: Pieces[int], *numbers: int) -> int:
        return sum(pieces.results())

    good, bad = parts.later(1, 2, 3), parts.later(13, 4, 5)
    drain(app, concurrency=1)
    assert good.result(timeout=0) == 6
    with pytest.raises(JobFailed):
        bad.result(timeout=0)
    assert numbers_in(store_url) == [1, 2, 3, 4, 5]
    assert app.store.repair() == []


def test_the_transaction_is_not_the_tasks_to_end(app: Piecework, write: Any, store_url: str) -> None:
    said: dict[str, str] = {}

    @app.task(transaction=True, attempts=1)
    def ends(how: str) -> None:
        write(1)
        try:
            current.connection.execute(how.upper()) if how == "Commit" else getattr(current.connection, how)()
        except Exception as error:
            said[how] = str(error)
            raise

    jobs = [ends.later(how) for how in ("commit", "rollback", "Commit")]
    drain(app)
    assert {job.state for job in jobs} == {State.FAILED}
    assert set(said) == {"commit", "rollback"}
    assert "transaction of current.connection" in str(jobs[2].record().error)


@pytest.mark.parametrize("shelf", ["postgres"])
@pytest.mark.parametrize(
    ("how", "stays"), [("COMMIT AND CHAIN", [1]), ("ROLLBACK AND CHAIN", []), ("COMMIT", [1]), ("COMMIT; BEGIN", [1])]
)
def test_a_transaction_that_was_ended_by_sql_fails_the_job_for_good(
    app: Piecework, write: Any, store_url: str, how: str, stays: list[int]
) -> None:
    @app.task(transaction=True, attempts=3, retry=0)
    def ends() -> None:
        write(1)
        current.connection.execute(how)
        if how != "COMMIT":
            write(2)

    job = ends.later()
    drain(app)
    assert (job.state, job.record().run, numbers_in(store_url)) == (State.FAILED, 1, stays)
    assert "not the task's to end" in str(job.record().error)


@pytest.mark.parametrize("shelf", ["postgres"])
def test_a_failed_statement_is_told_of_and_a_savepoint_mends_it(
    app: Piecework, write: Any, table: str, store_url: str
) -> None:
    @app.task(transaction=True, attempts=1)
    def careless(savepoint: bool) -> None:
        write(1)
        try:
            if savepoint:
                with current.connection.transaction():
                    current.connection.execute("SELECT 1/0")
            else:
                current.connection.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            pass

    careful, bad = careless.later(True), careless.later(False)
    drain(app)
    assert (careful.state, bad.state) == (State.COMPLETED, State.FAILED)
    assert "a savepoint" in str(bad.record().error)
    assert numbers_in(store_url) == [1]


@pytest.mark.parametrize("shelf", ["postgres"])
def test_its_isolation_is_read_committed_whatever_the_default_is(
    app: Piecework, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=serializable")

    @app.task(transaction=True)
    def look() -> str:
        return str(current.connection.execute("SHOW transaction_isolation").fetchone()[0])

    job = look.later()
    drain(app)
    assert job.result(timeout=0) == "read committed"


@pytest.mark.parametrize("shelf", ["postgres"])
def test_a_store_that_was_away_at_the_end_takes_no_attempt(app: Piecework, write: Any, store_url: str) -> None:
    """Its effects are rolled back, so that the run may be begun again; a task with one attempt does not fail by it."""

    @app.task(transaction=True, attempts=1)
    def charge() -> None:
        write(current.run)
        if current.run == 1:
            pid = current.connection.info.backend_pid
            with psycopg.connect(store_url.partition("?")[0], autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            select.select([current.connection.fileno()], [], [], 20)  # until it is gone

    job = charge.later()
    until(lambda: [drain(app)] and job.state.finished, lambda: f"it ran again: {job.record()}")
    assert (job.state, numbers_in(store_url)) == (State.COMPLETED, [2])


def test_a_store_that_is_away_each_time_takes_an_attempt_in_the_end(
    app: Piecework, write: Any, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another store, or the task's own fault: else the job would go to and fro for ever."""
    monkeypatch.setattr(absence, "FIRST_PAUSE", 0.0)

    @app.task(transaction=True, attempts=2, retry=0)
    def charge() -> None:
        write(current.run)
        raise StoreUnavailable("away")

    job = charge.later()
    until(lambda: [drain(app)] and job.state.finished, lambda: f"it has failed: {job.record()}")
    assert (job.state, job.record().attempt, numbers_in(store_url)) == (State.FAILED, 2, [])
    assert "away" in str(job.record().error)
    in_a_row = ["released", *["snoozed"] * (absence.TIMES - 1)]
    assert [line.outcome for line in job.attempts()] == [*in_a_row, "retry", *in_a_row, "failed"]


def test_a_job_that_is_given_back_again_and_again_waits_longer_each_time() -> None:
    """A store that is away for a minute costs nothing but the minute, and not the worker's time."""
    delays: list[float] = []

    class Told:
        """A store that knows only how often the job was given back."""

        def attempts(self, *_: Any, **__: Any) -> list[Any]:
            return [SimpleNamespace(reason=f"{absence.AWAY}no")] * len(delays) + [SimpleNamespace(reason=None)]

    run = SimpleNamespace(id="j", run=2)
    while isinstance(outcome := absence.given_back(Told(), run, ValueError("no")), Again | Release):  # type: ignore[arg-type]
        delays.append(outcome.delay if isinstance(outcome, Again) else 0.0)
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("shelf", ["postgres"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SET LOCAL idle_in_transaction_session_timeout = '20ms'", "longer than it allows"),
        ("SET TRANSACTION READ ONLY", "read-only"),
        ("close", "closed current.connection"),
    ],
)
def test_what_a_task_does_to_its_transaction_takes_an_attempt(
    app: Piecework, table: str, store_url: str, how: str, said: str
) -> None:
    """It would do the same again, and for ever."""

    @app.task(transaction=True, attempts=1)
    def careless() -> None:
        con = current.connection
        if how == "close":
            con.close()
            return
        con.execute(how)
        if "idle" in how:
            select.select([con.fileno()], [], [], 20)  # until the server has spoken

    job = careless.later()
    drain(app)
    assert (job.state, job.record().run, numbers_in(store_url)) == (State.FAILED, 1, [])
    assert said in str(job.record().error)


@pytest.mark.parametrize("shelf", ["postgres"])
@pytest.mark.parametrize("what", ["RESET ALL", "SET TIME ZONE 'Asia/Tokyo'", "SET extra_float_digits = -10"])
def test_settings_of_the_session_are_the_tasks_own(app: Piecework, write: Any, store_url: str, what: str) -> None:
    @app.task(transaction=True, attempts=1)
    def charge() -> None:
        write(1)
        current.connection.execute(what)
        current.set_status({"half": True})
        write(2)

    job = charge.later()
    drain(app)
    assert (job.state, numbers_in(store_url)) == (State.COMPLETED, [1, 2])


@pytest.mark.parametrize("shelf", ["postgres"])
def test_a_constraint_that_speaks_at_the_commit_leaves_neither(app: Piecework, table: str, store_url: str) -> None:
    @app.task(transaction=True, attempts=1)
    def twice() -> None:
        con = current.connection
        con.execute(f"ALTER TABLE {table} ADD CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED")
        con.execute(f"INSERT INTO {table} VALUES (1), (1)")

    job = twice.later()
    drain(app)
    assert job.state is State.FAILED
    assert "once" in str(job.record().error)
    assert numbers_in(store_url) == []


def test_jobs_that_a_task_begins_within_live_with_its_end(app: Piecework, write: Any, store_url: str) -> None:
    ran: list[int] = []

    @app.task
    def then(n: int) -> None:
        ran.append(n)

    @app.task(transaction=True, attempts=2, retry=0)
    def charge() -> None:
        write(current.attempt)
        then.using(within=current.connection).later(current.attempt)
        if current.attempt == 1:
            raise ValueError("no")

    charge.later()
    drain(app)
    assert ran == [2]
    assert numbers_in(store_url) == [2]


def test_a_task_that_never_asks_for_its_connection_is_a_task_like_others(app: Piecework) -> None:
    @app.task(transaction=True)
    def plain(n: int) -> int:
        return n

    job = plain.later(3)
    drain(app)
    assert job.result(timeout=0) == 3


def test_where_there_is_no_transaction_it_says_so(app: Piecework) -> None:
    @app.task(attempts=1)
    def plain() -> None:
        _ = current.connection

    job = plain.later()
    drain(app)
    assert "transaction=True" in str(job.record().error)
    with pytest.raises(UsageError, match="does not run in a job"):
        _ = current.connection


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_what_has_no_single_end_takes_no_transaction(app: Piecework) -> None:
    async def awaited() -> None: ...
    def plain() -> None: ...
    def parts() -> Iterator[Piece[int]]:
        yield from ()

    class Shop:
        def call(self) -> None: ...

    refused: list[Callable[[], object]] = [
        lambda: app.task(transaction=True)(awaited),
        lambda: app.task(transaction=True, pool="process")(plain),
        lambda: app.task(transaction=True)(Shop),
        lambda: app.split(transaction=True)(parts),  # type: ignore[call-overload]
        lambda: app.operation("fulfil", main=[app.task(transaction=True)(plain)]),
        lambda: app.operation("fulfil", main=[plain], transaction=True),
    ]
    for declare in refused:
        with pytest.raises(BadOption, match="transaction= is for a task that is a def"):
            declare()
    with pytest.raises(BadOption, match="True or False"):
        app.task(transaction="yes")(plain)  # type: ignore[call-overload]


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────

MODULE = """
import os, signal
from piecework import Piecework, current
app = Piecework(os.environ["STORE"])

@app.task(name="charge", transaction=True)
def charge(die: bool) -> None:
    current.connection.execute(f"INSERT INTO {os.environ['TABLE']} VALUES ({current.run})")
    if die and current.run == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("die", "failpoint", "numbers"),
    [(True, "", [2]), (False, "settle.in_transaction=kill:1", [1])],
    ids=["before the commit", "after the commit"],
)
def test_kill_9_before_the_commit_leaves_neither_and_after_it_both(
    app: Piecework, table: str, store_url: str, tmp_path: Path, die: bool, failpoint: str, numbers: list[int]
) -> None:
    (tmp_path / "effectsapp.py").write_text(MODULE)

    @app.task(name="charge", transaction=True)
    def charge(die: bool) -> None: ...

    job = charge.later(die)
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    env = {**os.environ, "PYTHONPATH": path, "STORE": store_url, "TABLE": table, "PIECEWORK_FAILPOINTS": failpoint}
    tree = Tree([sys.executable, "-m", "piecework", "work", "effectsapp:app"], env, tmp_path / "worker.log").ready()
    until(lambda: tree.deaths() == 1 and job.state.finished, tree.log)
    tree.signal(signal.SIGTERM)
    assert tree.ended() == 0, tree.log()
    assert job.state is State.COMPLETED
    assert numbers_in(store_url) == numbers
