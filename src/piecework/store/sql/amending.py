"""What people do to operations: moving them, editing their globals, having them undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from piecework.job import Answer, Deed, Ending, State
from piecework.store.sql import fanin, operation, retry, waits
from piecework.store.sql.transaction import Transaction, to_json

LINE = "job", "id", "what", "by", "reason", "cursor", "changes"
MOVE = "id", "cursor", "queue", "priority", "state", "delay"


class CannotGoOnError(Exception):
    """What was to be moved and to go on cannot come back: the caller takes all of it back."""


class Seen(NamedTuple):
    """An operation that something is done to, as the store has it."""

    seq: int
    queue: str
    state: str
    cursor: str
    awaits: bool
    plain: bool  # nothing is above or below it
    again: bool  # brought back, it waits for its signal again
    key: str | None
    taken: bool  # another that has not ended carries the key

    @property
    def has_ended(self) -> bool:
        return self.state in ("failed", "cancelled", "parked")


def amend(tx: Transaction, deeds: Sequence[Deed], *, by_itself: bool = False) -> list[Answer | None]:
    """The verbs `amend` and `amend_many`, inside a transaction, for operations of which none is named twice.

    None for each that has to be amended by itself: what is moved or comes back there concerns others, or may be refused.
    """
    rows = tx.ask("amend_read", ids=to_json([deed.id for deed in deeds]))
    made = tx.rows("amend_known", rows=tx.table(("job", "id"), [(deed.id, deed.amendment.id) for deed in deeds]))
    known = {(job, id) for job, id in made}
    present = {row[0]: Seen(*row[1:]) for row in rows()}
    keys = Counter(seen.key for seen in present.values() if seen.key is not None)
    answers = [_answer(deed, present.get(deed.id), known, None if by_itself else keys) for deed in deeds]
    _make(tx, [(deed, present[deed.id]) for deed, said in zip(deeds, answers, strict=True) if said is Answer.OK])
    return answers


def _answer(
    deed: Deed, seen: Seen | None, known: set[tuple[str, str]], keys: Mapping[str, int] | None
) -> Answer | None:
    """What a deed comes to; `keys` has how many of those that are amended together have a key, None where it is one."""
    if seen is None:
        return Answer.STALE
    amendment = deed.amendment
    if (deed.id, amendment.id) in known:
        return Answer.ALREADY
    moves, returns = amendment.cursor is not None, amendment.resume and seen.has_ended
    if seen.cursor != deed.cursor or (moves and _may_not_move(seen)) or (returns and seen.taken):
        return Answer.STALE
    alone = keys is None or (seen.plain and not (returns and seen.key is not None and keys[seen.key] > 1))
    return Answer.OK if alone or not (moves or returns) else None


def _may_not_move(seen: Seen) -> bool:
    return seen.state in ("running", "completed") or (seen.state == "waiting" and not seen.awaits)


def _make(tx: Transaction, deeds: Sequence[tuple[Deed, Seen]]) -> None:
    if not deeds:
        return
    tx.post("amend_lines", rows=tx.table(LINE, [_line(deed) for deed, _ in deeds]))
    operation.change(tx, [(deed.id, deed.amendment.changes) for deed, _ in deeds if deed.amendment.changes])
    _move(tx, [(deed, seen) for deed, seen in deeds if deed.amendment.cursor is not None])
    if over := [seen.seq for deed, seen in deeds if deed.amendment.onward]:
        tx.post("amend_endings_over", seqs=to_json(over))
    _go_on(tx, [(deed, seen) for deed, seen in deeds if deed.amendment.resume and seen.has_ended])


def _line(deed: Deed) -> tuple[object, ...]:
    done = deed.amendment
    changes = to_json(done.changes) if done.changes else None
    return deed.id, done.id, done.what, done.by, done.reason, done.cursor, changes


def _move(tx: Transaction, deeds: Sequence[tuple[Deed, Seen]]) -> None:
    if not deeds:
        return
    moves: list[tuple[Deed, str]] = []
    for deed, seen in deeds:
        if not seen.plain:
            fanin.close(tx, deed.id, "stopped", f"the operation was moved by {deed.amendment.by}")
        after = "available" if seen.state == "waiting" else seen.state
        moves.append((deed, after))
        tx.moved(seen.queue, seen.state, None)
        tx.moved(deed.amendment.queue or seen.queue, None, after)
    _place(tx, moves)
    tx.post("advance_waits_over", ids=to_json([deed.id for deed, _ in deeds]))


def _place(tx: Transaction, moves: Sequence[tuple[Deed, str]]) -> None:
    rows = [
        (deed.id, done.cursor, done.queue, done.priority, state, done.delay or 0.0)
        for deed, state in moves
        if (done := deed.amendment)
    ]
    tx.post("amend_move", rows=tx.table(MOVE, rows))


def _go_on(tx: Transaction, deeds: Sequence[tuple[Deed, Seen]]) -> None:
    """What was moved has nothing below it any more: it comes back by itself, with what is above it."""
    for deed, seen in deeds:
        if not seen.plain and not retry.revive(tx, deed.id, retry.Return(resume=False, room=0)):
            raise CannotGoOnError
    plain = [(deed, seen) for deed, seen in deeds if seen.plain]
    waits = [(deed, seen) for deed, seen in plain if seen.again and deed.amendment.cursor is None]
    retry.come_back(tx, [_back(deed, seen) for deed, seen in waits], "waiting")
    retry.come_back(tx, [_back(*one) for one in plain if one not in waits], "available")
    if late := [(deed, "available") for deed, _ in deeds if deed.amendment.cursor is not None and deed.amendment.delay]:
        _place(tx, late)


def _back(deed: Deed, seen: Seen) -> tuple[str, str, str]:
    return deed.id, deed.amendment.queue or seen.queue, seen.state


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
    fanin.close_all(tx, [row[0] for row in undone if row[2] != "running"], "stopped", reason)
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
