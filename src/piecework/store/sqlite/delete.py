"""Deleting what ended, on the SQLite shelf: because somebody said so, not because it is past its keep."""

from __future__ import annotations

from collections import Counter

from piecework.job import Filter
from piecework.store.sqlite import operation
from piecework.store.sqlite.rows import where
from piecework.store.sqlite.transaction import SQL, Transaction, to_json

_COUNTERS = "open", "completed", "failed", "cancelled"


def delete(tx: Transaction, which: Filter, limit: int) -> int:
    condition, params = where(which, alone=True)
    heads = tx.con.execute(SQL["delete_select"].format(where=condition), params | {"limit": limit}).fetchall()
    if not heads:
        return 0
    rows = tx.rows("delete_tree", ids=to_json([row[0] for row in heads]))
    ids = to_json([row[1] for row in rows])
    seqs = to_json([row[0] for row in rows])
    tx.run("prune_tags", seqs=seqs)
    tx.run("prune_jobs", seqs=seqs)
    tx.run("prune_attempts", ids=ids)
    tx.run("prune_batches", ids=ids)
    operation.forget(tx, [row[0] for row in rows], ids)
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
