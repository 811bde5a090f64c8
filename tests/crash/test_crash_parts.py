"""Whoever pushes parts, ends them, stops or resumes a job dies at each commit, before it and behind it, and is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashparts import ITEMS, PARTS_RACED

import piecework
from piecework import DistributedJob, Piecework
from piecework.testing.drain import drain

HERE = Path(__file__).parent
SOURCE = Path(piecework.__file__).parent.parent
PROCESSES = 8


@pytest.fixture
def app(store_url: str) -> Iterator[Piecework]:
    app = Piecework(store_url)
    app.store.migrate()

    @app.task(name="report")
    def report() -> str:
        return str(app.distributed_job("t").record().state)

    yield app
    app.close()


@pytest.fixture
def job(app: Piecework) -> DistributedJob:
    return app.distributed_job("t")


class Script:
    """Runs `crashparts.py` in processes of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.ledger = folder / "ledger"
        self._server: subprocess.Popen[str] | None = None

    def start(self, what: str, argument: str = "-", *points: str) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(HERE), str(SOURCE)])
        return subprocess.Popen(
            [sys.executable, str(HERE / "crashparts.py"), self.url, what, argument, *points],
            env={**os.environ, "PYTHONPATH": paths, "PIECEWORK_FAILPOINTS": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def dies(self, what: str, *points: str) -> bool:
        """Whether it died of a failpoint, in a fork of a process that serves; else it came to its end."""
        if self._server is None:
            self._server = self.start("serve")
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(" ".join([what, str(self.ledger), *points]) + "\n")
        self._server.stdin.flush()
        code = self._server.stdout.readline()
        assert code.strip() in ("0", str(-int(signal.SIGKILL))), self.stop()
        return code.strip() != "0"

    def stop(self) -> str:
        """Ends the process that serves, and returns what it complained of."""
        server, self._server = self._server, None
        return "" if server is None else server.communicate(timeout=60)[1]

    def lines(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


@pytest.fixture
def script(store_url: str, tmp_path: Path) -> Iterator[Script]:
    script = Script(store_url, tmp_path)
    yield script
    assert "Traceback" not in script.stop()


def deaths(script: Script, what: str, every: int = 1) -> int:
    """Runs it again and again, each time dying a commit later, until it comes to its end; how often it died."""
    died = 0
    for passage in range(1, 100, every):
        for point in ("before", "after"):
            if not script.dies(what, f"store.{point}_commit=kill:{passage}"):
                return died
            died += 1
    raise AssertionError(f"{what} never came to its end")


def test_a_producer_that_dies_at_every_commit_counts_each_part_once(script: Script, job: DistributedJob) -> None:
    assert deaths(script, "push") > 8
    assert (job.total, job.count, job.closed, job.record().complete) == (ITEMS, ITEMS, True, True)
    assert set(script.lines()) == {str(n) for n in range(ITEMS)}
    assert list(job.open_parts()) == [str(n) for n in range(ITEMS)]


def test_a_producer_that_dies_before_its_first_part_has_left_a_trace(script: Script, job: DistributedJob) -> None:
    assert script.dies("push", "store.after_commit=kill:1")
    record = job.record()
    assert (record.state, record.total, record.complete, record.push_error) == ("open", 0, False, None)
    assert script.lines() == []
    assert not script.dies("push")
    assert (job.total, job.closed) == (ITEMS, True)


def test_workers_that_die_at_every_commit_finish_the_job_and_what_follows_runs_once(
    script: Script, job: DistributedJob, app: Piecework
) -> None:
    assert not script.dies("push")
    assert deaths(script, "work", every=2) > 3
    assert (job.finished, job.count, job.total) == (True, 0, ITEMS)
    assert sum(line.endswith("True") for line in script.lines()) <= 1  # who died behind its commit told nobody
    drain(app)
    assert job.then_id is not None
    assert app.jobs.get(job.then_id).result(timeout=1) == "finished"
    assert app.jobs.where().count() == 1


@pytest.mark.parametrize(("point", "is_recorded"), [("before", False), ("after", True)])
def test_the_last_worker_dies_around_the_commit_of_its_part(
    script: Script, job: DistributedJob, app: Piecework, point: str, is_recorded: bool
) -> None:
    assert not script.dies("push")
    job.done_many(range(ITEMS - 1))
    assert script.dies("work", f"store.{point}_commit=kill:1")
    assert (job.finished, job.then_id is not None) == (is_recorded, is_recorded)
    again = job.done(ITEMS - 1)  # its queue gives the part to another
    assert (bool(again), again.last, again.finished) == (not is_recorded, True, True)
    drain(app)
    assert job.then_id is not None
    assert app.jobs.get(job.then_id).result(timeout=1) == "finished"
    assert app.jobs.where().count() == 1


def test_who_stops_or_resumes_dies_around_the_commit(script: Script, job: DistributedJob, app: Piecework) -> None:
    assert not script.dies("push")
    job.done_many(range(ITEMS))
    again = app.distributed_job("t")
    assert again.finished
    again.forget()
    assert not script.dies("push")
    for verb, stopped in (("stop", True), ("resume", False)):
        assert script.dies(verb, "store.before_commit=kill:1")
        assert job.stopped is not stopped
        assert script.dies(verb, "store.after_commit=kill:1")
        assert job.stopped is stopped
        assert not script.dies(verb)
        assert job.stopped is stopped
    assert app.jobs.where(task="report").count() == 2  # that of the one that was finished, and that of the stop


def test_of_eight_processes_that_end_the_same_parts_one_is_told_that_it_finished_the_job(
    script: Script, job: DistributedJob, app: Piecework
) -> None:
    begun = app.distributed_job("t", then=app._tasks["report"].piece())
    begun.push_all(range(PARTS_RACED))
    processes = [script.start("race", str(seed)) for seed in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, said
    assert sum(int(out) for out, _ in said) == 1
    assert (job.finished, job.count) == (True, 0)
    assert app.jobs.where().count() == 1
