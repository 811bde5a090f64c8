"""`piecework work` as it is used: health over HTTP, restarts on edits, and starts that cannot work out."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import books, locked_file, until

from piecework import Piecework
from piecework.cli import probe
from piecework.cli.reloading import watch
from piecework.engine.child import WorkerPulse
from piecework.engine.slate import Pulse
from piecework.errors import UsageError
from piecework.job import State

Start = Callable[..., "Work"]

APP = """
import pathlib, threading, time
from piecework import Piecework

app = Piecework("sqlite:///jobs.db")


@app.task(name="word")
def word() -> str:
    return "WORD"


@app.task(name="hold", attempts=1)
def hold() -> str:
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return "held"
"""


class Work:
    """A `piecework work` that runs."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "piecework", "work", *arguments],
            cwd=folder,
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    @property
    def text(self) -> str:
        return "".join(self.said)

    def says(self, pattern: str, times: int = 1) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            matches = list(re.finditer(pattern, self.text))
            return matches[times - 1] if len(matches) >= times else None

        return until(found, lambda: f"{pattern!r} is said: {self.text}", within=30)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Piecework]:
    (tmp_path / "shop.py").write_text(APP)
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db")

    @app.task(name="word")
    def word() -> str:
        raise AssertionError

    @app.task(name="hold")
    def hold() -> str:
        raise AssertionError

    app.word, app.hold = word, hold  # type: ignore[attr-defined]
    yield app
    app.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Work] = []

    def start(*arguments: str) -> Work:
        started.append(Work(tmp_path, "shop:app", *arguments))
        return started[-1]

    yield start
    (tmp_path / "go").touch()
    for work in started:
        work.end()


def get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error) if "json" in error.headers["Content-Type"] else {}


# ── health ───────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_says_over_http_when_it_polled(shelf: Any, start: Start, tmp_path: Path) -> None:
    work = start("--health", "0", "-c", "1", "--name", "shop-1")
    url = work.says(r"health on (http://127\.0\.0\.1:\d+)/")[1]
    assert shelf.word.later().result(timeout=30) == "WORD"
    found = until(lambda: (answer := get(url))[0] == 200 and answer[1], "it is fine")
    assert found["status"] == "ok"
    assert 0 <= found["polled_seconds_ago"] < 15
    (worker,) = found["workers"]
    assert worker["worker"] == f"{found['session']}.1"
    os.kill(worker["pid"], 0)
    assert [get(url + path)[0] for path in ("/ready", "/live", "/?x=1", "/metrics")] == [200, 200, 200, 404]

    # A worker whose every thread is busy is not silent; one that stops is not ready, but lives.
    job = shelf.hold.later()
    until((tmp_path / "begun").exists, "the job runs")
    first = get(url)[1]["polled_seconds_ago"]
    until(lambda: get(url)[1]["polled_seconds_ago"] < first, "it polls while it is busy")
    work.process.send_signal(signal.SIGTERM)
    until(lambda: get(url)[1]["status"] == "stopping", "it stops")
    assert [get(url + path)[0] for path in ("/", "/ready", "/live")] == [503, 503, 200]
    (tmp_path / "go").touch()
    assert work.process.wait(30) == 0
    assert job.result(timeout=0) == "held"


def test_another_process_asks_after_the_worker(shelf: Any, start: Start, tmp_path: Path) -> None:
    start("--name", "shop-1").says("session")

    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "piecework", "health", "--store", f"sqlite:///{tmp_path}/jobs.db", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    done = until(lambda: (done := asked()).returncode == 0 and done, "it has polled")
    host = re.escape(socket.gethostname())
    assert re.fullmatch(rf"1 worker: shop-1 \(pid \d+ on {host}\) polled \d+\.\d seconds ago\n", done.stdout)
    assert asked("--name", "shop-2").returncode == 1


