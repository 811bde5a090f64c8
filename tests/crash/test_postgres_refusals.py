"""The server is there and refuses: read-only, out of time, room, memory or connections, or after two got into each other's way.

What the server says is real: it is said to a role of the worker's own, or by a trigger that raises with that very code.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from awayapp import declare
from outage import AWAY, BACK, listening
from tests.servers import Postgres
from tests.support import books, until

from piecework import Piecework
from piecework.errors import StoreUnavailable
from piecework.job import Answer
from piecework.testing.conformance.kit import a_claim, a_job, a_session, assert_sound, completed, fetch

_names = itertools.count(1)

# Raises as long as a line says so; or for as many times as a sequence, which no rollback takes back, has left.
HINDERED = """
CREATE TABLE {s}.hindrance (code text);
CREATE SEQUENCE {s}.hits;
CREATE FUNCTION {s}.hinder() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
    SELECT code INTO said FROM {s}.hindrance;
    IF said IS NOT NULL AND (TG_ARGV[0] IS NULL OR nextval('{s}.hits') <= TG_ARGV[0]::int) THEN
        RAISE EXCEPTION 'hindered' USING ERRCODE = said;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hinder BEFORE UPDATE OF state ON {s}.piecework_job FOR EACH STATEMENT EXECUTE FUNCTION {s}.hinder({times});
