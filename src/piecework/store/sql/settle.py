"""Ends of runs: fences, counters and fan-in, all inside one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from piecework.job import Answer, ErrorInfo, State
from piecework.outcome import Settlement
from piecework.store.sql import advance, fanin, waits
from piecework.store.sql.history import Line, remember
from piecework.store.sql.transaction import Changes, Transaction, to_json

# Whose end depends on having been asked to stop.
_STOPPED = (State.AVAILABLE, State.WAITING, State.CANCELLED, State.FAILED)
_ROW = "id", "run", "state", "attempt", "result", "delay", "cursor", "error", "reason"


class Sent(NamedTuple):
    """What was sent, and what is to follow once the answers are there."""

    changes: list[Changes]
    counted: fanin.Counted
    special: list[Settlement]  # what did not just complete
    steps: list[advance.Step]
    to_undo: set[str]  # who was asked to stop for that


class FenceMismatch(Exception):
    """Not every settlement matched its fence; the transaction is begun again, with care."""


class Settling:
    """One call of `settle`: first all is sent, then the answers are read, so that a fetch may travel along.

    On a shelf whose statements run at once that order costs nothing.
    """

    def __init__(self, tx: Transaction, settlements: Sequence[Settlement], *, careful: bool = False) -> None:
        """Sends the ends of the runs.

        At first it hopes that every fence matches, which takes no extra statement. Where the number of changed rows
        says otherwise `finish` raises `FenceMismatch`, and the caller comes again with `careful`.
        """
        self._tx = tx
        self._careful = careful
        self._settlements = settlements
        self.answers = [Answer.OK] * len(settlements)
        self._valid: Sequence[Settlement] = settlements
        if careful:
            self.answers = _check_fences(tx, settlements)
            self._valid = [s for s, answer in zip(settlements, self.answers, strict=True) if answer is Answer.OK]
        try:
            self._sent = _apply(tx, self._valid, careful)
        except tx.counted_twice as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> Exception:
        """A piece that would be counted a second time has a fence that does not match, unless these were looked at."""
        return error if self._careful else FenceMismatch()

    @property
    def simple(self) -> bool:
        """Whether nothing follows from these ends: no batch, and nobody comes back."""
        return not self._sent.special and not self._sent.steps and self._sent.counted.counters is None

    def finish(self) -> list[Answer]:
        """Reads what the statements came to, and follows every end upward."""
        if self._valid:
            try:
                self._tx.flush()
            except self._tx.counted_twice as error:
                raise self._told(error) from None
            if sum([reply.rowcount for reply in self._sent.changes]) != len(self._valid):
                raise FenceMismatch
            if not self.simple:
                self._follow(self._sent)
        return self.answers

    def _follow(self, sent: Sent) -> None:
        if sent.steps:
            advance.follow(self._tx, sent.steps)
        waits.mind_undoing(self._tx, {s.id: s.state for s in sent.special if s.id in sent.to_undo})
        fanin.after(self._tx, sent.counted, sent.special)
        let_go = {step.sent.id for step in sent.steps if not step.stays and step.let_go}
        if let_go:
            ids = (s.id for s in self._settlements)
            self.answers = [
                Answer.LET_GO if id in let_go and answer is Answer.OK else answer
                for id, answer in zip(ids, self.answers, strict=True)
            ]


def _check_fences(tx: Transaction, settlements: Sequence[Settlement]) -> list[Answer]:
    rows = {row[0]: row[1:] for row in tx.rows("settle_fences", ids=to_json([s.id for s in settlements]))}
    seen: set[str] = set()
    answers = []
    for s in settlements:
        run, state, settled = rows.get(s.id, (None, None, None))
        if run == s.run and state == "running" and s.id not in seen:
            seen.add(s.id)
            answers.append(Answer.OK)
        elif settled == s.run or (run == s.run and s.id in seen):
            # An operation that went on in its worker is at its next run; one that was let go is not.
            went_on = s.state is not State.RUNNING or s.id in seen or (run == s.run + 1 and state == "running")
            answers.append(Answer.ALREADY if went_on else Answer.LET_GO)
        else:
            answers.append(Answer.STALE)
    return answers


def _apply(tx: Transaction, settlements: Sequence[Settlement], careful: bool) -> Sent:
    """Sorts the settlements once: by far the most are completions, and those without a result need only their ids."""
    plain: dict[tuple[int, int, str, str | None], list[str]] = {}
    other: list[Settlement] = []
    special: list[Settlement] = []
    moving: list[Settlement] = []
    for s in settlements:
        if s.advance is not None:
            moving.append(s)
        elif s.state is State.COMPLETED:
            if s.result is None and s.history is None:
                key = (s.run, s.attempt, s.queue, s.batch)
                ids = plain.get(key)
                if ids is None:
                    plain[key] = [s.id]
                else:
                    ids.append(s.id)
            else:
                other.append(s)
        else:
            special.append(s)
    seals: dict[str, str] = {}
    asked: dict[str, tuple[int, str | None]] = {}
    if special:
        asked = waits.asked_to_stop(tx, [s.id for s in special if s.state in _STOPPED])
        special, seals = fanin.before(tx, _mind_stops(tx, special, asked))
        other += special
    steps = advance.judge(tx, moving, careful=careful) if moving else []
    changes = _change(tx, plain, other)
    if steps:
        changes += advance.post(tx, steps, careful=careful)
    ends = advance.count(tx, steps) if steps else fanin.nothing()
    for (_, _, queue, batch), ids in plain.items():
        tx.moved(queue, "running", "completed", len(ids))
        if batch is not None:
            ends[batch, "completed"] += len(ids)
    for s in other:
        tx.moved(s.queue, "running", s.state.value)
        if s.batch is not None and s.state in fanin.COUNTED:
            ends[s.batch, fanin.COUNTED[s.state]] += 1
    _keep_history(tx, special)
    to_undo = {id for id, (how, _) in asked.items() if how == waits.TO_UNDO} if asked else set()
    return Sent(changes, fanin.post_count(tx, ends, seals.values()), special, steps, to_undo)


def _change(
    tx: Transaction, plain: dict[tuple[int, int, str, str | None], list[str]], other: Sequence[Settlement]
) -> list[Changes]:
    """Sends the ends of the runs; how many rows that changed is told by the answers."""
    by_run: dict[tuple[int, int], list[str]] = {}
    for (run, attempt, _, _), ids in plain.items():
        by_run.setdefault((run, attempt), []).extend(ids)
    changes = [
        tx.post("settle_complete", ids=to_json(ids), run=run, attempt=attempt) for (run, attempt), ids in by_run.items()
    ]
    if other:
        changes.append(tx.post("settle_any", rows=tx.table(_ROW, map(_row, other))))
    return changes


def _mind_stops(
    tx: Transaction, settlements: list[Settlement], asked: Mapping[str, tuple[int, str | None]]
) -> list[Settlement]:
    """A job that was asked to stop does not come back: where it would run again, it is cancelled instead."""
    if not asked:
        return settlements
    return [_stopped(tx, s, *asked[s.id]) if s.id in asked else s for s in settlements]


def _stopped(tx: Transaction, s: Settlement, how: int, why: str | None) -> Settlement:
    """Cancelled; an operation that was asked to stop so that it can be undone is available for that."""
    if s.state is State.FAILED or (how != waits.TO_UNDO and s.state is State.CANCELLED):
        return s
    state = State.CANCELLED
    if how == waits.TO_UNDO:
        state = State.AVAILABLE
        fanin.close(tx, s.id, "stopped", why or "the operation is undone")
    return msgspec.structs.replace(s, state=state, reason=why, history="cancelled", delay=None, seal=None, cursor=None)


def _row(s: Settlement) -> tuple[object, ...]:
    """What is new of a job's row, in the order of `_ROW`."""
    return s.id, s.run, s.state, s.attempt, s.result, s.delay, s.cursor, _text(s.error), s.reason


def _text(error: ErrorInfo | None) -> str | None:
    return None if error is None else to_json(error)


def _keep_history(tx: Transaction, settlements: Sequence[Settlement]) -> None:
    lines: list[Line] = [
        (s.id, s.run, s.attempt, s.history, _text(s.error), s.reason) for s in settlements if s.history
    ]
    if lines:
        remember(tx, lines)
