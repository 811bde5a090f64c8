"""Bringing back what ended: one job, and what has to come back with it above and below.

A split of a million pieces comes back in bites, each in a transaction of its own. Until the last one its batch is held
open, so that it cannot end without them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from piecework.job import Filter, State
from piecework.store.sql import fanin, operation
from piecework.store.sql import waits as waiting
from piecework.store.sql.transaction import Transaction, to_json

BITE = 2000  # pieces that come back in one transaction


class Return(msgspec.Struct):
    """How far one call has come: what it may still do in this transaction, and which batches are not done."""

    resume: bool  # only what was cancelled comes back: what had failed by itself stays failed
    room: int
    by: str | None = None  # who does it, for the lines of operations; None: nobody did
    reason: str = ""
    # Batch, and the place of its last looked-at piece.
    held: deque[tuple[str, int]] = msgspec.field(default_factory=deque)


def retry(tx: Transaction, which: Filter, limit: int, back: Return) -> int:
    """The verb `retry`, inside its first transaction; `goes_on` follows as long as something is held."""
    ids = [row[0] for row in tx.matching("retry_select", which, limit=limit, resume=back.resume)]
    plain = _revive_plain(tx, ids, back) if ids else set()
    return len(plain) + sum(revive(tx, id, back) for id in ids if id not in plain)


def _revive_plain(tx: Transaction, ids: Sequence[str], back: Return) -> set[str]:
    """Those with which nothing else comes back, and which nothing keeps from it: all of them in a few statements.

    Of several with one key, which somebody else carried between them, one comes back, by itself.
    """
    found = tx.rows("retry_plain", ids=to_json(ids))
    keys = Counter(row[5] for row in found)
    rows = [row for row in found if not row[6] and (row[5] is None or keys[row[5]] == 1)]
    if back.by is not None:
        operation.note(tx, [row[0] for row in rows if row[3]], _deed(back), back.by, back.reason)
    for after, some in (
        ("available", [row for row in rows if not row[4]]),
        ("waiting", [row for row in rows if row[4]]),
    ):
        come_back(tx, some, after)
    return {row[0] for row in rows}


def come_back(tx: Transaction, rows: Sequence[Any], after: str) -> None:
    """Jobs (id, queue, state before, …) with which nothing else comes back; those that are `waiting` then, for a signal."""
    if not rows:
        return
    ids = [row[0] for row in rows]
    tx.post("retry_rows", ids=to_json(ids), state=after)
    for _, queue, state, *_ in rows:
        tx.moved(queue, state, after)
    if after == "waiting":
        waiting.again(tx, ids)


def _deed(back: Return) -> str:
    return "resumed" if back.resume else "retried"


def goes_on(back: Return) -> Callable[[Transaction], Return]:
    """The next bite of what one call brings back. What it is given it leaves alone: it may be sent again."""

    def bite(tx: Transaction) -> Return:
        rest = Return(back.resume, BITE, back.by, back.reason, deque(back.held))
        _go_on(tx, rest)
        return rest

    return bite


def _go_on(tx: Transaction, back: Return) -> None:
    while back.held and back.room > 0:
        batch, after = back.held.popleft()
        row = tx.row("batch_read", id=batch)
        if row is not None and row[2] == "open":
            _revive_below(tx, batch, back, after)
        else:
            tx.post("batch_let_go", id=batch)  # it was stopped again meanwhile


def let_go(tx: Transaction, batches: Iterable[str]) -> None:
    """Lets batches go their way that a call holds open which has died.

    What did not come back still counts as failed or cancelled, and may be retried again.
    """
    for batch in batches:
        tx.post("batch_let_go", id=batch)
        fanin.count(tx, fanin.nothing(), [batch])


def revive(tx: Transaction, id: str, back: Return) -> int:
    """Brings one ended job back, and what has to come back with it: the batch above it, or the pieces below."""
    found = tx.row("retry_read", id=id)
    if found is None or _key_taken(tx, id, found[3]):
        return 0
    _, state, batch, _, counted_at, *_ = found
    if counted_at is None and _has_ended(tx, batch):
        return 0  # parked in a batch that has ended: it would be cancelled before it started
    if batch is not None and counted_at is not None:
        if not _reopen_above(tx, batch, back):
            return 0
        cancelled = int(state == "cancelled")
        tx.post("retry_uncount", id=batch, failed=1 - cancelled, cancelled=cancelled)
    _come_back(tx, id, found, back)
    own = tx.row("own_read", job=id)
    if own is not None and tx.run("batch_reopen", id=own[0]):
        _revive_below(tx, own[0], back)
    return 1


def _come_back(tx: Transaction, id: str, found: Any, back: Return) -> None:
    """One row: available, or waiting where its pieces, or a signal, are what is to come first."""
    own = tx.row("own_read", job=id)
    splitting = own is not None and not own[4] and found[5] > 0
    waits = own is not None and own[1] == id and own[2] != "done" and not splitting
    after = State.WAITING.value if waits or found[7] else State.AVAILABLE.value
    if found[7] is not None and back.by is not None:  # an operation
        operation.note(tx, [id], _deed(back), back.by, back.reason)
    tx.post("retry_rows", ids=to_json([id]), state=after)
    tx.moved(found[0], found[1], after)
    if found[7]:
        waiting.again(tx, [id])


def _revive_below(tx: Transaction, batch: str, back: Return, after: int = -1) -> None:
    """The pieces that failed or were cancelled: leaves many in one step, splits and keyed ones one by one."""
    _revive_leaves(tx, batch, back)
    while back.room > 0:
        found = tx.rows("retry_pieces", batch=batch, resume=back.resume, after=after, limit=back.room)
        if not found:
            tx.post("batch_let_go", id=batch)
            fanin.count(tx, fanin.nothing(), [batch])
            return
        for piece, place in found:
            if back.room <= 0:
                break
            back.room -= 1
            after = place
            revive(tx, piece, back)
    tx.post("batch_hold", id=batch)
    back.held.append((batch, after))


def _revive_leaves(tx: Transaction, batch: str, back: Return) -> None:
    leaves = tx.rows("retry_leaves_pick", batch=batch, resume=back.resume, limit=back.room)
    if not leaves:
        return
    back.room -= len(leaves)
    tx.post("retry_leaves", seqs=to_json([row[0] for row in leaves]))
    for _, queue, state, _ in leaves:
        tx.moved(queue, state, "available")
    counted = [state for _, _, state, counted in leaves if counted]
    cancelled = counted.count("cancelled")
    tx.post("retry_uncount", id=batch, failed=len(counted) - cancelled, cancelled=cancelled)


def _reopen_above(tx: Transaction, batch: str, back: Return) -> bool:
    """Opens the batch of a piece that comes back, and what is above it, upward to the root; nothing, where it cannot be."""
    row = tx.row("batch_read", id=batch)
    if row is None or row[2] == "done":
        return False  # composed already; what a compose has read does not change under it
    if row[2] == "open":
        return True
    above = tx.row("retry_read", id=row[1]) if row[1] is not None else None
    if row[fanin.ALWAYS] and (above is None or above[6] != batch):
        return False  # the operation has gone past that step: what it made of it does not change under it
    if above is not None:
        _, state, upper, key, counted_at, *_ = above
        if _key_taken(tx, row[1], key):
            return False
        if counted_at is None and _has_ended(tx, upper):
            return False
        if upper is not None and counted_at is not None:
            if not _reopen_above(tx, upper, back):
                return False
            cancelled = int(state == "cancelled")
            tx.post("retry_uncount", id=upper, failed=1 - cancelled, cancelled=cancelled)
    tx.post("batch_reopen", id=batch)
    if above is not None:
        _come_back(tx, row[1], above, back)
    return True


def _has_ended(tx: Transaction, batch: str | None) -> bool:
    """Whether there is such a batch, and it is not open."""
    found = tx.row("batch_read", id=batch) if batch is not None else None
    return found is not None and found[2] != "open"


def _key_taken(tx: Transaction, id: str, key: str | None) -> bool:
    return key is not None and tx.row("retry_key_taken", key=key, id=id) is not None
