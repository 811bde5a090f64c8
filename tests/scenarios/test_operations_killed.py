"""A worker dies between the effect of a step and its record, or a step is delivered twice: one effect is recorded, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from operation_steps import Steps, names, told
from support import books

from piecework import Piecework, State, Step
from piecework.job import Answer, Claim, SessionRecord
from piecework.outcome import Advance, Settlement
from piecework.testing.drain import drain


def enlisted(app: Piecework, session: str) -> None:
    app.store.migrate()
    app.store.enlist(SessionRecord(id=session, beat=0, started_at=1, seen_at=1, name="n", host="h", pid=1))


def onward(run: Any, cursor: str) -> Settlement:
    """The record of a step that ended: it is done, and the operation is at the next."""
    return Settlement(
        run.id, run.run, State.AVAILABLE, run.attempt + 1, run.queue, cursor=cursor, history="completed",
        advance=Advance(run.cursor),
    )  # fmt: skip


@pytest.mark.parametrize("recorded", [False, True], ids=["before its record", "after it"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_operation_whose_worker_died_goes_to_its_end(
    app: Piecework, steps: Steps, path: Path | str, step: int, recorded: bool
) -> None:
    """The worker dies at each step, with that step's record written or not: each step completes once, none is lost."""
    op = app.operation("f", main=[steps.charge, steps.set_up, steps.email]).later()
    enlisted(app, "dying")
    cursors = ["main/charge/1", "main/set_up/2", "main/email/3"]
    for n in range(1, step + 1):
        (run,) = app.store.fetch(Claim("dying.1", n, 1))
        assert run.cursor == cursors[n - 1]
        if n < step or (recorded and n < 3):
            assert app.store.settle([onward(run, cursors[n])]) == [Answer.OK]
    app.store.bury("dying")
    drain(app)
    assert op.status == "completed"
    assert names(op) == ["charge", "set_up", "email"]
    begun_here = step - 1 + (recorded and step < 3)
    assert steps.ran == ["charge", "set_up", "email"][begun_here:]
    assert books(path) == []


def test_a_step_whose_record_comes_late_or_twice_has_one_continuation(app: Piecework, steps: Steps) -> None:
    """The worker was buried, another did the step; then the first one's record arrives, twice."""
    op = app.operation("f", main=[steps.charge, steps.set_up]).later()
    enlisted(app, "slow")
    (run,) = app.store.fetch(Claim("slow.1", 1, 1))
    app.store.bury("slow")
    drain(app)
    late = onward(run, "main/set_up/2")
    assert app.store.settle([late, late]) == [Answer.STALE, Answer.STALE]
    assert (op.status, names(op)) == ("completed", ["charge", "set_up"])
    assert steps.ran == ["charge", "set_up"]


def test_a_record_that_was_sent_again_is_recorded_once(app: Piecework, steps: Steps) -> None:
    """Its answer was lost; the second try finds what the first one did, and no second continuation is made."""
    op = app.operation("f", main=[steps.charge, steps.set_up]).later()
    enlisted(app, "w")
    (run,) = app.store.fetch(Claim("w.1", 1, 1))
    assert app.store.settle([onward(run, "main/set_up/2")]) == [Answer.OK]
    assert app.store.settle([onward(run, "main/set_up/2")]) == [Answer.ALREADY]
    assert told(op) == [("charge", 1, "completed", 1)]
    app.store.bury("w")
    drain(app)
    assert (steps.ran, names(op)) == (["set_up"], ["charge", "set_up"])


def test_no_step_is_both_completed_and_failed(app: Piecework, steps: Steps) -> None:
    """Whatever its attempts came to: the completed one is the last of its visit, and there is one."""

    def sometimes(step: Step[Any]) -> None:
        if step.attempt <= step["n"] % 3:
            raise ValueError("boom")

    steps.acts |= {"charge": sometimes, "email": sometimes}
    fulfil = app.operation("f", main=[steps.charge, steps.email], attempts=2, retry=0)
    ops = fulfil.later_many([{"n": n} for n in range(9)])
    drain(app)
    for op in ops:
        for visit in {run.visit for run in op.runs()}:
            outcomes = [run.outcome for run in op.runs() if run.visit == visit]
            assert outcomes in (["completed"], ["retry", "completed"], ["retry", "failed"])
    assert fulfil.where().only(state="failed").count() == 3