"""


class Place(NamedTuple):
    """A schema of one role's own, and a connection of the server's administrator."""

    role: str
    url: str  # as that role
    watched: str  # as the administrator
    admin: psycopg.Connection[Any]

    def order(self, statement: str) -> None:
        self.admin.execute(statement.format(s=self.role, role=self.role).encode())

    def cut(self) -> None:
        """Ends every connection of the role: what was decided about it holds for those that come."""
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (self.role,))


@pytest.fixture
def place(postgres: Postgres) -> Iterator[Place]:
    role = f"refused_{next(_names)}"
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN; CREATE SCHEMA {role} AUTHORIZATION {role}".encode())
        url = f"{postgres.url.replace('postgres@', f'{role}@')}?schema={role}"
        yield Place(role, url, f"{postgres.url}?schema={role}", admin)


@pytest.fixture
def app(place: Place) -> Iterator[Piecework]:
    app = Piecework(place.url, lease=2.0)
    app.store.migrate()
    place.order("GRANT USAGE ON SCHEMA {s} TO {role}")
    yield app
    app.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def begun(gate: Path) -> int:
    file = gate.with_name("gate.begun")
    return len(file.read_text().splitlines()) if file.exists() else 0


# ── what is refused for a while ──────────────────────────────────────────────────────────────────


@contextmanager
def setting(place: Place, name: str, value: str) -> Iterator[None]:
    """A setting of the role, in every session from now on; afterwards only those that come have it no more."""
    place.order(f"ALTER ROLE {{role}} SET {name} = {value}")
    place.cut()
    yield
    place.order(f"ALTER ROLE {{role}} RESET {name}")


def read_only(place: Place) -> Any:
    return setting(place, "default_transaction_read_only", "on")


@contextmanager
def no_connection_left(place: Place) -> Iterator[None]:
    place.order("ALTER ROLE {role} CONNECTION LIMIT 0")
    place.cut()
    yield
    place.order("ALTER ROLE {role} CONNECTION LIMIT -1")


@contextmanager
def no_login(place: Place) -> Iterator[None]:
    place.order("ALTER ROLE {role} NOLOGIN")
    place.cut()
    yield
    place.order("ALTER ROLE {role} LOGIN")


def raising(code: str) -> Callable[[Place], Any]:
    @contextmanager
    def hindered(place: Place) -> Iterator[None]:
        place.order("INSERT INTO {s}.hindrance VALUES ('" + code + "')")
        yield
        place.order("DELETE FROM {s}.hindrance")

    hindered.__name__ = code
    return hindered


WHILES = [
    read_only,
    no_connection_left,
    no_login,
    raising("25006"),  # read-only, as a standby says it in the middle of a session
    raising("40001"),  # a serialization failure, each time
    raising("40P01"),  # a deadlock, each time
    raising("53100"),  # no room on the disk
    raising("53200"),  # no memory
    raising("55P03"),  # a lock that is not to be had
    raising("57014"),  # cancelled, or out of time
    raising("58030"),  # the file system fails
]


@pytest.mark.parametrize("hindrance", WHILES, ids=lambda hindrance: hindrance.__name__)
def test_what_is_refused_for_a_while_is_done_afterwards(
    app: Piecework, place: Place, gate: Path, hindrance: Callable[[Place], Any]
) -> None:
    """One job runs and ends meanwhile, and one more becomes due."""
    place.order(HINDERED.replace("{times}", ""))
    place.order("GRANT ALL ON ALL TABLES IN SCHEMA {s} TO {role}")
    tasks = declare(app)
    watcher = Piecework(place.watched)
    with listening() as said, app.worker(concurrency=1):
        held = tasks.held.later(str(gate))
        waits = tasks.double.later(4)
        until(lambda: begun(gate), "it runs")
        (session,) = watcher.store.sessions()
        with hindrance(place):
            gate.write_text("once")
            until(lambda: said.times(AWAY), lambda: f"the worker has met it: {said.lines}")
            assert watcher.jobs.get(held.id).state == "running"
        assert watcher.jobs.get(held.id).result(timeout=20) == "once"
        assert watcher.jobs.get(waits.id).result(timeout=20) == 8
        until(lambda: said.times(BACK), "it is told")
        beat = watcher.store.sessions()[0].beat
        until(lambda: watcher.store.sessions()[0].beat > beat, "it goes on beating")
        assert [s.id for s in watcher.store.sessions()] == [session.id]
    assert (begun(gate), held.record().run, held.attempts(), waits.record().run) == (1, 1, [], 1)
    assert (said.times(AWAY), said.times(BACK)) == (1, 1), said.lines
    assert books(place.watched) == []
    watcher.close()


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_collision_or_two_are_nobodys_business(app: Piecework, place: Place, code: str) -> None:
    """The transaction is begun anew; neither the caller nor the log hears of it."""
    place.order(HINDERED.replace("{times}", "3"))
    place.order("GRANT ALL ON ALL TABLES IN SCHEMA {s} TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA {s} TO {role}")
    double = declare(app).double
    with listening() as said, raising(code)(place), app.worker(concurrency=2):
        job = double.later(4)
        assert job.result(timeout=20) == 8
    (hits,) = place.admin.execute(f"SELECT last_value FROM {place.role}.hits".encode()).fetchone() or (0,)
    assert hits > 3
    assert said.times(AWAY) == 0
    assert job.record().run == 1
    assert books(place.watched) == []


def test_a_connection_on_which_transactions_failed_works_at_once_afterwards(app: Piecework, place: Place) -> None:
    """The driver prepares a statement the fifth time: one that was skipped, behind one that failed, is not there."""
    place.order(HINDERED.replace("{times}", ""))
    place.order("GRANT ALL ON ALL TABLES IN SCHEMA {s} TO {role}")
    store = app.store
    store.enlist(a_session("w"))
    store.add([a_job("j1"), a_job("j2", queue="other")])
    (run,) = fetch(store, queue="default")
    with raising("53100")(place):
        for _ in range(8):
            with pytest.raises(StoreUnavailable, match="disk"):
                store.exchange([completed(run)], a_claim())
    answers, jobs = store.exchange([completed(run)], a_claim())
    assert (answers, [job.id for job in jobs]) == ([Answer.OK], ["j2"])
    assert_sound(store)


# ── real knots ───────────────────────────────────────────────────────────────────────────────────


def test_the_victim_of_a_deadlock_begins_anew(app: Piecework, place: Place) -> None:
    """Somebody locks two jobs, the later one first, while both are settled: the server ends the settlement's turn."""
    place.order("ALTER ROLE {role} SET deadlock_timeout = '2s'")
    place.cut()
    store = app.store
    store.enlist(a_session("w"))
    store.add([a_job("j1"), a_job("j2")])
    ends = [completed(run) for run in fetch(store, 2)]
    answers: list[Any] = []
    settles = threading.Thread(target=lambda: answers.extend(store.settle(ends)))
    asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
    lock = f"SELECT 1 FROM {place.role}.piecework_job WHERE id = %s FOR UPDATE".encode()
    before = deadlocks(place)
    with psycopg.connect(place.watched.partition("?")[0]) as other:
        other.execute("SET deadlock_timeout = '20s'")
        other.execute(lock, ("j2",))
        settles.start()
        until(lambda: place.admin.execute(asked, (place.role,)).fetchone() != (0,), "it has the first, and waits")
        other.execute(lock, ("j1",))  # is had once the server has ended the settlement's transaction
        other.rollback()
    settles.join(20)
    assert answers == [Answer.OK, Answer.OK]
    until(lambda: deadlocks(place) > before, "it was a deadlock")
    assert_sound(store)


