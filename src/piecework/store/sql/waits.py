"""What operations wait for: signals, timeouts, and being asked to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from piecework.job import NewSignal, State, Wait
from piecework.store.sql.transaction import Transaction, to_json

TO_STOP, TO_UNDO = 1, 2  # what `stopping` says of a running job: to stop; to stop, so that it can be undone
WAKE_BITE = 1000  # operations whose wait is over that are made available in one transaction


def asked_to_stop(tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    """Those of these running jobs that were asked to stop: how, and why."""
    return {id: (how, why) for id, why, how in tx.rows("settle_stopping", ids=to_json(ids))} if ids else {}


def begin(tx: Transaction, waiting: Sequence[tuple[str, Wait, bool]]) -> None:
    """Operations that wait from now on; those whose signal has come before take it, and are available at once.

    One that was cancelled meanwhile (False) will wait when it is brought back.
    """
    if waiting:
        rows = [(id, to_json(wait), wait.name, wait.timeout if now else None) for id, wait, now in waiting]
        tx.post("wait_begin", rows=tx.table(("id", "wait", "name", "timeout"), rows))
        meet(tx, [id for id, _, now in waiting if now])


def again(tx: Transaction, ids: Sequence[str]) -> None:
    """Operations that were brought back wait again, for as long as they were to."""
    if ids:
        tx.post("wait_again", ids=to_json(ids))
        meet(tx, ids)


def pause(tx: Transaction, rows: Sequence[Any]) -> None:
    """Jobs that were cancelled (id, queue, state before, …): no timeout wakes them."""
    if waiting := [row[0] for row in rows if row[2] == "waiting"]:
        tx.post("wait_pause", ids=to_json(waiting))


def mind_undoing(tx: Transaction, asked: Mapping[str, State]) -> None:
    """Operations that were asked to stop so that they can be undone, and what their runs came to.

    Those that are available are to be undone, whatever they were at; those that have ended are not, any more.
    """
    if undone := [id for id, state in asked.items() if state is State.AVAILABLE]:
        tx.post("undo_rows", ids=to_json(undone))
        tx.post("advance_waits_over", ids=to_json(undone))
    if ended := [id for id, state in asked.items() if state in (State.COMPLETED, State.FAILED)]:
        tx.post("undo_not", ids=to_json(ended))


def meet(tx: Transaction, ids: Sequence[str]) -> None:
    """Lets those of these operations that wait for a signal take the oldest that was kept."""
    met = tx.rows("wait_met", ids=to_json(ids))
    if not met:
        return
    taken = tx.table(("job", "signal"), [(seq, signal) for _, seq, _, signal in met])
    tx.post("wait_take", rows=taken)
    tx.post("wait_taken", rows=taken)
    tx.post("wait_end", seqs=to_json([seq for _, seq, _, _ in met]))
    for _, _, queue, _ in met:
        tx.moved(queue, "waiting", "available")


def signal(tx: Transaction, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
    """The verbs `signal` and `signal_many`, inside a transaction."""
    found = {row[0] for row in tx.rows("signal_for", ids=to_json([id for id, _ in signals]))}
    if found:
        rows = [(id, new.id, new.name, new.payload, new.by) for id, new in signals if id in found]
        tx.post("signal_add", rows=tx.table(("job", "id", "name", "payload", "by"), rows))
        meet(tx, sorted(found))
    return [id in found for id, _ in signals]


def wake(tx: Transaction) -> None:
    """Makes operations available whose wait is over without a signal: a bite of them."""
    rows = tx.rows("wait_late", limit=WAKE_BITE)
    seqs = to_json([row[0] for row in rows])
    tx.post("wait_wake", seqs=seqs)
    tx.post("wait_rest", seqs=seqs)
    for _, queue in rows:
        tx.moved(queue, "waiting", "available")