@pytest.mark.parametrize("address", ["x", "1:2:", ":80", "70000", "-1", "localhost:", "", "80.5"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        probe.parse_address(address)


def test_addresses() -> None:
    assert probe.parse_address("8080") == ("127.0.0.1", 8080)
    assert probe.parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert probe.parse_address("[::1]:80") == ("::1", 80)


def test_a_port_that_is_taken_is_told_at_once(shelf: Any, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        work = start("--health", str(taken.getsockname()[1]))
        assert work.process.wait(30) == 1
        work.says(r"piecework: --health: cannot listen on 127\.0\.0\.1:\d+: ")


class Supervised:
    """As much of a supervisor as a report reads."""

    def __init__(self, *pulses: WorkerPulse, stopping: bool = False) -> None:
        self.pulse, self.is_stopping, self.session, self._pulses = Pulse(), stopping, "s", list(pulses)

    def pulses(self) -> list[WorkerPulse]:
        return self._pulses


FINE, OTHER = WorkerPulse("s.1", 1, 100.0, 0.1, 0.4), WorkerPulse("s.2", 2, 100.0, 0.1, 0.9)


@pytest.mark.parametrize(
    ("pulses", "stopping", "status"),
    [
        ([FINE, OTHER], False, "ok"),
        ([], False, "starting"),
        ([WorkerPulse("s.1", 1, 2.0, None, None)], False, "starting"),
        ([FINE, WorkerPulse("s.2", 2, 2.0, None, None)], False, "ok"),
        ([FINE, WorkerPulse("s.2", 2, 16.0, None, None)], False, "silent"),
        ([FINE, OTHER._replace(polled_ago=15.1)], False, "silent"),
        ([FINE, OTHER._replace(polled_ago=14.9)], False, "ok"),
        ([FINE, OTHER._replace(turned_ago=61.0, polled_ago=61.0)], False, "hung"),
        ([FINE], True, "stopping"),
        ([FINE._replace(turned_ago=61.0)], True, "hung"),
    ],
)
def test_what_is_said_of_workers(pulses: list[WorkerPulse], stopping: bool, status: str) -> None:
    assert probe.report(Supervised(*pulses, stopping=stopping))["status"] == status  # type: ignore[arg-type]


def test_while_the_store_is_away_a_worker_is_not_ready_but_lives(
    shelf: Any, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would not bring the store back."""
    work = start("--health", "0")
    url = work.says(r"health on (http://127\.0\.0\.1:\d+)/")[1]
    until(lambda: get(url)[0] == 200, "it is fine")
    shelf.word.using(delay=2).later()  # due while nobody can take it
    with locked_file(tmp_path / "jobs.db"):
        until(lambda: get(url)[1]["status"] == "silent", "it cannot poll", within=40)
        assert [get(url + path)[0] for path in ("/", "/ready", "/live")] == [503, 503, 200]
    until(lambda: get(url)[0] == 200, "it is fine again")


# ── starts that cannot work out ──────────────────────────────────────────────────────────────────


def test_a_store_that_no_time_will_mend_ends_the_worker_with_an_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP.replace("sqlite:///jobs.db", "sqlite:///no/such/folder/jobs.db"))
    work = start()
    assert work.process.wait(30) == 1
    work.says("/no/such/folder does not exist; create it, or change the store's URL")


# ── reload ───────────────────────────────────────────────────────────────────────────────────────


def test_an_edit_is_seen_a_broken_one_is_waited_out(shelf: Any, start: Start, tmp_path: Path) -> None:
    work = start("--reload", "-c", "2")
    work.says("session")
    assert shelf.word.later().result(timeout=30) == "WORD"

    (tmp_path / "shop.py").write_text(APP.replace("WORD", "edited"))
    until(lambda: shelf.word.later().result(timeout=30) == "edited", "the new code runs", within=30)

    (tmp_path / "shop.py").write_text(APP + "\nthis is no Python\n")
    work.says("SyntaxError")
    work.says("waiting for a change")
    assert work.process.poll() is None
    job = shelf.word.later()

    (tmp_path / "shop.py").write_text(APP.replace("WORD", "mended"))
    assert job.result(timeout=30) == "mended"
    assert work.end() == 0
    assert books(tmp_path / "jobs.db") == []


def test_an_app_that_is_broken_from_the_start_may_be_mended(shelf: Any, start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("1 / 0\n")
    work = start("--reload")
    work.says("ZeroDivisionError")
    work.says("waiting for a change")
    (tmp_path / "shop.py").write_text(APP)
    assert shelf.word.later().result(timeout=30) == "WORD"
    assert work.end() == 0


def test_a_worker_that_waits_for_a_change_may_be_stopped(shelf: Any, start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("1 / 0\n")
    work = start("--reload")
    work.says("waiting for a change")
    work.process.send_signal(signal.SIGTERM)
    assert work.process.wait(30) == 0


def test_a_job_that_does_not_end_is_handed_back_unspent_on_an_edit(shelf: Any, start: Start, tmp_path: Path) -> None:
    work = start("--reload", "-c", "1")
    work.says("session")
    job = shelf.hold.later()
    until((tmp_path / "begun").exists, "it runs")
    (tmp_path / "shop.py").write_text(APP.replace('"held"', '"held by new code"'))
    until(lambda: job.record().run == 2, "it runs again", within=40)
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == "held by new code"
    record = job.record()
    assert (record.state, record.attempt, record.crashes) == (State.COMPLETED, 1, 0)
    assert [line.outcome for line in job.attempts()] == ["released"]


def test_what_is_not_the_users_code_is_not_watched(tmp_path: Path) -> None:
    mine, seen = tmp_path / "mine", threading.Event()
    for folder in ("pkg", ".git", "__pycache__", "env/lib", ".venv/lib"):
        (mine / folder).mkdir(parents=True)
    (mine / "env" / "pyvenv.cfg").touch()
    changes: list[None] = []

    def changed() -> None:
        changes.append(None)
        seen.set()

    watch([str(mine)], changed)
    numbers = iter(range(100_000))

    def touched() -> bool:  # the watch begins on a thread of its own
        (mine / "pkg" / "code.py").write_text(str(next(numbers)))
        return seen.wait(0.05)

    until(touched, "an edit is seen")
    until(lambda: not (seen.clear() or seen.wait(1.0)), "it is quiet")
    before = len(changes)
    for place in (".git/hook.py", "__pycache__/code.py", "env/lib/six.py", ".venv/lib/six.py", "notes.txt"):
        (mine / place).write_text("x")
    assert not seen.wait(1.0)
    assert len(changes) == before


def test_reload_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(UsageError, match=r"pip install 'piecework\[reload\]'"):
        watch(["."], lambda: None)


def test_a_folder_to_watch_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        watch([str(tmp_path), "nowhere"], lambda: None)
