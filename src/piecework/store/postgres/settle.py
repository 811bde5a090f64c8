"""Ends of runs on the PostgreSQL shelf: fences, counters and fan-in, all inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from psycopg import Cursor
from psycopg.errors import CheckViolation

from piecework.job import Answer, ErrorInfo, State
from piecework.outcome import Settlement
from piecework.store.postgres import fanin
from piecework.store.postgres.history import Line, remember
from piecework.store.postgres.transaction import Row, Transaction, to_json

Applied = tuple[list[Cursor[Row]], fanin.Counted, list[Settlement]]  # answers to come, and what did not complete


class FenceMismatch(Exception):
    """Not every settlement matched its fence; the transaction is begun again, with care."""


class Settling:
    """One call of `settle`: first all is sent, then the answers are read, so that a fetch may travel along."""

    def __init__(self, tx: Transaction, settlements: Sequence[Settlement], *, careful: bool = False) -> None:
        """Sends the ends of the runs.

        At first it hopes that every fence matches, which takes no extra statement. Where the number of changed rows says
        otherwise `finish` raises `FenceMismatch`, and the caller comes again with `careful`.
        """
        self._tx = tx
        self._careful = careful
        self.answers = [Answer.OK] * len(settlements)
        self._valid: Sequence[Settlement] = settlements
        if careful:
            self.answers = _check_fences(tx, settlements)
            self._valid = [s for s, answer in zip(settlements, self.answers, strict=True) if answer is Answer.OK]
        self._changes, self._counted, self._special = _apply(tx, self._valid)

    def _send(self) -> None:
        try:
            self._tx.flush()
        except CheckViolation:  # a piece was counted a second time
            if self._careful:
                raise
            raise FenceMismatch from None

    @property
    def simple(self) -> bool:
        """Whether nothing follows from these ends: no batch, and nobody comes back."""
        return not self._special and self._counted.counters is None

    def finish(self) -> list[Answer]:
        """Reads what the statements came to, and follows every end upward."""
        if self._valid:
            self._send()
            if sum(cursor.rowcount for cursor in self._changes) != len(self._valid):
                raise FenceMismatch
            fanin.after(self._tx, self._counted, self._special)
        return self.answers


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
            answers.append(Answer.ALREADY)
        else:
            answers.append(Answer.STALE)
    return answers


def _apply(tx: Transaction, settlements: Sequence[Settlement]) -> Applied:
    """Sorts the settlements once: by far the most are completions, and those without a result need only their ids."""
    plain: dict[tuple[int, int, str, str | None], list[str]] = {}
    other: list[Settlement] = []
    special: list[Settlement] = []
    for s in settlements:
        if s.state is State.COMPLETED:
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
    if special:
        special, seals = fanin.before(tx, _mind_stops(tx, special))
        other += special
    changes = _change(tx, plain, other)
    ends = fanin.nothing()
    for (_, _, queue, batch), ids in plain.items():
        tx.moved(queue, "running", "completed", len(ids))
        if batch is not None:
            ends[batch, "completed"] += len(ids)
    for s in other:
        tx.moved(s.queue, "running", s.state.value)
        if s.batch is not None and s.state in fanin.COUNTED:
            ends[s.batch, fanin.COUNTED[s.state]] += 1
    _keep_history(tx, special)
    return changes, fanin.post_count(tx, ends, seals.values()), special


def _change(
    tx: Transaction, plain: dict[tuple[int, int, str, str | None], list[str]], other: Sequence[Settlement]
) -> list[Cursor[Row]]:
    """Sends the ends of the runs; how many rows that changed is told by the answers."""
    by_run: dict[tuple[int, int], list[str]] = {}
    for (run, attempt, _, _), ids in plain.items():
        by_run.setdefault((run, attempt), []).extend(ids)
    changes = [
        tx.post("settle_complete", ids=to_json(ids), run=run, attempt=attempt) for (run, attempt), ids in by_run.items()
    ]
    if other:
        changes.append(tx.post("settle_any", rows=to_json([_row(s) for s in other])))
    return changes


def _mind_stops(tx: Transaction, settlements: list[Settlement]) -> list[Settlement]:
    """A job that was asked to stop does not come back: where it would run again, it is cancelled instead."""
    back = [s.id for s in settlements if s.state is State.AVAILABLE or s.state is State.WAITING]
    stopping = dict(tx.rows("settle_stopping", ids=to_json(back))) if back else {}
    if not stopping:
        return settlements
    return [_cancelled(s, stopping[s.id]) if s.id in stopping else s for s in settlements]


def _cancelled(s: Settlement, reason: str | None) -> Settlement:
    return msgspec.structs.replace(
        s, state=State.CANCELLED, reason=reason, history="cancelled", delay=None, seal=None, cursor=None
    )


def _row(s: Settlement) -> dict[str, object]:
    return {
        "id": s.id, "run": s.run, "state": s.state, "attempt": s.attempt, "result": s.result, "delay": s.delay,
        "cursor": s.cursor, "error": _text(s.error), "reason": s.reason,
    }  # fmt: skip


def _text(error: ErrorInfo | None) -> str | None:
    return None if error is None else to_json(error)


def _keep_history(tx: Transaction, settlements: Sequence[Settlement]) -> None:
    lines: list[Line] = [
        (s.id, s.run, s.attempt, s.history, _text(s.error), s.reason) for s in settlements if s.history
    ]
    if lines:
        remember(tx, lines)
