"""S0-10: a job lives and dies with the transaction that created it, and outlives the process that did."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework import Piece, Pieces, Piecework
from piecework.errors import Duplicate, JobNotFound, NotSerializable, WithinNotSupported
from piecework.job import State
from piecework.testing.drain import drain


@pytest.fixture
def connection(app: Piecework, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A user's own connection to the store's file, with a table of the user's own."""
    app.store.migrate()
    connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    connection.execute("CREATE TABLE export (id INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


def exports(app: Piecework) -> Any:
    @app.task
    def leaf(n: int) -> int:
        return n

    @app.split
    def export(id: int) -> Iterator[Piece[int]]:
        yield leaf.piece(id)
        yield leaf.piece(id + 1)

    @export.compose
    def add_up(pieces: Pieces[int], id: int) -> int:
        return sum(pieces.results())

    return export


def rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM export").fetchone()[0])


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_commit_keeps_the_row_and_the_job(app: Piecework, connection: sqlite3.Connection) -> None:
    export = exports(app)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO export VALUES (1)")
    job = export.using(within=connection).later(1)
    connection.execute("COMMIT")
    drain(app)
    assert rows(connection) == 1
    assert job.result(timeout=0) == 3


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_the_id_is_known_at_once_and_the_job_is_invisible_before_the_commit(
    app: Piecework, connection: sqlite3.Connection
) -> None:
    connection.execute("BEGIN")
    job = exports(app).using(within=connection).later(1)
    assert len(job.id) == 36
    with pytest.raises(JobNotFound, match=job.id):
        app.jobs.get(job.id)
    assert app.jobs.counts() == {}
    connection.execute("COMMIT")
    assert app.jobs.get(job.id).state is State.AVAILABLE


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_rollback_leaves_no_row_and_no_job(app: Piecework, connection: sqlite3.Connection) -> None:
    export = exports(app)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO export VALUES (1)")
    job = export.using(within=connection, key="export:1").later(1)
    connection.execute("ROLLBACK")
    assert drain(app) == 0
    assert rows(connection) == 0
    assert not any(app.jobs.counts().values())
    with pytest.raises(JobNotFound):
        job.record()
    assert export.using(key="export:1").later(1).id != job.id  # nor is the unique key taken


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_rolled_back_savepoint_takes_its_own_jobs_only(app: Piecework, connection: sqlite3.Connection) -> None:
    export = exports(app)
    connection.execute("BEGIN")
    kept = export.using(within=connection).later(1)
    connection.execute("SAVEPOINT mine")
    lost = export.using(within=connection).later(2)
    connection.execute("ROLLBACK TO mine")
    connection.execute("RELEASE mine")
    also_kept = export.using(within=connection).later(3)
    connection.execute("COMMIT")
    drain(app)
    assert (kept.result(timeout=0), also_kept.result(timeout=0)) == (3, 7)
    with pytest.raises(JobNotFound):
        lost.record()


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_an_exception_in_a_with_block_of_the_connection_takes_the_job_along(
    app: Piecework, connection: sqlite3.Connection
) -> None:
    connection.isolation_level = "DEFERRED"

    def export_and_fail() -> None:
        with connection:
            connection.execute("INSERT INTO export VALUES (1)")
            exports(app).using(within=connection).later(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export_and_fail()
    assert rows(connection) == 0
    assert drain(app) == 0


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_many_jobs_live_and_die_with_one_transaction(app: Piecework, connection: sqlite3.Connection) -> None:
    export = exports(app)
    connection.execute("BEGIN")
    export.using(within=connection).later_many([(n,) for n in range(100)])
    connection.execute("ROLLBACK")
    assert drain(app) == 0
    connection.execute("BEGIN")
    jobs = export.using(within=connection).later_many([(n,) for n in range(3)])
    connection.execute("COMMIT")
    drain(app)
    assert [job.result(timeout=0) for job in jobs] == [1, 3, 5]


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_call_that_is_refused_leaves_the_transaction_as_it_was(
    app: Piecework, connection: sqlite3.Connection
) -> None:
    export = exports(app)
    export.using(key="k").later(1)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO export VALUES (1)")
    with pytest.raises(Duplicate):
        export.using(within=connection, key="k", on_duplicate="raise").later(1)
    with pytest.raises(NotSerializable):
        exports_of_anything(app).using(within=connection).later(float("nan"))
    assert connection.in_transaction
    connection.execute("COMMIT")
    assert rows(connection) == 1
    assert app.jobs.where(state="available").count() == 1


def exports_of_anything(app: Piecework) -> Any:
    @app.task
    def anything(value: Any) -> None: ...

    return anything


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_connection_to_another_file_is_refused(app: Piecework, tmp_path: Path) -> None:
    export = exports(app)
    other = sqlite3.connect(tmp_path / "other.db")
    with pytest.raises(WithinNotSupported, match=r"jobs\.db.*other\.db"):
        export.using(within=other).later(1)
    with pytest.raises(WithinNotSupported, match="memory"):
        export.using(within=sqlite3.connect(":memory:")).later(1)
    with pytest.raises(WithinNotSupported, match="str"):
        export.using(within="jobs.db").later(1)
    assert drain(app) == 0


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────

ENQUEUE = """
import os, signal, sys
from piecework import Piecework
app = Piecework(sys.argv[1])
@app.task(name="job")
def job(n: int) -> int: ...
print(job.later(7).id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def enqueue_and_die(app: Piecework, failpoint: str = "") -> str:
    """Enqueues a job in a process that is killed; what it said before."""
    app.store.migrate()
    done = subprocess.run(
        [sys.executable, "-c", ENQUEUE, app.settings.url],
        env={"PIECEWORK_FAILPOINTS": failpoint, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


def seven(app: Piecework) -> list[int]:
    ran: list[int] = []

    @app.task(name="job")
    def job(n: int) -> int:
        ran.append(n)
        return n

    return ran


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_job_runs_although_its_caller_was_killed_right_after_the_call(app: Piecework) -> None:
    id = enqueue_and_die(app)
    ran = seven(app)
    drain(app)
    assert ran == [7]
    assert app.jobs.get(id).result(timeout=0) == 7


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_job_runs_although_its_caller_was_killed_right_after_the_commit(app: Piecework) -> None:
    assert enqueue_and_die(app, "store.after_commit=kill:1") == ""
    ran = seven(app)
    drain(app)
    assert ran == [7]


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_10_a_caller_that_was_killed_before_the_commit_leaves_nothing(app: Piecework) -> None:
    assert enqueue_and_die(app, "store.before_commit=kill:1") == ""
    ran = seven(app)
    assert drain(app) == 0
    assert ran == []
