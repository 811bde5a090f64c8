"""What people do to operations: moving them, editing their globals, having them undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from piecework.job import Amendment, Answer, Ending, State
from piecework.store.sql import fanin, operation, retry, waits
from piecework.store.sql.transaction import Transaction, to_json


class CannotGoOnError(Exception):
    """What was to be moved and to go on cannot come back: the caller takes all of it back."""


def amend(tx: Transaction, id: str, cursor: str, amendment: Amendment) -> Answer:
    """The verb `amend`, inside a transaction."""
    found = tx.row("amend_read", id=id)
    if found is None:
        return Answer.STALE
    if tx.row("amend_known", job=id, id=amendment.id):
        return Answer.ALREADY
    place, queue, state, present, awaits = found
    if present != cursor or (amendment.cursor is not None and _may_not_move(state, awaits)):
        return Answer.STALE
    changes = to_json(amendment.changes) if amendment.changes else None
    tx.post(
        "amend_line", job=id, id=amendment.id, what=amendment.what, by=amendment.by, reason=amendment.reason,
        cursor=amendment.cursor, changes=changes,
    )  # fmt: skip
    if amendment.changes:
        operation.change(tx, [(id, amendment.changes)])
    if amendment.cursor is not None:
        _move(tx, id, queue, state, amendment)
    if amendment.onward:
        tx.post("amend_ending_over", job=place)
    if amendment.resume and state in ("failed", "cancelled", "parked"):
        _go_on(tx, id, amendment)
    return Answer.OK


def _may_not_move(state: str, awaits: bool) -> bool:
    return state in ("running", "completed") or (state == "waiting" and not awaits)


def _move(tx: Transaction, id: str, queue: str, state: str, amendment: Amendment) -> None:
    fanin.close(tx, id, "stopped", f"the operation was moved by {amendment.by}")
    after = "available" if state == "waiting" else state
    _place(tx, id, after, amendment)
    tx.post("advance_waits_over", ids=to_json([id]))
    tx.moved(queue, state, None)
    tx.moved(amendment.queue or queue, None, after)


def _place(tx: Transaction, id: str, state: str, amendment: Amendment) -> None:
    tx.post(
        "amend_move", id=id, cursor=amendment.cursor, queue=amendment.queue, priority=amendment.priority, state=state,
        delay=amendment.delay or 0.0,
    )  # fmt: skip


def _go_on(tx: Transaction, id: str, amendment: Amendment) -> None:
    """What was moved has nothing below it any more: it comes back by itself, with what is above it."""
    if not retry.revive(tx, id, retry.Return(resume=False, room=0)):
        raise CannotGoOnError
    if amendment.cursor is not None and amendment.delay:
        _place(tx, id, "available", amendment)


# ── undoing ──────────────────────────────────────────────────────────────────────────────────────


def undo(tx: Transaction, rows: Sequence[Any], reason: str, by: str | None) -> tuple[list[Any], list[str]]:
    """Has the operations among these rows of `cancel_select` undone.

    Gives back the rows that are to be cancelled, and the ids of those that were: with the batch of an operation above.
    """
    ids = to_json([row[0] for row in rows])
    operations = {row[0] for row in tx.rows("undo_select", ids=ids)}
    undone: list[Any] = []
    cancelled: list[Any] = []
    for row in rows:
        (undone if row[0] in operations and _may_come_back(tx, row) else cancelled).append(row)
    for row in undone:
        if row[2] != "running":
            fanin.close(tx, row[0], "stopped", reason)
    gone = {row[0] for row in tx.rows("cancel_gone", ids=ids)} if undone else set()
    if undone := [row for row in undone if row[0] not in gone]:
        _undo(tx, undone, reason, by)
    return [row for row in cancelled if row[0] not in gone], sorted(gone)


def _undo(tx: Transaction, rows: Sequence[Any], reason: str, by: str | None) -> None:
    ending = to_json(Ending(State.CANCELLED, reason=reason, by=by))
    tx.post("operation_ending", rows=tx.table(operation.ENDING, [(row[0], ending) for row in rows]))
    if running := [row[0] for row in rows if row[2] == "running"]:
        tx.post("cancel_ask", ids=to_json(running), how=waits.TO_UNDO, reason=reason, by=by)
    if still := [row for row in rows if row[2] != "running"]:
        ids = to_json([row[0] for row in still])
        if by is not None:
            tx.post("undo_asked", ids=ids, by=by)
        waits.mind_undoing(tx, {row[0]: State.AVAILABLE for row in still})
    for _, queue, state, batch, counted_at in still:
        tx.moved(queue, state, "available")
        if counted_at is not None and batch is not None:
            tx.post("retry_uncount", id=batch, failed=1, cancelled=0)


def _may_come_back(tx: Transaction, row: Any) -> bool:
    """A piece that was parked for crashing has been counted: only an open batch takes it back."""
    batch, counted_at = row[3], row[4]
    if counted_at is None or batch is None:
        return True
    found = tx.row("batch_read", id=batch)
    return found is not None and found[2] == "open"
