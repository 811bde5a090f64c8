"""Whole trees of processes die or stand still, and another supervisor takes over."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from crashkit import Tree, Yard, alive
from support import until

LEASE = 2.0


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def running(yard: Yard, jobs: list[Any], run: int) -> None:
    """Waits until all these jobs are inside their bodies, in this run."""
    until(lambda: all(yard.started(job, run) for job in jobs), lambda: f"run {run} began: {yard.logs()}")


def inside(yard: Yard) -> set[tuple[str, int]]:
    """The runs that have begun and not ended."""
    ledger = yard.ledger()
    ended = {(e.job, e.run) for e in ledger if e.what == "end"}
    return {(e.job, e.run) for e in ledger if e.what == "start"} - ended


def released(job: Any, reason: str) -> bool:
    """Whether the first run was handed back for this reason, without a crash or an attempt on the job's account."""
    lines = job.attempts()
    record = job.record()
    first = [(line.run, line.outcome) for line in lines] == [(1, "released")]
    return first and reason in (lines[0].reason or "") and record.crashes == 0


def test_a_killed_group_is_taken_over_by_another_supervisor_after_its_lease(quick_yard: Yard, gate: Path) -> None:
    yard = quick_yard
    jobs = [yard.app_module.hold.later(str(gate)) for _ in range(4)]
    first = yard.work("-c", "4")
    running(yard, jobs, 1)
    first.signal_all(signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    second = yard.work("-c", "4").ready()
    running(yard, jobs, 2)
    gate.touch()
    yard.drained()
    assert second.stop() == 0
    assert yard.wrong() == []
    assert all(released(job, "stopped beating") for job in jobs)
    assert [job.record().attempt for job in jobs] == [1] * 4


@pytest.mark.elsewhere(shelf=())
def test_a_living_session_keeps_its_long_jobs_through_many_leases(quick_yard: Yard, gate: Path) -> None:
    yard = quick_yard
    job = yard.app_module.hold.later(str(gate))
    first = yard.work("-c", "1")
    running(yard, [job], 1)
    second = yard.work("-c", "4").ready()
    beats = {s.pid: s.beat for s in yard.app.store.sessions()}
    # A beat comes every quarter of a lease: ten of them are two leases and a half.
    until(lambda: all(s.beat >= beats[s.pid] + 10 for s in yard.app.store.sessions()), "ten beats of both")
    gate.touch()
    yard.drained()
    assert first.stop() == second.stop() == 0
    assert yard.wrong() == []
    assert (job.record().run, job.attempts()) == (1, [])


@pytest.mark.elsewhere(shelf=())
def test_worker_processes_do_not_outlive_their_supervisor(quick_yard: Yard, gate: Path) -> None:
    yard = quick_yard
    jobs = [yard.app_module.hold.later(str(gate)) for _ in range(4)]
    first = yard.work("-c", "2", "--processes", "2")
    running(yard, jobs, 1)
    children = first.children()
    assert len(children) == 2
    first.signal(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in children), "the worker processes have ended", within=3.0)
    second = yard.work("-c", "4").ready()
    gate.touch()
    yard.drained()
    assert second.stop() == 0
    assert yard.wrong() == []
    assert all(released(job, "stopped beating") for job in jobs)


@pytest.mark.elsewhere(shelf=())
def test_a_worker_process_that_stands_still_does_not_outlive_its_supervisor_either(yard: Yard) -> None:
    """It cannot notice the end of its socket; only the system can end it."""
    tree = yard.work("-c", "2").ready()
    (child,) = until(tree.children, "a worker process")
    job = yard.app_module.square.later(2)
    assert job.result(timeout=10) == 4  # it is past its start
    os.kill(child, signal.SIGSTOP)
    tree.signal(signal.SIGKILL)
    until(lambda: not alive(child), "the worker process has ended", within=3.0)


def test_a_killed_worker_process_has_its_jobs_run_again_in_well_under_the_lease(yard: Yard, gate: Path) -> None:
    job = yard.app_module.hold.later(str(gate))
    tree = yard.work("-c", "2")
    running(yard, [job], 1)
    (child,) = tree.children()
    os.kill(child, signal.SIGKILL)
    until(lambda: yard.started(job, 2), "the second run", within=3.0)  # the lease is 20 s
    gate.touch()
    yard.drained()
    assert tree.stop() == 0
    assert yard.wrong() == []
    (line,) = job.attempts()
    assert (line.outcome, line.run, line.reason) == ("crashed", 1, "its worker process died: killed by SIGKILL")
    assert (job.record().crashes, job.record().attempt) == (1, 1)