def deadlocks(place: Place) -> int:
    place.admin.execute("SELECT pg_stat_clear_snapshot()")
    row = place.admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def test_a_stricter_default_isolation_does_not_matter(app: Piecework, place: Place) -> None:
    """The pieces of one batch, ended by four workers at once: each transaction is one that sees what others wrote."""
    place.order("ALTER ROLE {role} SET default_transaction_isolation = serializable")
    place.cut()

    @app.task(name="leaf")
    def leaf(n: int) -> int:
        return n

    @app.split(name="sum")
    def summed(n: int) -> Any:
        for k in range(n):
            yield leaf.piece(k)

    @summed.compose
    def total(pieces: Any, n: int) -> int:
        return sum(pieces.results())

    others = [Piecework(place.url) for _ in range(3)]
    for other in others:
        other.registry = app.registry
    with listening() as said, app.worker(concurrency=2), others[0].worker(), others[1].worker(), others[2].worker():
        jobs = [summed.later(n) for n in (40, 60, 80)]
        assert [job.result(timeout=30) for job in jobs] == [780, 1770, 3160]
    assert said.times(AWAY) == 0, said.lines
    assert books(place.watched) == []
    for other in others:
        other.close()


# ── too much for the time that is given ──────────────────────────────────────────────────────────

SLOW = """
CREATE FUNCTION {s}.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.002);
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE UPDATE OF state ON {s}.piecework_job FOR EACH ROW EXECUTE FUNCTION {s}.slow();
ALTER ROLE {role} SET statement_timeout = '150ms';
"""


def test_what_is_too_much_for_one_statement_is_sent_in_smaller_portions(app: Piecework, place: Place) -> None:
    """400 ends at 2 ms take longer than the server allows: sent as they are, they would be sent for ever."""
    go = threading.Event()
    runs: list[int] = []

    @app.task(name="many", retry=0)
    def many(n: int) -> int:
        runs.append(n)
        go.wait(30)
        return n

    jobs = many.later_many([(n,) for n in range(400)])
    with listening() as said, app.worker(concurrency=400):
        until(lambda: len(runs) == 400, "all run")
        begun = [job.record().run for job in jobs[::40]]  # a busy machine's worker may have handed some back unbegun
        place.order(SLOW)
        place.cut()
        go.set()
        until(lambda: app.jobs.where(state="completed").count() == 400, lambda: str(app.jobs.counts()), within=30)
        place.order("ALTER ROLE {role} RESET statement_timeout")
    assert len(runs) == 400
    assert [job.record().run for job in jobs[::40]] == begun
    assert said.times(AWAY) <= 2, said.lines
    assert books(place.watched) == []


# ── connections that end all the time ────────────────────────────────────────────────────────────


def test_connections_that_are_terminated_again_and_again_cost_no_job(app: Piecework, place: Place) -> None:
    runs: list[int] = []

    @app.task(name="counted", retry=0)
    def counted(n: int) -> int:
        runs.append(n)
        return n

    over = threading.Event()

    def terminate() -> None:
        with psycopg.connect(place.watched.partition("?")[0], autocommit=True) as con:
            while not over.wait(0.1):
                con.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (place.role,))

    watcher = Piecework(place.watched)
    terminator = threading.Thread(target=terminate)
    with listening() as said, app.worker(concurrency=4):
        terminator.start()
        try:
            for n in range(60):
                _patiently(counted, n)
            until(lambda: watcher.jobs.where(state="completed").count() == 60, lambda: str(said.lines[-5:]), within=40)
        finally:
            over.set()
            terminator.join()
    assert sorted(runs) == list(range(60))
    assert said.times(AWAY) <= 2, "a server that comes and goes does not fill the log"
    assert books(place.watched) == []
    watcher.close()


def _patiently(task: Any, n: int) -> Any:
    """Enqueues until the store takes it; the key makes it one job."""
    end = time.monotonic() + 20
    while True:
        try:
            return task.using(key=f"n {n}").later(n)
        except StoreUnavailable:
            assert time.monotonic() < end
