"""Workers die by SIGKILL at every named point, meet an error there, or stand still; what they leave is
judged by the ledger joined with the store."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest
from crashkit import Yard
from crashwalks import walked, wrong_attempts
from support import is_redis, until

from piecework.failpoints import NAMES

# Points that the supervisor passes, too. Where the environment armed them it would die itself, so the app arms them.
SHARED = {"store.before_commit", "store.after_commit"}
DELAY = 0.6  # seconds: the other process does all the rest meanwhile
OF_THE_STORE = SHARED | {"settle.in_transaction"}  # on the floor that shelves differ in
LIVES = 2  # fewer than the crashes that park a job


def enqueue(yard: Yard) -> list[tuple[Any, Any]]:
    """The workload: jobs, each with the result of the direct call; and operations."""
    app = yard.app_module
    enqueue_operations(app.operations)
    jobs = [(job, n * n) for n, job in enumerate(app.square.later_many([(n,) for n in range(20)]))]
    jobs += [(job, n * n) for n, job in enumerate(app.asquare.later_many([(n,) for n in range(5)]))]
    jobs += [(app.flaky.later(n, n), f"flaky {n}") for n in range(4)]
    jobs += [(app.forest.later(3), app.forest(3)), (app.wide.later(app.WIDE), app.wide(app.WIDE))]
    return jobs


def enqueue_operations(operations: Any) -> None:
    """Some that complete, on two ways; some that are undone; some that wait, in vain and not in vain."""
    for n, colour in enumerate(("plain", "red", "plain")):
        operations.order.later(n=n, fails=n, colour=colour)
    for n in range(2):
        operations.order.later(n=n, fails=0, doomed=True)
    for n in range(2):
        approved = operations.approved.later(n=n)
        approved.signal("approval", {"by": "a test"})
        approved.signal("early", n)
        operations.expired.later(n=n)


def check_operations(yard: Yard) -> None:
    """What these operations should have come to."""
    own = yard.app_module.operations
    ledger = yard.ledger()
    for op in (*own.order.where(), *own.approved.where(), *own.expired.where()):
        found = walked(yard.app.store, op.id, [e for e in ledger if e.job == op.id])
        assert list(wrong_attempts(found)) == []
    for op in own.order.where():
        begun = dict(msgspec.json.decode(op.record().args))
        final = op.globals
        if begun.get("doomed"):
            assert op.state == "failed"
            assert final["undone"] == [*("pack", "pay", "reserve") * 2]
            assert "it cannot be done" in str(op.record().error)
        else:
            assert final == own.order(**begun)
            assert op.state == "completed"
    for op in own.approved.where():
        assert (op.state, op.globals["approval"], op.globals["early"]) == (
            "completed",
            {"by": "a test"},
            op.globals["n"],
        )
        assert all(line.taken_at is not None for line in yard.app.store.signals(op.id))
    for op in own.expired.where():
        assert (op.state, op.globals["late"], "ended" in op.globals) == ("completed", True, False)


def check(yard: Yard, jobs: list[tuple[Any, Any]]) -> None:
    """The oracle, and what this workload should have come to."""
    assert yard.wrong() == []
    assert [job.result(timeout=0) for job, _ in jobs] == [result for _, result in jobs]
    check_operations(yard)
    for job in yard.app.jobs:
        if job.known.cursor is not None and "/" in job.known.cursor:
            continue
        spent = 1 + len([line for line in job.attempts() if line.outcome == "retry"])
        assert job.known.attempt == spent, "a crash spent an attempt"
    sizes = {"forest": 6, "tree": 5, "wide": yard.app_module.WIDE}
    for task, pieces in sizes.items():
        for job in yard.app.jobs.where(task=task):
            batch = job.batch
            assert batch is not None
            assert (batch.total, batch.completed) == (pieces, pieces)


@pytest.mark.parametrize("point", sorted(NAMES))
def test_a_worker_killed_at_this_point_loses_nothing_and_repeats_nothing(yard: Yard, point: str) -> None:
    jobs = enqueue(yard)
    yard.short_lives(f"{point}=kill:1" if point in SHARED else "", f"{point}=kill:2")
    tree = yard.work("-c", "4", failpoints="" if point in SHARED else f"{point}=kill:1")
    yard.drained()
    assert tree.stop() == 0
    assert tree.deaths() == LIVES, f"{point} was not passed:\n{tree.log()}"
    check(yard, jobs)


@pytest.mark.elsewhere(point=OF_THE_STORE)
@pytest.mark.parametrize("point", sorted(NAMES))
def test_two_processes_of_which_one_is_killed_at_a_later_passage_lose_and_repeat_nothing(
    yard: Yard, point: str
) -> None:
    jobs = enqueue(yard)
    yard.short_lives(f"{point}=kill:3", f"{point}=kill:1")
    tree = yard.work("-c", "2", "--processes", "2")
    yard.drained()
    assert tree.stop() == 0
    assert tree.deaths() >= 1, f"{point} was not passed:\n{tree.log()}"
    check(yard, jobs)


@pytest.mark.elsewhere(point=OF_THE_STORE)
@pytest.mark.parametrize("action", ["raise:1", f"delay:1:{DELAY}"], ids=["raise", "delay"])
@pytest.mark.parametrize("point", sorted(NAMES))
def test_a_point_that_raises_or_waits_loses_nothing_and_repeats_nothing(
    quick_yard: Yard, point: str, action: str
) -> None:
    """Each of two processes meets it once; meanwhile the other one goes on."""
    jobs = enqueue(quick_yard)
    quick_yard.short_lives(f"{point}={action}", f"{point}={action}")
    tree = quick_yard.work("-c", "2", "--processes", "2")
    until(lambda: f"failpoint {point}: " in tree.log(), lambda: f"{point} was not passed:\n{tree.log()}")
    quick_yard.drained()
    assert tree.stop() == 0
    assert tree.deaths() == 0
    check(quick_yard, jobs)


@pytest.mark.parametrize("point", sorted(SHARED))
def test_a_supervisor_killed_at_its_own_commit_leaves_nothing_that_the_next_one_cannot_mend(
    quick_yard: Yard, point: str
) -> None:
    gate = quick_yard.folder / "gate"
    held = quick_yard.app_module.hold.later(str(gate))
    jobs = enqueue(quick_yard)
    # It enlists, and dies at its first beat; on Redis it looks before that whether the store is set up, by a script.
    beat = 3 if is_redis(quick_yard.place) else 2
    first = quick_yard.work("-c", "2", failpoints=f"{point}=kill:{beat}")
    assert first.ended() == -signal.SIGKILL
    second = quick_yard.work("-c", "2").ready()
    gate.touch()
    quick_yard.drained()
    until(lambda: [s.pid for s in quick_yard.app.store.sessions()] == [second.pid], "the dead session is buried")
    assert second.stop() == 0
    check(quick_yard, jobs)
    assert held.record().run == 2
