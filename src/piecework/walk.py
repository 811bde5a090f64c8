"""What follows from a run of an operation: which step is next, when, and what is kept. Decides, and does nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from piecework.documents import with_changes
from piecework.job import Ending, ErrorInfo, Fetched, OperationRun, Route, State, Wait
from piecework.operation import OperationSpec
from piecework.options import TaskOptions
from piecework.outcome import Advance, Await, Outcome, Settlement, Stepped, Undone, UndoNext
from piecework.plan import Place, Plan, Undoing, read_cursor
from piecework.settle import settle

_STRAIGHT_ON = Route()


class Next(msgspec.Struct, frozen=True):
    """Where an operation goes on."""

    cursor: str
    state: State = State.AVAILABLE
    delay: float | None = None
    wait: Wait | None = None
    queue: str | None = None
    priority: int | None = None


class Walk(msgspec.Struct):
    """A place of an operation, and the plan by which it goes: what is the same for every operation that comes by.

    `straight` is where a step goes on that says nothing; None where it ends there, or the moment matters.
    """

    spec: OperationSpec
    plan: Plan
    place: Place | Undoing
    queue: str  # where a step runs that does not say so itself …
    priority: int  # … and with which priority
    straight: Next | None = None
    kept: Next | None = None  # … and the same in the worker that is at it, where that is possible

    def __post_init__(self) -> None:
        behind = next_place(self, None) if isinstance(self.place, Place) and not self.place.undoing else None
        if behind is not None and getattr(self.spec.step(behind.step), "at", None) is None:
            self.straight = onward(self, behind, 0.0)
            kept = _kept(self.straight, keep=True)
            self.kept = kept if kept.state is State.RUNNING else None


def settle_operation(
    job: Fetched, outcome: Outcome, walk: Walk, options: TaskOptions, draw: float, now: float, *, keep: bool
) -> Settlement:
    """The settlement of one run of an operation. With `keep` the next step may run on in the same worker.

    `now` is in epoch seconds, and `draw` a random number in [0, 1).
    """
    if isinstance(outcome, Stepped):
        return _stepped(job, outcome, walk, now, keep)
    if isinstance(outcome, Await):
        return _advance(job, Next(job.cursor or "", State.WAITING, wait=outcome.wait), outcome.changes, None)
    if isinstance(outcome, UndoNext):
        return _undo_next(job, outcome, walk, keep)
    if isinstance(outcome, Undone):
        assert isinstance(walk.place, Place)
        return _advance(
            job, _kept(Next(Undoing(walk.place.visit, run=walk.place.run).cursor), keep), outcome.changes, "undone"
        )
    settlement = settle(job, outcome, options, draw)
    if settlement.seal is not None:
        assert isinstance(walk.place, Place)
        return msgspec.structs.replace(settlement, cursor=composing(walk.place).cursor)
    if settlement.state is State.FAILED and (walk.spec.undoes or walk.plan.undoes) and _may_undo(walk):
        assert isinstance(walk.place, Place)
        ending = Ending(State.FAILED, settlement.error)
        there = Next(Undoing(walk.place.visit).cursor)
        return _advance(job, there, (), settlement.history, error=settlement.error, ending=ending)
    if settlement.state is State.FAILED and isinstance(walk.place, Place) and walk.place.undoing:
        return msgspec.structs.replace(settlement, error=_of_undo(walk.place, settlement.error))
    return settlement


def next_run(job: Fetched, settlement: Settlement, now: float) -> Fetched:
    """The run that follows one which ended as running, as a fetch would give it."""
    run, advance = job.operation, settlement.advance
    assert run is not None
    assert advance is not None
    globals = with_changes(run.globals, advance.changes) if advance.changes else run.globals
    there = OperationRun(run.digest, globals, None, None, advance.ending or run.ending)
    return Fetched(
        job.id,
        job.run + 1,
        job.task,
        job.queue,
        job.priority,
        0,
        0,
        job.batch,
        job.root,
        settlement.cursor,
        job.options,
        now,
        job.args,
        there,
    )


def _of_undo(place: Place, error: ErrorInfo | None) -> ErrorInfo | None:
    if error is None:
        return None
    told = f"the undo of {place.branch}/{place.step} (visit {place.visit}) failed: {error.message}"
    return ErrorInfo(error.type, told, error.traceback)


def composing(place: Place) -> Place:
    """The same step, once its pieces have settled."""
    return msgspec.structs.replace(place, composing=True)


def next_place(walk: Walk, jump: str | None) -> Place | None:
    """The step behind the one that ended, or the one that it jumped to."""
    assert isinstance(walk.place, Place)
    if jump is not None:
        return walk.plan.at(jump, walk.place.visit + 1)
    return walk.plan.after(walk.place)


def onward(walk: Walk, place: Place, now: float, *, pause: float | None = None, wait: Wait | None = None) -> Next:
    """How an operation comes to a place: through which queue, after how long, and after which signal.

    Where it waits for a signal, a step's own delay counts from that; a pause, and a moment, are what they are.
    """
    step = walk.spec.step(place.step)  # None where the code does not know it: whoever fetches it parks it
    said: dict[str, Any] = dict(step.options) if step is not None else {}
    where = said.get("queue", walk.queue), said.get("priority", walk.priority)
    own = step.delay if step is not None else None
    moments = [now + pause if pause else None, step.at if step is not None else None]
    moment = max((at for at in moments if at is not None), default=None)
    if wait is not None:  # its own delay counts from the signal
        return Next(place.cursor, State.WAITING, None, msgspec.structs.replace(wait, delay=own, run_at=moment), *where)
    delay = max(own or 0.0, 0.0 if moment is None else moment - now)
    return Next(place.cursor, State.AVAILABLE, delay if delay > 0 else None, None, *where)


def _stepped(job: Fetched, outcome: Stepped, walk: Walk, now: float, keep: bool) -> Settlement:
    if walk.straight is not None and outcome.jump is None and outcome.delay is None and outcome.wait is None:
        kept = walk.kept if keep else None
        stays = kept is not None and kept.queue == job.queue and kept.priority == job.priority
        there = kept if kept is not None and stays else walk.straight
        return _advance(job, there, outcome.changes, outcome.said)
    place = next_place(walk, outcome.jump)
    if place is None:
        return _advance(job, Next(job.cursor or "", State.COMPLETED), outcome.changes, outcome.said)
    there = _kept(onward(walk, place, now, pause=outcome.delay, wait=outcome.wait), keep, job)
    route = Route(outcome.jump, outcome.delay, outcome.wait)
    return _advance(job, there, outcome.changes, outcome.said, route=None if route == _STRAIGHT_ON else route)


def _undo_next(job: Fetched, outcome: UndoNext, walk: Walk, keep: bool) -> Settlement:
    """Either the next undo, or the end that was put off until everything was undone."""
    if outcome.cursor is not None:
        return _advance(job, _kept(_to_undo(walk, outcome.cursor), keep, job), (), None)
    assert isinstance(walk.place, Undoing)
    assert job.operation is not None
    ending = job.operation.ending or Ending(State.CANCELLED, reason="it was undone")
    there = Next(Undoing(walk.place.before, over=True).cursor, ending.state)
    return _advance(job, there, (), ending.state.value, error=ending.error, reason=ending.reason)


def _to_undo(walk: Walk, cursor: str) -> Next:
    """How an operation comes to its undoing, or to the undo of a step: where that says, or where the step itself runs."""
    place = read_cursor(cursor)
    step = walk.spec.step(place.step) if isinstance(place, Place) else None
    said = {**step.options, **step.undo.options} if step is not None and step.undo is not None else {}
    return Next(cursor, queue=said.get("queue", walk.queue), priority=said.get("priority", walk.priority))


def _may_undo(walk: Walk) -> bool:
    """Whether something may have been done before this place that is not being undone already."""
    return isinstance(walk.place, Place) and not walk.place.undoing and walk.place.visit > 1


def _kept(there: Next, keep: bool, job: Fetched | None = None) -> Next:
    """The same way on, in the worker that is at it, where nothing speaks against that."""
    if not keep or there.state is not State.AVAILABLE or there.delay is not None:
        return there
    if job is not None and (there.queue != job.queue or there.priority != job.priority):
        return there
    return Next(there.cursor, State.RUNNING, None, None, there.queue, there.priority)


def _advance(
    job: Fetched,
    there: Next,
    changes: tuple[Any, ...],
    history: str | None,
    *,
    error: ErrorInfo | None = None,
    reason: str | None = None,
    ending: Ending | None = None,
    route: Route | None = None,
) -> Settlement:
    moves = there.queue if there.queue != job.queue else None
    ranks = there.priority if there.priority != job.priority else None
    advance = Advance(job.cursor or "", changes, there.wait, ending, moves, ranks, route)
    # By position, which is quicker: one for each step. See Settlement.
    return Settlement(
        job.id, job.run, there.state, job.attempt + 1, job.queue, None, there.delay, there.cursor, job.batch, error, reason,
        history, None, advance,
    )  # fmt: skip
