"""Deleting what ended: because somebody said so, not because it is past its keep."""

from __future__ import annotations

from collections import Counter

from piecework.job import Filter
from piecework.store.sql import operation
from piecework.store.sql.transaction import Transaction, to_json

_COUNTERS = "open", "completed", "failed", "cancelled"


def delete(tx: Transaction, which: Filter, limit: int) -> int:
    heads = tx.matching("delete_select", which, alone=True, limit=limit)
    if not heads:
        return 0
    rows = tx.rows("delete_tree", ids=to_json([row[0] for row in heads]))
    ids = to_json([row[1] for row in rows])
    seqs = to_json([row[0] for row in rows])
    tx.post("prune_tags", seqs=seqs)
    tx.post("prune_jobs", seqs=seqs)
    tx.post("prune_attempts", ids=ids)
    tx.post("prune_batches", ids=ids)
    operation.forget(tx, [row[0] for row in rows], ids)
    counts: dict[str, Counter[str]] = {}
    for _, _, queue, state, batch, finished_at in rows:
        tx.moved(queue, state, None)
        if batch is not None:
            counted = "open" if finished_at is None else "failed" if state == "parked" else state
            counts.setdefault(batch, Counter())[counted] += 1
    for batch, n in counts.items():  # those that stay: the others are gone with their continuations
        tx.post("delete_uncount", id=batch, total=n.total(), **{name: n[name] for name in _COUNTERS})
    tx.post("delete_loose", ids=to_json(list(counts)))
    return len(rows)
