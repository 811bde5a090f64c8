"""What does not end: threads and coroutines past their timeout, a blocked loop, an interpreter that is held."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import House, a_house
from processes import alive
from support import books, until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house("workapp", tmp_path) as house:
        yield house


def open_gate(house: House, gate: str) -> None:
    (house.folder / gate).touch()


def timed_out(job: Any) -> bool:
    error = job.error
    assert error is not None
    assert error.type.endswith("JobTimeout")
    assert "does not stop" in error.message
    assert (job.record().run, job.record().attempt, job.record().crashes) == (1, 1, 0)
    return True


@pytest.mark.parametrize(("task", "where"), [("stuck", "in wait_for"), ("astuck", "in astuck")])
def test_a_thread_or_coroutine_stuck_past_its_timeout_is_reported_with_its_stack_and_its_slot_replaced(
    house: House, task: str, where: str
) -> None:
    tree = house.work("-c", "4")
    pid = house.jobs.worker_pid.later().result(timeout=15)
    job = getattr(house.jobs, task).later("stuck")
    house.wait(job, within=8)
    assert timed_out(job)
    assert where in job.error.traceback
    assert "it is given up" in tree.log()
    # All four places are there, also while the stuck one still runs, and the process is the same.
    four = [house.jobs.beside.later("four") for _ in range(4)]
    until(lambda: len(list(house.folder.glob("beside-four*"))) == 4, house.logs)
    open_gate(house, "four")
    assert {other.result(timeout=15) for other in four} == {pid}
    assert [job.result(timeout=15) for job in house.jobs.aadd.later_many([(n,) for n in range(4)])] == [1, 2, 3, 4]
    # It ends after all: nobody hears it, and nothing is settled twice.
    open_gate(house, "stuck")
    assert house.jobs.add.later(1).result(timeout=15) == 2
    assert tree.stop() == 0
    assert (job.state, len(job.attempts())) == ("failed", 1)
    assert "refused its outcome" not in tree.log()


def test_a_process_with_one_stuck_thread_of_many_is_not_killed_for_it(house: House) -> None:
    """The supervisor kills for a job five seconds past its timeout; not for one that was given up and settled."""
    tree = house.work("-c", "6")
    stuck = house.jobs.stuck.later("never")
    beside = house.jobs.beside.later("long")
    house.wait(stuck, within=8)
    (line,) = stuck.attempts()
    until(lambda: house.app.clock.now() > line.finished_at + 5.5, "five seconds more", within=10)
    assert house.jobs.add.later(1).result(timeout=15) == 2
    assert "is held by job" not in tree.log()
    open_gate(house, "long")
    assert beside.result(timeout=15)
    assert beside.record().run == 1
    open_gate(house, "never")


def test_a_process_is_recycled_when_stuck_slots_pass_the_limit_and_its_neighbours_go_on(house: House) -> None:
    tree = house.work("-c", "4")
    old = house.jobs.worker_pid.later().result(timeout=15)
    beside = house.jobs.beside.later("beside")
    until(lambda: list(house.folder.glob("beside-beside*")), house.logs)
    stuck = [house.jobs.stuck.later("never") for _ in range(2)]
    for job in stuck:
        house.wait(job, within=10)
        assert timed_out(job)
    until(lambda: "another takes its place" in tree.log(), tree.log)
    new = house.jobs.worker_pid.later().result(timeout=15)
    assert new != old
    assert alive(old)  # it finishes what runs beside
    open_gate(house, "beside")
    assert beside.result(timeout=15) == old
    until(lambda: not alive(old), tree.log)
    assert tree.log().count("another takes its place") == 1


def test_a_process_can_be_recycled_again_and_again(house: House) -> None:
    tree = house.work("-c", "2")
    pids = [house.jobs.worker_pid.later().result(timeout=15)]
    for n in (1, 2):
        house.wait(house.jobs.stuck.later("never"), within=10)
        until(lambda n=n: tree.log().count("another takes its place") == n, tree.log)
        pids.append(house.jobs.worker_pid.later().result(timeout=15))
    assert len(set(pids)) == 3


def test_a_job_that_blocks_the_loop_past_its_timeout_is_given_up_and_the_process_recycled(house: House) -> None:
    tree = house.work("-c", "10")
    job = house.jobs.block.later("never")
    until(lambda: list(house.folder.glob("blocked-never *")), house.logs)
    behind = [house.jobs.aadd.later(n) for n in range(5)]
    thread = house.jobs.beside.later("beside")
    house.wait(job, within=10)
    assert timed_out(job)
    assert "in wait_for" in job.error.traceback
    for n, other in enumerate(behind):
        assert other.result(timeout=20) == n + 1  # in the process that took the place
        assert other.record().attempt == 1
        assert other.record().crashes == 0
    open_gate(house, "beside")
    assert thread.result(timeout=15)
    assert "another takes its place" in tree.log()


def test_a_loop_that_is_blocked_for_a_while_is_reported_and_goes_on(house: House) -> None:
    tree = house.work("-c", "4")
    job = house.jobs.block_without_limit.later("while")
    until(lambda: "the event loop has been blocked for" in tree.log(), tree.log)
    assert re.search(r"in wait_for", tree.log())
    other = house.jobs.aadd.later(1)
    open_gate(house, "while")
    assert job.result(timeout=15) == "in time"
    assert other.result(timeout=15) == 2
    again = house.jobs.block_without_limit.later("again")
    until(lambda: tree.log().count("the event loop has been blocked for") == 2, tree.log)
    open_gate(house, "again")
    assert again.result(timeout=15) == "in time"


def test_an_interpreter_held_past_a_timeout_is_killed_and_that_job_charged_alone(house: House) -> None:
    tree = house.work("-c", "4")
    beside = house.jobs.beside.later("beside")
    until(lambda: list(house.folder.glob("beside-beside*")), house.logs)
    job = house.jobs.hold_the_interpreter.later(25)
    until(lambda: "is held by job" in tree.log(), tree.log, within=12)
    assert job.id in tree.log()
    until(lambda: job.record().crashes == 1, tree.log)
    open_gate(house, "beside")
    assert beside.result(timeout=15)
    assert (beside.record().crashes, beside.record().attempt) == (0, 1)
    job.cancel("seen enough")
    house.wait(job, within=30)


def test_a_process_that_is_held_with_the_store_locked_is_killed_all_the_same(house: House) -> None:
    """Its supervisor's next beat waits for that lock, for up to ten seconds, and must not have to fail before the kill."""
    tree = house.work("-c", "4", "--processes", "2")
    job = house.jobs.hold_the_store.later(60)
    until(lambda: "is held by job" in tree.log(), tree.log)
    assert "the store is not available" not in tree.log()
    assert job.result(timeout=15) == "let go"
    assert (job.record().run, job.record().crashes) == (2, 1)
    assert tree.stop() == 0
    assert "Traceback" not in tree.log()  # the other process took the news of the job well


def test_a_recycled_process_and_a_stop_at_the_same_time_leave_in_order(house: House) -> None:
    tree = house.work("-c", "2")
    job = house.jobs.stuck.later("never")
    until(lambda: list(house.folder.glob("stuck-never *")), house.logs)
    assert tree.stop() == 0
    assert timed_out(job)
    assert books(house.path) == []


def test_giving_up_and_a_cancel_at_the_same_time_settle_once(house: House) -> None:
    tree = house.work("-c", "20")
    jobs = [house.jobs.stuck.later("never") for _ in range(8)]
    until(lambda: all(job.state == "running" for job in jobs), house.logs)
    for job in jobs[::2]:
        job.cancel("too long")
    for job in jobs:
        house.wait(job, within=10)
        assert len(job.attempts()) == 1
    assert {job.state for job in jobs} <= {"failed", "cancelled"}
    open_gate(house, "never")
    assert house.jobs.add.later(1).result(timeout=15) == 2
    assert "refused its outcome" not in tree.log()
