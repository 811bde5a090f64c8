"""Handing back, cancelling, retrying, pruning, deleting and repairing on the SQLite shelf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from piecework.job import Filter, State
from piecework.store.sqlite import fanin
from piecework.store.sqlite.rows import where
from piecework.store.sqlite.transaction import SQL, Transaction, to_json

CRASHED = "its worker died while running it"
_COUNTERS = "open", "completed", "failed", "cancelled"


def hand_back(
    tx: Transaction, low: str, high: str, *, crashed: Collection[str], reason: str, crash_limit: int
) -> list[str]:
    """Returns the running jobs of the workers from `low` up to `high` (exclusive) to their queues."""
    rows = tx.rows("reap_rows", low=low, high=high)
    changes: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    ends: Counter[tuple[str, str]] = Counter()
    for id, queue, batch, run, attempt, crashes, stopping, why in rows:
        blamed = id in crashed
        crashes += blamed
        state, note, error = "available", None, None  # type: tuple[str, str | None, str | None]
        if blamed and crashes >= crash_limit:
            state, note = "parked", f"its worker died {crashes} times while running it ({reason or CRASHED})"
            ends[batch, "failed"] += 1
        elif stopping:
            state, note, error = _end_of_stopped(tx, id, why)
            ends[batch, state] += 1
        changes.append((id, state, crashes, note, int(state != "available"), error))
        lines.append((id, run, attempt, "crashed" if blamed else "released", None, reason or None))
        tx.moved(queue, "running", state)
    if changes:
        tx.run("settle_history", rows=to_json(lines), now=tx.now)
        tx.run("reap_return", rows=to_json(changes), now=tx.now)
        fanin.count(tx, Counter({(batch, end): n for (batch, end), n in ends.items() if batch is not None}))
        for id, state, *_ in changes:
            if state == "cancelled":
                fanin.close(tx, id, "stopped", "the split was cancelled")
    return [row[0] for row in rows]


def _end_of_stopped(tx: Transaction, id: str, why: str | None) -> tuple[str, str | None, str | None]:
    """What becomes of a run that had been asked to stop and can answer no more: a splitter ends as its batch did."""
    own = tx.row("own_read", job=id)
    if own is not None and own[2] == "failed":
        return "failed", None, to_json(fanin.why_failed(tx, own[0]))
    return "cancelled", why, None


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────


def cancel(tx: Transaction, which: Filter, reason: str, limit: int) -> int:
    condition, params = where(which)
    rows = tx.con.execute(SQL["cancel_select"].format(where=condition), params | {"limit": limit}).fetchall()
    running = [row[0] for row in rows if row[2] == "running"]
    ended = [row for row in rows if row[2] != "running"]
    if running:
        tx.run("cancel_ask", ids=to_json(running), reason=reason)
    if ended:
        tx.run("cancel_rows", ids=to_json([row[0] for row in ended]), reason=reason, now=tx.now)
        ends = fanin.nothing()
        for id, queue, state, batch, counted_at in ended:
            tx.moved(queue, state, "cancelled")
            if batch is not None and counted_at is not None:
                tx.run("cancel_recount", id=batch)
            elif batch is not None:
                ends[batch, "cancelled"] += 1
            fanin.close(tx, id, "stopped", reason)
        fanin.count(tx, ends)
    loose = [id for id in which.ids or () if fanin.is_loose(tx, id) and fanin.end_batch(tx, id, "stopped", reason)]
    return len(rows) + len(loose)


# ── retry ────────────────────────────────────────────────────────────────────────────────────────


def retry(tx: Transaction, which: Filter, limit: int) -> int:
    condition, params = where(which)
    rows = tx.con.execute(SQL["retry_select"].format(where=condition), params | {"limit": limit}).fetchall()
    return sum(_revive(tx, row[0]) for row in rows)


def _revive(tx: Transaction, id: str) -> int:
    """Brings one ended job back, and what has to come back with it: the batch above it, or the pieces below."""
    found = tx.row("retry_read", id=id)
    if found is None or _key_taken(tx, id, found[3]):
        return 0
    _, state, batch, _, counted_at, _ = found
    if counted_at is None and _has_ended(tx, batch):
        return 0  # parked in a batch that has ended: it would be cancelled before it started
    if batch is not None and counted_at is not None:
        if not _reopen_above(tx, batch):
            return 0
        cancelled = int(state == "cancelled")
        tx.run("retry_uncount", id=batch, failed=1 - cancelled, cancelled=cancelled)
    _come_back(tx, id, found)
    own = tx.row("own_read", job=id)
    if own is not None and tx.run("batch_reopen", id=own[0]):
        _revive_below(tx, own[0])
    return 1


def _come_back(tx: Transaction, id: str, found: Any) -> None:
    """One row: available, or waiting where its pieces are what is to be done."""
    own = tx.row("own_read", job=id)
    splitting = own is not None and not own[4] and found[5] > 0
    waits = own is not None and own[1] == id and own[2] != "done" and not splitting
    after = State.WAITING.value if waits else State.AVAILABLE.value
    tx.run("retry_row", id=id, state=after, now=tx.now)
    tx.moved(found[0], found[1], after)


def _revive_below(tx: Transaction, batch: str) -> None:
    """The pieces that failed or were cancelled: all leaves in one step, splits and keyed ones one by one."""
    failed = cancelled = 0
    for queue, state, counted, n in tx.rows("retry_leaves_count", batch=batch):
        tx.moved(queue, state, "available", n)
        if counted and state == "cancelled":
            cancelled += n
        elif counted:
            failed += n
    tx.run("retry_leaves", batch=batch, now=tx.now)
    tx.run("retry_uncount", id=batch, failed=failed, cancelled=cancelled)
    for (piece,) in tx.rows("retry_pieces", batch=batch):
        _revive(tx, piece)
    fanin.count(tx, fanin.nothing(), [batch])


def _reopen_above(tx: Transaction, batch: str) -> bool:
    """Opens the batch of a piece that comes back, and what is above it, upward to the root; nothing, where it cannot be."""
    row = tx.row("batch_read", id=batch)
    if row is None or row[2] == "done":
        return False  # composed already; what a compose has read does not change under it
    if row[2] == "open":
        return True
    above = tx.row("retry_read", id=row[1]) if row[1] is not None else None
    if above is not None:
        _, state, upper, key, counted_at, _ = above
        if _key_taken(tx, row[1], key):
            return False
        if counted_at is None and _has_ended(tx, upper):
            return False
        if upper is not None and counted_at is not None:
            if not _reopen_above(tx, upper):
                return False
            cancelled = int(state == "cancelled")
            tx.run("retry_uncount", id=upper, failed=1 - cancelled, cancelled=cancelled)
    tx.run("batch_reopen", id=batch)
    if above is not None:
        _come_back(tx, row[1], above)
    return True


def _has_ended(tx: Transaction, batch: str | None) -> bool:
    """Whether there is such a batch, and it is not open."""
    found = tx.row("batch_read", id=batch) if batch is not None else None
    return found is not None and found[2] != "open"


def _key_taken(tx: Transaction, id: str, key: str | None) -> bool:
    return key is not None and tx.row("retry_key_taken", key=key, id=id) is not None


# ── prune, delete and repair ─────────────────────────────────────────────────────────────────────


def prune(tx: Transaction, before: float, limit: int, start: int) -> tuple[int, int]:
    """Walks the table in order of arrival from `start`, deletes what is past its keep; how many, and where it stopped.

    A walk needs no index over finished jobs, which every settlement would have to pay for.
    """
    rows = tx.rows("prune_walk", seq=start, before=before, limit=limit * 10)
    gone = [row for row in rows if row[5]][:limit]
    if gone:
        ids = to_json([row[1] for row in gone])
        tx.run("prune_jobs", seqs=to_json([row[0] for row in gone]))
        tx.run("prune_attempts", ids=ids)
        tx.run("prune_batches", ids=ids)
        for row in gone:
            tx.moved(row[2], row[3], None)
    tx.run("prune_loose", before=before)
    if len(gone) == limit:
        return len(gone), gone[-1][0]
    at_the_end = len(rows) < limit * 10 or rows[-1][4] >= before
    return len(gone), 0 if at_the_end else rows[-1][0]


def delete(tx: Transaction, which: Filter, limit: int) -> int:
    condition, params = where(which)
    heads = tx.con.execute(SQL["delete_select"].format(where=condition), params | {"limit": limit}).fetchall()
    if not heads:
        return 0
    rows = tx.rows("delete_tree", ids=to_json([row[0] for row in heads]))
    ids = to_json([row[1] for row in rows])
    tx.run("prune_jobs", seqs=to_json([row[0] for row in rows]))
    tx.run("prune_attempts", ids=ids)
    tx.run("prune_batches", ids=ids)
    counts: dict[str, Counter[str]] = {}
    for _, _, queue, state, batch, finished_at in rows:
        tx.moved(queue, state, None)
        if batch is not None:
            counted = "open" if finished_at is None else "failed" if state == "parked" else state
            counts.setdefault(batch, Counter())[counted] += 1
    for batch, n in counts.items():  # those that stay: the others are gone with their continuations
        tx.run("delete_uncount", id=batch, total=n.total(), **{name: n[name] for name in _COUNTERS})
    tx.run("delete_loose", ids=to_json(list(counts)))
    return len(rows)


def repair(tx: Transaction, limit: int, after: str) -> tuple[list[str], str]:
    """Recounts a few open batches and clears dead ones; what was mended, and where it stopped."""
    dead = [row[0] for row in tx.rows("repair_dead", after="", limit=limit)]
    if dead:
        fanin.cancel_open(tx, to_json(dead), "its batch had ended")
    mended: list[str] = []
    picked = tx.rows("repair_pick", after=after, limit=limit)
    for id, *counted in picked:
        true = tx.row("repair_count", batch=id)
        if tuple(counted) != tuple(true):
            total, open, completed, failed, cancelled = true
            tx.run("repair_set", id=id, total=total, open=open, completed=completed, failed=failed, cancelled=cancelled)
            mended.append(f"batch {id}: the counters said {tuple(counted)}, its pieces {tuple(true)}")
        fanin.count(tx, Counter(), [id])
    return mended, picked[-1][0] if len(picked) == limit else ""