def taken_over(yard: Yard, task: str, *args: Any) -> tuple[Tree, Tree, list[Any]]:
    """A tree that stands still with jobs in their bodies, and another that runs them since the lease is over."""
    jobs = [getattr(yard.app_module, task).later(*args) for _ in range(3)]
    first = yard.work("-c", "4").ready()
    running(yard, jobs, 1)
    yard.freeze(first)
    second = yard.work("-c", "4").ready()
    running(yard, jobs, 2)
    return first, second, jobs


def works_again(yard: Yard, tree: Tree) -> None:
    """A tree that had been declared dead has a new session, and runs jobs."""
    until(lambda: "starting anew" in tree.log(), lambda: f"a new session: {tree.log()}")
    later = [yard.app_module.square.later(n) for n in range(5)]
    yard.drained()
    assert [job.result(timeout=0) for job in later] == [0, 1, 4, 9, 16]
    # Gone from the process list is the child of the buried session; the one that works now ran these.
    pids = {e.pid for e in yard.ledger() if e.job in {job.id for job in later}}
    assert pids <= set(tree.children())


@pytest.mark.parametrize("resumed", ["whole tree", "worker process first"])
def test_a_tree_that_stood_still_past_its_lease_changes_nothing_and_then_works_again(
    quick_yard: Yard, gate: Path, resumed: str
) -> None:
    yard = quick_yard
    first, second, jobs = taken_over(yard, "hold", str(gate))
    children = second.children()
    gate.touch()
    yard.drained()
    settled = [job.record() for job in jobs]
    if resumed == "worker process first":  # nobody can kill it before it has sent its late settlements
        (child,) = first.children()
        os.kill(child, signal.SIGCONT)
        until(lambda: not alive(child), "the fenced worker process has ended")
        assert "declared dead" in first.log()
    assert second.stop() == 0
    first.signal_all(signal.SIGCONT)
    works_again(yard, first)
    assert [job.record() for job in jobs] == settled
    assert {job.result(timeout=0) for job in jobs} == set(children)
    assert all(released(job, "stopped beating") for job in jobs)
    assert first.stop() == 0
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
def test_a_failure_that_a_stalled_tree_reports_late_spends_no_attempt(quick_yard: Yard, gate: Path) -> None:
    yard = quick_yard
    who = yard.folder / "who"
    first, second, jobs = taken_over(yard, "hold_and_fail", str(gate), str(who))
    who.write_text(str(second.pid))
    gate.touch()
    yard.drained()
    assert second.stop() == 0
    (child,) = first.children()
    os.kill(child, signal.SIGCONT)
    until(lambda: not alive(child), "the fenced worker process has ended")
    first.signal_all(signal.SIGCONT)
    works_again(yard, first)
    assert first.stop() == 0
    assert [(job.state, job.record().attempt, job.record().error) for job in jobs] == [("completed", 1, None)] * 3
    assert yard.wrong() == []


def test_what_a_stalled_tree_had_fetched_ahead_is_not_begun_after_others_completed_it(quick_yard: Yard) -> None:
    yard = quick_yard
    yard.app_module.nap.later_many([(0.002,)] * 1500)
    first = yard.work("-c", "2").ready()
    until(lambda: len(yard.ledger()) > 600, "the first tree is in full swing")

    def frozen_with_jobs_in_line() -> bool:
        yard.freeze(first)
        # A thread that stands still just before the first line of its body would write it when it wakes: no worker could
        # know better. So both are to be inside.
        if yard.count(state="running") > 6 and len(inside(yard)) == 2:
            return True
        first.signal_all(signal.SIGCONT)
        return False

    until(frozen_with_jobs_in_line, "stopped at a moment at which jobs are in line behind those that run")
    second = yard.work("-c", "4").ready()
    yard.drained()
    assert second.stop() == 0
    (child,) = first.children()
    os.kill(child, signal.SIGCONT)  # before its supervisor, which would kill it
    until(lambda: not alive(child), "the fenced worker process has ended")
    first.signal_all(signal.SIGCONT)
    works_again(yard, first)
    assert first.stop() == 0
    assert yard.wrong() == []


@pytest.mark.elsewhere(shelf=())
def test_two_supervisors_with_the_same_name_work_side_by_side(quick_yard: Yard, gate: Path) -> None:
    yard = quick_yard
    jobs = [yard.app_module.hold.later(str(gate)) for _ in range(4)]
    trees = [yard.work("-c", "2", "-n", "twin").ready() for _ in range(2)]
    running(yard, jobs, 1)
    assert len({s.id for s in yard.app.store.sessions()}) == 2
    assert {s.name for s in yard.app.store.sessions()} == {"twin"}
    trees[0].signal_all(signal.SIGKILL)
    until(lambda: len(yard.app.store.sessions()) == 1, "the dead twin is buried, the living one is not")
    gate.touch()
    yard.drained()
    assert trees[1].stop() == 0
    assert yard.wrong() == []
    assert sorted(job.record().run for job in jobs) == [1, 1, 2, 2]
