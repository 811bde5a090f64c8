"""The supervisor inside the test's own process, with worker processes that are a few lines each."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as driver
from support import books, until
from tests.redis_servers import Redis
from tests.servers import Postgres

from piecework import Piecework
from piecework.clock import SystemClock
from piecework.engine.slate import Slate
from piecework.engine.supervisor import Supervisor
from piecework.errors import StoreUnavailable
from piecework.job import SessionRecord
from piecework.store import open_store


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here is the supervisor's own, whatever the store


CHILD = """
import json, os, socket, struct, sys, time
from pathlib import Path
folder, url = sys.argv[1], sys.argv[2]
def option(name): return sys.argv[sys.argv.index(name) + 1]
control = socket.socket(fileno=int(option("--fd")))
lines = control.makefile("r")
for life in range(1000):
    try:
        open(os.path.join(folder, str(life)), "x").close()
        break
    except FileExistsError:
        pass
def hello():
    control.sendall(json.dumps({"url": url, "lease": 20.0, "keep_completed": None, "tasks": 0}).encode() + b"\\n")
    return json.loads(lines.readline())
def take_all(name):
    from tests.support import opened
    with opened(Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else url) as con:
        con.execute("UPDATE piecework_job SET state = 'running', run = 1, worker = ?, claim = 1", (name,))
        con.execute("UPDATE piecework_tally SET state = 'running'")
def slate(id, until=0.0):
    os.pwrite(int(option("--slate")), id.encode().ljust(48, b"\\0") + struct.pack(">dQ", until, 1), 0)
"""

BYE = """
control.sendall(b'"bye"\\n')
"""


@pytest.fixture
def lives(tmp_path: Path) -> Path:
    """A folder with one file for each process that was started."""
    folder = tmp_path / "lives"
    folder.mkdir()
    return folder


def supervisor(app: Piecework, lives: Path, body: str, *, processes: int = 1, burst: bool = True) -> Supervisor:
    command = [sys.executable, "-c", CHILD + body + BYE, str(lives), app.settings.url]
    return Supervisor(
        command, open_store, SystemClock(), processes=processes, concurrency=1, name="test", burst=burst, shutdown_timeout=0.5
    )  # fmt: skip


def started(lives: Path) -> int:
    return len(list(lives.iterdir()))


@pytest.mark.parametrize("body", ["sys.exit(0)", "sys.exit(1)", "sys.exit(3)", "os.abort()"])
def test_processes_that_cannot_begin_are_not_started_again(app: Piecework, lives: Path, body: str) -> None:
    assert supervisor(app, lives, body, burst=False).run() == 1
    assert started(lives) == 1
    assert app.store.sessions() == []


def test_a_burst_ends_when_every_process_has(app: Piecework, lives: Path) -> None:
    assert supervisor(app, lives, "hello()", processes=3).run() == 0
    assert started(lives) == 3
    assert app.store.sessions() == []


@pytest.mark.parametrize("death", ["sys.exit(7)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_a_process_that_dies_is_replaced_and_gets_a_new_name(app: Piecework, lives: Path, death: str) -> None:
    body = f"name = hello()['worker']; open(os.path.join(folder, '..', f'name {{life}}'), 'w').write(name)\nif life < 3: {death}"
    assert supervisor(app, lives, body).run() == 0
    names = [(lives.parent / f"name {life}").read_text() for life in range(4)]
    assert [name.rpartition(".")[2] for name in names] == ["1", "2", "3", "4"]
    assert len({name.rpartition(".")[0] for name in names}) == 1


def test_who_says_hello_between_two_sessions_gets_a_place_in_the_one_that_the_store_took(
    app: Piecework, lives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name in a session that nobody beats for would be vouched for by the beats of another one."""
    taken: list[str] = []
    vouched: list[str] = []

    class Troubled:
        def __init__(self, url: str) -> None:
            self._store = open_store(url)

        def __getattr__(self, verb: str) -> Any:
            return getattr(self._store, verb)

        def enlist(self, session: SessionRecord) -> None:
            self._store.enlist(session)
            if taken and not made._greeting:  # the second one is answered once somebody waits for it
                raise StoreUnavailable("the answer was lost")
            taken.append(session.id)

        def renew(self, session: str, **how: Any) -> bool:
            vouched.append(session)
            return len(taken) > 1 and self._store.renew(session, **how)

    body = "name = hello()['worker']; open(os.path.join(folder, '..', f'name {life}'), 'w').write(name)\nif life == 0: time.sleep(60)"
    made = supervisor(app, lives, body)
    monkeypatch.setattr(made, "_open_store", Troubled)
    assert made.run() == 0
    names = [(lives.parent / f"name {life}").read_text() for life in range(2)]
    assert [name.rpartition(".")[0] for name in names] == taken
    assert set(vouched) <= set(taken)


