"""Signals that ask to stop: what runs is finished, what does not run goes back unspent, and nothing hangs."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from crashkit import Yard, alive
from support import until

STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def held(yard: Yard, gate: Path, number: int) -> list[Any]:
    return [yard.app_module.hold.later(str(gate)) for _ in range(number)]


def running(yard: Yard, jobs: list[Any]) -> None:
    until(lambda: all(yard.started(job) for job in jobs), lambda: f"they run: {yard.logs()}")


def no_lease_is_left(yard: Yard) -> bool:
    return yard.app.store.sessions() == [] and yard.count(state="running") == 0


@pytest.mark.elsewhere(number={signal.SIGTERM})
@pytest.mark.parametrize("number", STOPS)
def test_one_signal_finishes_what_runs_and_hands_back_the_rest_unspent(yard: Yard, gate: Path, number: int) -> None:
    """Many short jobs make the worker fetch ahead; then two long ones have others behind them."""
    naps = yard.app_module.nap
    naps.later_many([(0.0,)] * 600)
    long = held(yard, gate, 2)
    behind = naps.later_many([(0.0,)] * 600)
    tree = yard.work("-c", "2")
    running(yard, long)
    tree.signal(number)
    until(lambda: yard.count(state="running") == 2, "what had been fetched ahead is handed back", within=5)
    assert tree.process.poll() is None
    # The worker stops: it settles what ends, and takes nothing any more, however urgent.
    assert behind[0].attempts()[-1].reason == "the worker is stopping"  # a slow one may have given it back before
    late = yard.app_module.square.using(priority=-9).later(3)
    gate.touch()
    assert tree.ended() == 0
    assert [job.state for job in long] == ["completed", "completed"]
    assert no_lease_is_left(yard)
    assert (late.state, late.record().run) == ("available", 0)
    records = [job.record() for job in behind]
    assert {(r.state, r.attempt, r.crashes) for r in records} == {("available", 0, 0)}
    assert {(line.outcome, line.attempt) for job in behind for line in job.attempts()} == {("released", 0)}
    assert not any(yard.started(job) for job in behind)
    # What was handed back is run by the next worker, and once.
    assert yard.work("-c", "2", "--burst").ended() == 0
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_job_longer_than_the_shutdown_timeout_goes_back_unspent(yard: Yard, gate: Path, processes: str) -> None:
    jobs = held(yard, gate, 2)
    tree = yard.work("-c", "1" if processes == "2" else "2", "--processes", processes, "--shutdown-timeout", "0.5")
    running(yard, jobs)
    began = time.monotonic()
    tree.signal(signal.SIGTERM)
    assert tree.ended() == 0
    assert 0.4 < time.monotonic() - began < 5.0
    for job in jobs:
        record = job.record()
        assert (record.state, record.attempt, record.crashes, record.run) == ("available", 0, 0, 1)
        assert [(line.outcome, line.attempt) for line in job.attempts()] == [("released", 0)]
    assert no_lease_is_left(yard)
    gate.touch()
    assert yard.work("--burst").ended() == 0
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("numbers", list(itertools.product(STOPS, repeat=2)))
def test_a_second_signal_stops_at_once(yard: Yard, numbers: tuple[int, int]) -> None:
    job = yard.app_module.stubborn.later(30.0)
    tree = yard.work("-c", "1")
    running(yard, [job])
    children = tree.children()
    tree.signal(numbers[0])
    until(lambda: "stopping: finishing what runs" in tree.log(), "the first signal was heard")
    began = time.monotonic()
    tree.signal(numbers[1])
    assert tree.ended() == 0
    assert time.monotonic() - began < 5.0
    assert not any(alive(pid) for pid in children)
    assert (job.state, job.record().attempt, job.record().crashes) == ("available", 0, 0)
    assert [line.outcome for line in job.attempts()] == ["released"]
    assert no_lease_is_left(yard)


@pytest.mark.elsewhere(shelf=())
def test_ctrl_c_reaches_the_whole_group_and_still_only_the_supervisor_decides(yard: Yard, gate: Path) -> None:
    jobs = held(yard, gate, 2)
    tree = yard.work("-c", "2")
    running(yard, jobs)
    tree.signal_all(signal.SIGINT)
    until(lambda: "stopping: finishing what runs" in tree.log(), "the signal was heard")
    gate.touch()
    assert tree.ended() == 0
    assert [job.state for job in jobs] == ["completed", "completed"]
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
def test_a_signal_to_one_worker_process_stops_it_in_good_order(yard: Yard, gate: Path) -> None:
    """What a process manager that signals every process of a group does."""
    jobs = held(yard, gate, 2)
    tree = yard.work("-c", "2")
    running(yard, jobs)
    tree.signal_all(signal.SIGTERM)
    until(lambda: "stopping: finishing what runs" in tree.log(), "the signal was heard")
    gate.touch()
    assert tree.ended() == 0
    assert [(job.state, job.record().run) for job in jobs] == [("completed", 1)] * 2
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
def test_five_signals_in_a_row_neither_hang_nor_lose(yard: Yard) -> None:
    yard.app_module.nap.later_many([(0.001,)] * 400)
    job = yard.app_module.stubborn.later(30.0)
    tree = yard.work("-c", "4", "--processes", "2")
    running(yard, [job])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        tree.signal(number)
    assert tree.ended(within=5.0) == 0
    assert no_lease_is_left(yard)
    job.cancel()
    assert yard.work("--burst").ended() == 0
    assert yard.wrong() == [f"stubborn {job.id} is lost: it is cancelled"]


@pytest.mark.elsewhere(shelf=())
def test_a_signal_during_the_start_ends_a_tree_that_never_worked(yard: Yard) -> None:
    """The worker process is still importing the app when the signal comes."""
    (yard.folder / "slowapp.py").write_text(
        "import time, pathlib\n"
        f"pathlib.Path({str(yard.folder / 'importing')!r}).touch()\n"
        f"while not pathlib.Path({str(yard.folder / 'import')!r}).exists(): time.sleep(0.005)\n"
        "from crashapp import app\n"
    )
    job = yard.app_module.square.later(2)
    tree = yard.work(app="slowapp:app")
    until((yard.folder / "importing").exists, "the app is being imported")
    tree.signal(signal.SIGTERM)
    until(lambda: "stopping: finishing what runs" in tree.log(), "the signal was heard")
    (yard.folder / "import").touch()
    assert tree.ended() == 0
    assert "Traceback" not in tree.log(), tree.log()
    assert (job.state, job.record().run) == ("available", 0)
    assert no_lease_is_left(yard)


def test_burst_ends_when_nothing_is_due_and_leaves_what_is_not(yard: Yard) -> None:
    jobs = yard.app_module.square.later_many([(n,) for n in range(50)])
    forest = yard.app_module.forest.later(2)
    later = yard.app_module.square.using(delay=3600).later(1)
    assert yard.work("-c", "4", "--burst").ended() == 0
    assert [job.state for job in jobs] == ["completed"] * 50
    assert forest.result(timeout=0) == yard.app_module.forest(2)
    assert (later.state, later.record().run) == ("available", 0)
    assert no_lease_is_left(yard)


@pytest.mark.elsewhere(shelf=())
def test_a_killed_worker_process_of_a_burst_is_replaced(yard: Yard, gate: Path) -> None:
    (job,) = held(yard, gate, 1)
    tree = yard.work("--burst")
    running(yard, [job])
    (child,) = tree.children()
    os.kill(child, signal.SIGKILL)
    gate.touch()
    assert tree.ended() == 0
    assert (job.state, job.record().run) == ("completed", 2)
    assert yard.wrong() == []
