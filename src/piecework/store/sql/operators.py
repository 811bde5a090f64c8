"""Handing back, cancelling, retrying and repairing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from piecework.job import Filter, State
from piecework.store.reaped import numbered, with_one_more
from piecework.store.sql import amending, fanin, operation, waits
from piecework.store.sql.history import Line, remember
from piecework.store.sql.transaction import Transaction, to_json

_CHANGES = ("id", "state", "crashes", "reason", "counted", "error")
CRASHED = "its worker died while running it"


def give_up(tx: Transaction, name: str) -> None:
    """Notes that a worker is over: a fetch of it that arrives later gets nothing.

    One whose session has ended is anyway.
    """
    worker = numbered(name)
    if (row := tx.row("reaped_read", id=worker.session)) is not None:
        tx.post("reaped_set", id=worker.session, reaped=with_one_more(row[0], worker.number))


def hand_back(
    tx: Transaction, low: str, high: str, *, crashed: Collection[str], reason: str, crash_limit: int
) -> list[str]:
    """Returns the running jobs of the workers from `low` up to `high` (exclusive) to their queues."""
    rows = tx.rows("reap_rows", low=low, high=high)
    changes: list[tuple[Any, ...]] = []
    lines: list[Line] = []
    ends: Counter[tuple[str, str]] = Counter()
    for id, queue, batch, run, attempt, crashes, stopping, why in rows:
        blamed = id in crashed
        crashes += blamed
        state, note, error = "available", None, None  # type: tuple[str, str | None, str | None]
        if stopping:
            state, note, error = _end_of_stopped(tx, id, stopping, why)
            ends[batch, state] += state != "available"
        elif blamed and crashes >= crash_limit:
            state, note = "parked", f"its worker died {crashes} times while running it ({reason or CRASHED})"
            ends[batch, "failed"] += 1
        changes.append((id, state, crashes, note, state != "available", error))
        lines.append((id, run, attempt, "crashed" if blamed else "released", None, reason or None))
        tx.moved(queue, "running", state)
    if changes:
        remember(tx, lines)
        tx.post("reap_return", rows=tx.table(_CHANGES, changes))
        fanin.count(tx, Counter({(batch, end): n for (batch, end), n in ends.items() if batch is not None}))
        for id, *_ in (row for row in rows if row[6]):
            fanin.close(tx, id, "stopped", "the split was cancelled")
        waits.mind_undoing(tx, {row[0]: State.AVAILABLE for row in rows if row[6] == waits.TO_UNDO})
    return [row[0] for row in rows]


def _end_of_stopped(tx: Transaction, id: str, how: int, why: str | None) -> tuple[str, str | None, str | None]:
    """What becomes of a run that had been asked to stop and can answer no more: a splitter ends as its batch did."""
    if how == waits.TO_UNDO:
        return "available", why, None
    own = tx.row("own_read", job=id)
    if own is not None and own[2] == "failed" and not own[fanin.ALWAYS]:
        return "failed", None, to_json(fanin.why_failed(tx, own[0]))
    return "cancelled", why, None


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────


def cancel(tx: Transaction, which: Filter, reason: str, by: str | None, limit: int, undo: bool) -> int:
    found = tx.matching("cancel_select", which, limit=limit, undo=undo)
    rows = [row[:-1] for row in found]
    left, gone = amending.undo(tx, rows, reason, by) if undo and rows else (rows, [])
    if by is not None:
        placed, cancelled = [row[0] for row in found if row[-1]], {row[0] for row in left}
        operation.note(tx, [id for id in placed if id not in cancelled], "undoing", by, reason)
        operation.note(tx, [id for id in placed if id in cancelled], "cancelled", by, reason)
    running = [row[0] for row in left if row[2] == "running"]
    ended = [row for row in left if row[2] != "running"]
    if running:
        tx.post("cancel_ask", ids=to_json(running), how=waits.TO_STOP, reason=reason, by=by)
    if ended or gone:
        tx.post("cancel_rows", ids=to_json([row[0] for row in ended] + gone), reason=reason, by=by)
    if ended:
        fanin.follow_cancelled(tx, ended, reason)
    loose = [id for id in which.ids or () if fanin.is_loose(tx, id) and fanin.end_batch(tx, id, "stopped", reason)]
    return len(rows) + len(loose)


# ── repair ───────────────────────────────────────────────────────────────────────────────────────


def suspects(tx: Transaction, limit: int, after: str) -> tuple[list[str], str]:
    """Looks at a few open batches, beside all others; those that something is wrong with, and where it stopped."""
    picked = [row[0] for row in tx.rows("repair_pick", after=after, limit=limit)]
    found = [id for id in picked if (seen := tx.row("repair_look", id=id)) is not None and seen[0]]
    return found, picked[-1] if len(picked) == limit else ""


def repair(tx: Transaction, suspects: list[str]) -> list[str]:
    """Recounts open batches, and ends those that have come to their end; what was mended."""
    mended: list[str] = []
    for id in suspects:
        counted = tx.row("repair_read", id=id)
        true = tx.row("repair_count", batch=id)
        if counted is not None and counted != true:
            total, open, completed, failed, cancelled = true
            tx.post(
                "repair_set", id=id, total=total, open=open, completed=completed, failed=failed, cancelled=cancelled
            )
            mended.append(f"batch {id}: the counters said {counted}, its pieces {true}")
        fanin.count(tx, Counter(), [id])
    return mended
