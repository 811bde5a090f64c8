"""Operations that move on: the ends of their steps, many in a few statements.

As with every settlement it is hoped first that nothing speaks against it: where an operation was asked to stop, its row
does not match, and the caller begins again with care. Nothing here reads the lines of an operation: its ten thousandth
step costs what its first did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from piecework.job import State
from piecework.outcome import Advance, Settlement
from piecework.store.sql import fanin, operation, waits
from piecework.store.sql.transaction import Changes, Transaction, to_json

_COMES_BACK = State.AVAILABLE, State.WAITING, State.RUNNING
_LINE = "id", "run", "cursor", "attempt", "outcome", "at", "error", "reason", "changes", "route"
_MOVED = (*_LINE, "state", "onward", "queue", "priority", "result", "delay")
_OUTCOME = _LINE.index("outcome")


class Step(NamedTuple):
    """The end of a step as it is recorded: what was sent, and what that comes to here."""

    sent: Settlement
    state: State
    reason: str | None
    waits: bool  # for a signal, now or once it is brought back
    advance: Advance
    to_undo: bool = False  # it was asked to stop for that
    stays: bool = False  # it goes on in its worker, in the line where it was: next to nothing is new

    @property
    def is_quiet(self) -> bool:
        """Whether nothing follows from it but its line and the next run: so it is with most."""
        return self.stays and not (self.advance.changes or self.waits or self.to_undo or self.advance.ending)

    @property
    def let_go(self) -> bool:
        """Whether it was to run on in its worker, and does not."""
        return self.sent.state is State.RUNNING and self.state is not State.RUNNING


def judge(tx: Transaction, settlements: Sequence[Settlement], *, careful: bool) -> list[Step]:
    """What each of them comes to: who was asked to stop does not go on, nor does anybody in a paused queue; and whose
    globals were edited meanwhile goes on with a fetch, which brings them.
    """
    asked = waits.asked_to_stop(tx, [s.id for s in settlements]) if careful else {}
    going_on = [(s.id, s.run) for s in settlements if s.state is State.RUNNING]
    paused, edited = set[str](), set[str]()
    if going_on:
        paused = {row[0] for row in tx.rows("pause_list")}
        if tx.row("amend_any"):
            runs = tx.table(("id", "run"), going_on)
            edited = {row[0] for row in tx.rows("amend_edited", runs=runs)}
    return [_step(s, asked.get(s.id, (0, None)), paused, edited) for s in settlements]


def _step(s: Settlement, asked: tuple[int, str | None], paused: set[str], edited: set[str]) -> Step:
    how, why = asked
    assert s.advance is not None
    waiting = s.advance.wait is not None
    if how == waits.TO_UNDO and s.state is not State.FAILED:  # the last step, too, is recorded and then undone
        return Step(s, State.AVAILABLE, s.reason, False, s.advance, True)
    if how and s.state in (*_COMES_BACK, State.CANCELLED):
        return Step(s, State.CANCELLED, why or s.reason, waiting, s.advance)
    if s.state is State.RUNNING and ((s.advance.queue or s.queue) in paused or s.id in edited):
        return Step(s, State.AVAILABLE, s.reason, False, s.advance)
    stays = s.state is State.RUNNING and s.advance.queue is None and s.advance.priority is None
    return Step(s, s.state, s.reason, waiting, s.advance, how == waits.TO_UNDO, stays)


def post(tx: Transaction, steps: Sequence[Step], *, careful: bool) -> list[Changes]:
    """Sends the ends of the steps; how many rows matched their fences is told by the answers."""
    lines, keep, other = [], [], []
    for step in steps:
        row = _row(step)
        if row[_OUTCOME] is not None:
            lines.append(row)
        if step.stays:
            keep.append(row)
        else:
            other.append(row + _moved(step))
    text = tx.alike(_LINE, lines) if lines else ""
    if lines:
        tx.post("advance_lines", rows=text)
    cursors = []
    if keep:
        same = len(keep) == len(lines) == len(steps)
        cursors.append(tx.post("advance_keep", rows=text if same else tx.alike(_LINE, keep)))
    if other:
        cursors.append(tx.post("advance_any", rows=tx.alike(_MOVED, other), careful=careful))
    return cursors


def count(tx: Transaction, steps: Sequence[Step]) -> Counter[tuple[str, str]]:
    """Counts where the jobs are now; answers the ends to be counted in the batches that they are pieces of."""
    ends = fanin.nothing()
    for step in steps:
        if not step.stays:
            s = step.sent
            tx.moved(s.queue, "running", None)
            tx.moved(step.advance.queue or s.queue, None, step.state.value)
            if s.batch is not None and step.state in fanin.COUNTED:
                ends[s.batch, fanin.COUNTED[step.state]] += 1
    return ends


def follow(tx: Transaction, steps: Sequence[Step]) -> None:
    """What follows from steps whose rows were changed."""
    ids = to_json([step.sent.id for step in steps])
    tx.post("advance_waits_over", ids=ids)
    for (batch,) in tx.rows("advance_open_batches", ids=ids):
        fanin.end_batch(tx, batch, "stopped", "the step that it belonged to has ended")
    steps = [step for step in steps if not step.is_quiet]
    if not steps:
        return
    operation.change(tx, [(step.sent.id, step.advance.changes) for step in steps if step.advance.changes])
    pieces = [step.sent.id for step in steps if step.state is State.COMPLETED and step.sent.batch is not None]
    if pieces:
        tx.post("advance_results", ids=to_json(pieces))
    endings = [(step.sent.id, to_json(step.advance.ending)) for step in steps if step.advance.ending is not None]
    if endings:
        tx.post("operation_ending", rows=tx.table(operation.ENDING, endings))
    waits.mind_undoing(tx, {step.sent.id: step.state for step in steps if step.to_undo})
    waiting = [step for step in steps if step.waits]
    waits.begin(tx, [(s.sent.id, s.advance.wait, s.state is State.WAITING) for s in waiting if s.advance.wait])


def _row(step: Step) -> tuple[object, ...]:
    """What both the line and the job's row are made of, in the order of `_LINE`."""
    s, advance = step.sent, step.advance
    return (
        s.id, s.run, s.cursor, s.attempt, s.history, advance.at, None if s.error is None else to_json(s.error), step.reason,
        to_json(advance.changes) if advance.changes else None, None if advance.route is None else to_json(advance.route),
    )  # fmt: skip


def _moved(step: Step) -> tuple[object, ...]:
    """What is new of a job's row, where more is new than its run and its place.

    A run that was to go on is over all the same: its number is not given again, so that who sends twice is told so.
    """
    s = step.sent
    return (
        step.state, int(s.state is State.RUNNING), step.advance.queue, step.advance.priority,
        s.result if step.state is State.COMPLETED else None,
        s.delay if step.state is State.AVAILABLE and s.state is State.AVAILABLE else None,
    )  # fmt: skip
