"""Steps in processes of the pool, of operations on real workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, a_house

from piecework.ids import new_id
from piecework.job import NewJob, NewOperation
from piecework.plan import Plan

# Each worker that is started is killed there, too, so that each comes one step further.
BOUNDARIES = (
    ("step.running", 2),
    ("step.ran", 2),
    ("step.kept", 2),
    ("worker.before_exchange", 3),
    ("worker.after_exchange", 2),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with a_house("workapp", tmp_path_factory.mktemp("operations")) as house:
        house.work("-c", "4", "--pool-size", "1")
        yield house


def test_steps_run_where_they_say_and_their_outcomes_come_back(house: House) -> None:
    """Changes, jumps, a death, a timeout and the undo: all of it crosses between the processes."""
    op = house.jobs.pooled.later()
    house.wait(op, within=40)
    lines = [(line.cursor, line.outcome) for line in house.app.store.attempts(op.id)]
    assert lines == [
        ("main/in_process/1", "completed"),
        ("main/in_worker/2", "completed"),
        ("main/dies_once/3", "retry"),
        ("main/dies_once/3", "completed"),
        ("main/pid/4", "completed"),
        ("main/takes_long/5", "failed"),
        ("undo/main/in_process/1/1", "undone"),
        ("undo/1/1", "failed"),
    ]
    record = op.record()
    assert record.error is not None
    assert record.error.type == "piecework.errors.JobTimeout"
    found = op.globals
    assert found["dying"] is True
    assert found["undone"][1] == "piecework.errors.JobTimeout"
    assert os.getpid() != found["worker"]
    assert found["worker"] not in (found["process"], found["task"], found["undone"][0])
    died = house.app.store.attempts(op.id)[2].error
    assert died is not None
    assert died.type == "piecework.errors.ProcessDied"


def test_a_process_is_told_the_plan_of_before(house: House) -> None:
    """It does not ask the store for it: the jump is judged by the plan that the operation began with."""
    plan = Plan({"main": ("in_process", "left_out", "in_worker")})
    job = NewJob(new_id(), "pooled", "{}", operation=NewOperation(plan.first.cursor, plan.digest, plan.text))
    house.app.store.add([job])
    op = house.app.jobs.get(job.id)
    house.wait(op)
    assert op.record().state == "completed"
    lines = [line.cursor for line in house.app.store.attempts(job.id)]
    assert lines == ["main/in_process/1", "main/in_worker/2"]


def test_a_worker_that_dies_between_the_steps_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    """Killed at each boundary: no step is both done and undone, none is done twice that was recorded, and it ends."""
    with a_house("workapp", tmp_path) as house:
        ops = []
        for point, passage in BOUNDARIES:
            op = house.jobs.steps.later()
            ops.append(op)
            tree = house.work("-c", "1", PIECEWORK_FAILPOINTS=f"{point}=kill:{passage}")
            house.wait(op, within=40)
            assert tree.stop() == 0
        for op in ops:
            record = op.record()
            assert record.state == "completed", record
            done = [line.cursor for line in house.app.store.attempts(op.id) if line.outcome == "completed"]
            assert done == [f"main/s{n}/{n}" for n in (1, 2, 3)]
            assert op.globals == {"s1": 1, "s2": 1, "s3": 1}