def test_processes_that_die_one_after_the_other_are_replaced_more_and_more_slowly(app: Piecework, lives: Path) -> None:
    began = time.monotonic()
    assert supervisor(app, lives, "hello()\nif life < 7: sys.exit(1)").run() == 0
    assert started(lives) == 8
    assert time.monotonic() - began > 0.2 + 0.4  # the sixth and the seventh death


def test_only_the_job_on_the_slate_is_charged_with_a_crash(app: Piecework, lives: Path, path: Path) -> None:
    @app.task(name="t")
    def work() -> None:
        pass

    on, off = work.later(), work.later()
    body = f"""
said = hello()
if life == 0:
    take_all(said["worker"])
    slate({on.id!r})
    os.kill(os.getpid(), 9)
"""
    assert supervisor(app, lives, body).run() == 0
    assert [(job.state, job.record().crashes, job.record().attempt) for job in (on, off)] == [
        ("available", 1, 0),
        ("available", 0, 0),
    ]
    assert [[line.outcome for line in job.attempts()] for job in (on, off)] == [["crashed"], ["released"]]
    assert books(path) == []


def test_a_job_that_holds_its_process_is_named_to_the_other_workers_and_to_the_one_that_follows(
    app: Piecework, lives: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.engine.warden.HELD_SECONDS", 0.2)
    monkeypatch.setattr("piecework.engine.warden.LOOK_SECONDS", 0.02)

    @app.task(name="job")
    def job() -> None: ...

    held, beside = job.later(), job.later()
    body = f"""
place = os.path.join(folder, "..")
said = hello()
if life == 0:
    while not os.path.exists(os.path.join(place, "welcome 1")):
        time.sleep(0.01)
    take_all(said["worker"])
    slate({held.id!r}, until=time.monotonic())
    time.sleep(60)
open(os.path.join(place, f"welcome {{life}}"), "w").write(json.dumps(said["alone"]))
while life == 1:
    said = json.loads(lines.readline())
    if "alone" in said:
        open(os.path.join(place, "news"), "w").write(json.dumps(said["alone"]))
        break
"""
    assert supervisor(app, lives, body, processes=2).run() == 0
    told = {file.name: json.loads(file.read_text()) for pattern in ("welcome *", "news") for file in lives.parent.glob(pattern)}  # fmt: skip
    assert told == {"welcome 1": [], "news": [held.id], "welcome 2": [held.id]}
    assert [(each.state, each.record().crashes) for each in (held, beside)] == [("available", 1), ("available", 0)]
    assert books(path) == []


def test_a_process_that_does_not_heed_the_stop_is_killed_and_the_supervisor_leaves_in_time(
    app: Piecework, lives: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = supervisor(app, lives, "hello(); signal = __import__('signal'); signal.signal(15, signal.SIG_IGN); time.sleep(60)", processes=2, burst=False)  # fmt: skip
    caplog.set_level(logging.INFO, "piecework")

    def ask() -> None:
        try:
            until(lambda: started(lives) == 2 and app.store.sessions(), "both have begun")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # else the supervisor would run for ever

    asking = threading.Thread(target=ask)
    asking.start()
    began = time.monotonic()
    assert deaf.run() == 0
    assert time.monotonic() - began < 8.0  # half a second to finish, two to stop
    asking.join()
    assert app.store.sessions() == []


def test_the_signal_handlers_of_the_caller_are_back_afterwards(app: Piecework, lives: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    supervisor(app, lives, "hello()").run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_an_unexpected_error_of_the_supervisor_ends_every_process(
    app: Piecework, lives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = supervisor(app, lives, "open(os.path.join(folder, '..', f'pid {life}'), 'w').write(str(os.getpid())); hello(); time.sleep(60)", processes=4, burst=False)  # fmt: skip

    def breaks() -> None:
        if started(lives) == 4 and app.store.sessions() and len(list(lives.parent.glob("pid *"))) == 4:
            raise ZeroDivisionError

    monkeypatch.setattr(keeper, "_press", breaks)
    with pytest.raises(ZeroDivisionError):
        keeper.run()
    pids = [int(file.read_text()) for file in lives.parent.glob("pid *")]
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    assert app.store.sessions() == []


def test_a_slate_is_gone_from_the_disk_with_its_process(app: Piecework, lives: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert supervisor(app, lives, "hello()\nif life < 2: os.kill(os.getpid(), 9)").run() == 0
    assert list(tmp_path.glob("piecework-*")) == []


def test_a_slate_says_what_stands_on_it() -> None:
    slate = Slate.create(4)
    assert slate.read() == []
    slate.write(0, "a" * 36)
    slate.write(3, "b" * 36)
    slate.pulse.turn()
    other = Slate(slate.handle, 4)
    assert other.read() == ["a" * 36, "b" * 36]
    assert (other.pulse.turned_ago() is not None, other.pulse.polled_ago()) == (True, None)
    slate.write(0, "c")
    slate.clear(3)
    assert other.read() == ["c"]
    slate.close()


# ── a store that refuses everybody ───────────────────────────────────────────────────────────────

STAYS = "hello()\nwhile not os.path.exists(os.path.join(folder, '..', 'end')): time.sleep(0.02)"
REFUSED, AGAIN = "the store is not available, trying again until it is", "the store is available again after"


def live_through(
    app: Piecework, url: str, lives: Path, said: pytest.LogCaptureFixture, order: Callable[[bool], None]
) -> int:
    """A supervisor's exit code, where its server refuses it in the midst of its life and then does not any more."""
    made = supervisor(app, lives, STAYS)
    made._command = [
        part.replace('"lease": 20.0', '"lease": 1.0') if part.startswith(CHILD) else part for part in made._command
    ]
    made._command[-1] = url

    def rotate() -> None:
        until(lambda: made._session is not None and made._session.beaten_at > began + 0.1)
        order(False)
        until(lambda: said.text.count(REFUSED) == 1)
        until(lambda: made._session is not None and made._session._trouble.tries >= 3)
        order(True)
        until(lambda: AGAIN in said.text)
        (lives.parent / "end").touch()

    began = time.monotonic()
    said.set_level(logging.INFO, "piecework.supervisor")
    other = threading.Thread(target=rotate)
    other.start()
    code = made.run()
    other.join()
    assert said.text.count(REFUSED) == 1
    assert started(lives) == 1
    return code


def test_a_password_of_redis_that_is_changed_does_not_end_the_supervisor(
    app: Piecework, lives: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Redis(requirepass="old").start()

    def order(let_in: bool) -> None:
        with driver.Redis(port=server.port, password="new" if let_in else "old") as con:
            con.config_set("requirepass", "old" if let_in else "new")
            con.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    try:
        assert live_through(app, f"redis://:old@127.0.0.1:{server.port}", lives, caplog, order) == 0
        assert "wants a user and password that it knows" in caplog.text
    finally:
        server.stop()


def test_a_role_of_postgres_that_is_refused_for_a_while_does_not_end_the_supervisor(
    app: Piecework, lives: Path, caplog: pytest.LogCaptureFixture, postgres: Postgres
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE rotated LOGIN; CREATE SCHEMA rotated AUTHORIZATION rotated")
        url = f"{postgres.url.replace('postgres@', 'rotated@')}?schema=rotated"

        def order(let_in: bool) -> None:
            admin.execute(f"ALTER ROLE rotated {'LOGIN' if let_in else 'NOLOGIN'}".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")

        assert live_through(app, url, lives, caplog, order) == 0
        assert "not permitted to log in" in caplog.text


@pytest.mark.parametrize("shelf", ["redis", "postgres"])
def test_who_is_refused_at_the_very_start_ends_with_the_reason(
    app: Piecework, lives: Path, caplog: pytest.LogCaptureFixture, shelf: str, request: pytest.FixtureRequest
) -> None:
    made = supervisor(app, lives, STAYS, burst=False)
    if shelf == "postgres":
        made._command[-1] = request.getfixturevalue("postgres").url.replace("postgres@", "nobody@")
        assert made.run() == 1
        assert "does not let us in: " in caplog.text
        assert 'role "nobody" does not exist' in caplog.text
        return
    server = Redis(requirepass="secret").start()
    try:
        made._command[-1] = f"redis://:wrong@127.0.0.1:{server.port}"
        assert made.run() == 1
        assert "wants a user and password that it knows; put them into the URL" in caplog.text
    finally:
        server.stop()
