"""Workers die also where the store is a Valkey, or a Cluster whose shards are on three masters.

Some points of many: `make redis-kinds` plays all. Death may fall between the parts of a call that goes to several shards.
"""

from __future__ import annotations

import pytest
from crashkit import Yard
from test_crash_points import LIVES, SHARED, check, enqueue

POINTS = {
    "valkey": ("store.before_commit", "split.after_bite"),
    "cluster": (
        "store.before_commit",
        "store.after_commit",
        "worker.after_fetch",
        "split.after_bite",
        "step.kept",
        "undo.running",
    ),
}


@pytest.mark.parametrize(("shelf", "point"), [(shelf, point) for shelf, points in POINTS.items() for point in points])
def test_a_worker_killed_at_this_point_loses_nothing_and_repeats_nothing(yard: Yard, point: str) -> None:
    jobs = enqueue(yard)
    yard.short_lives(f"{point}=kill:1" if point in SHARED else "", f"{point}=kill:2")
    tree = yard.work("-c", "4", failpoints="" if point in SHARED else f"{point}=kill:1")
    yard.drained()
    assert tree.stop() == 0
    assert tree.deaths() == LIVES, f"{point} was not passed:\n{tree.log()}"
    check(yard, jobs)
