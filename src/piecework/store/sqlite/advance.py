"""Operations that move on, on the SQLite shelf: the ends of their steps, many in a few statements.

As with every settlement it is hoped first that nothing speaks against it: where an operation was asked to stop, its row
does not match, and the caller begins again with care. Nothing here reads the lines of an operation: its ten thousandth
step costs what its first did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from piecework.job import Answer, State
from piecework.outcome import Advance, Settlement
from piecework.store.sqlite import fanin, operation, waits
from piecework.store.sqlite.transaction import Transaction, to_json

_COMES_BACK = State.AVAILABLE, State.WAITING, State.RUNNING


class Step(NamedTuple):
    """The end of a step as it is recorded: what was sent, and what that comes to here."""

    sent: Settlement
    state: State
    reason: str | None
    waits: bool  # for a signal, now or once it is brought back

    @property
    def advance(self) -> Advance:
        assert self.sent.advance is not None
        return self.sent.advance

    @property
    def let_go(self) -> bool:
        """Whether it was to run on in its worker, and does not."""
        return self.sent.state is State.RUNNING and self.state is not State.RUNNING


def judge(tx: Transaction, settlements: Sequence[Settlement], *, careful: bool) -> list[Step]:
    """What each of them comes to: who was asked to stop does not go on, nor does anybody in a paused queue."""
    asked = waits.asked_to_stop(tx, [s.id for s in settlements]) if careful else {}
    paused = set[str]()
    if any(s.state is State.RUNNING for s in settlements):
        paused = {row[0] for row in tx.rows("pause_list")}
    return [_step(s, asked.get(s.id, (0, None)), paused) for s in settlements]


def _step(s: Settlement, asked: tuple[int, str | None], paused: set[str]) -> Step:
    how, why = asked
    assert s.advance is not None
    waiting = s.advance.wait is not None
    if how == waits.TO_UNDO and s.state in (*_COMES_BACK, State.CANCELLED):
        return Step(s, State.AVAILABLE, s.reason, False)
    if how and s.state in _COMES_BACK:
        return Step(s, State.CANCELLED, why, waiting)
    if s.state is State.RUNNING and (s.advance.queue or s.queue) in paused:
        return Step(s, State.AVAILABLE, s.reason, False)
    return Step(s, s.state, s.reason, waiting)


def apply(tx: Transaction, steps: Sequence[Step], *, careful: bool) -> int:
    """Records the ends of the steps, and says how many rows matched their fences."""
    lines = [_line(step) for step in steps if step.sent.history]
    if lines:
        tx.run("advance_lines", rows=to_json(lines), now=tx.now)
    keep: list[Step] = []
    other: list[Step] = []
    for step in steps:
        kept = step.state is State.RUNNING and step.advance.queue is None and step.advance.priority is None
        (keep if kept else other).append(step)
    changed = 0
    if keep:
        changed += tx.run("advance_keep", rows=to_json([_kept(step.sent) for step in keep]), now=tx.now)
    if other:
        changed += tx.run("advance_any", rows=to_json([_row(step) for step in other]), now=tx.now, careful=careful)
    return changed


def follow(tx: Transaction, steps: Sequence[Step]) -> Counter[tuple[str, str]]:
    """What follows from steps whose rows were changed; the ends to be counted in the batches that they are pieces of."""
    ids = [step.sent.id for step in steps]
    tx.run("advance_waits_over", ids=to_json(ids))
    for (batch,) in tx.rows("advance_open_batches", ids=to_json(ids)):
        fanin.end_batch(tx, batch, "stopped", "the step that it belonged to has ended")
    operation.change(tx, [(step.sent.id, step.advance.changes) for step in steps if step.advance.changes])
    endings = [(step.sent.id, to_json(step.advance.ending)) for step in steps if step.advance.ending is not None]
    if endings:
        tx.run("operation_ending", rows=to_json(endings))
    ends = fanin.nothing()
    for step in steps:
        s = step.sent
        tx.moved(s.queue, "running", None)
        tx.moved(step.advance.queue or s.queue, None, step.state.value)
        if s.batch is not None and step.state in fanin.COUNTED:
            ends[s.batch, fanin.COUNTED[step.state]] += 1
    waiting = [step for step in steps if step.waits]
    waits.begin(tx, [(s.sent.id, s.advance.wait, s.state is State.WAITING) for s in waiting if s.advance.wait])
    return ends


def answer(step: Step) -> Answer:
    return Answer.LET_GO if step.let_go else Answer.OK


def _line(step: Step) -> tuple[object, ...]:
    s = step.sent
    changes = to_json(step.advance.changes) if step.advance.changes else None
    error = None if s.error is None else to_json(s.error)
    return s.id, s.run, s.attempt, s.history, error, s.reason, step.advance.at, changes


def _kept(s: Settlement) -> tuple[object, ...]:
    return s.id, s.run, s.cursor


def _row(step: Step) -> tuple[object, ...]:
    """A run that was to go on is over all the same: its number is not given again, so that who sends twice is told so."""
    s = step.sent
    back = step.state is State.AVAILABLE
    return (
        s.id, s.run, step.state, int(s.state is State.RUNNING), step.advance.queue, step.advance.priority, s.cursor,
        s.result, s.delay if back and step.state is s.state else None, None if s.error is None else to_json(s.error),
        step.reason,
    )  # fmt: skip
