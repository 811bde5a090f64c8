"""Fan-in on the SQLite shelf: counting pieces, sealing, releasing or failing continuations, stopping trees.

Everything here runs inside the transaction that ended the piece. There is one writer at a time, so a counter that is
read is a counter that holds until the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from piecework.job import ErrorInfo, State
from piecework.outcome import Settlement
from piecework.store.sqlite import waits
from piecework.store.sqlite.history import remember
from piecework.store.sqlite.transaction import Transaction, to_json

STOP_BITE = (
    1000  # pieces that are cancelled in one transaction: some when a batch dies, the rest when a fetch meets them
)
ALWAYS = 14  # where a batch's row says that its continuation is released whatever becomes of it
ENDED = "its batch had ended"  # why those are cancelled that are met later

COUNTED = {State.COMPLETED: "completed", State.FAILED: "failed", State.CANCELLED: "cancelled"}


def before(tx: Transaction, settlements: list[Settlement]) -> list[Settlement]:
    """Splitters first: what they came to depends on what became of their batch."""
    return [_judge_splitter(tx, s) for s in settlements]


def _judge_splitter(tx: Transaction, s: Settlement) -> Settlement:
    if s.seal is None and s.state not in (State.CANCELLED, State.FAILED):
        return s
    batch = tx.row("own_read", job=s.id)
    if batch is None or (s.seal is not None and batch[4]):
        return s if s.seal is None else _without_batch(tx, s)
    state = batch[2]
    if batch[ALWAYS]:
        return s if s.seal is None else _judge_step(tx, s, batch)
    if state == "failed":
        return _failed(s, why_failed(tx, batch[0]))
    if state == "stopped":
        return msgspec.structs.replace(s, state=State.CANCELLED, seal=None, history="cancelled")
    return s if s.seal is None else _judge_step(tx, s, batch)


def _judge_step(tx: Transaction, s: Settlement, batch: Any) -> Settlement:
    """A splitter that has offered all: it must have offered again what an earlier run had."""
    assert s.seal is not None
    if batch[5] != s.seal:
        strays = [str(row[0]) for row in tx.rows("settle_strays", batch=batch[0], run=s.run)]
        if strays:
            return _failed(s, _changed(strays, s.seal))
    return s


def _without_batch(tx: Transaction, s: Settlement) -> Settlement:
    """A splitter without a single piece has not opened its batch; sealing does."""
    id = s.id if tx.row("batch_read", id=s.id) is None else f"{s.id}.{s.run}"
    tx.run(
        "add_batch",
        id=id,
        then=s.id,
        on_failure="finish",
        then_queue=None,
        then_priority=None,
        always=False,
        now=tx.now,
    )
    tx.run("add_below", id=id, then=s.id)
    return s


def _failed(s: Settlement, error: ErrorInfo) -> Settlement:
    return msgspec.structs.replace(
        s, state=State.FAILED, error=error, seal=None, history="failed", cursor=None, delay=None
    )


def _changed(strays: list[str], offered: int) -> ErrorInfo:
    shown = ", ".join(strays[:5]) + (", …" if len(strays) > 5 else "")
    return ErrorInfo(
        "SplitChanged",
        f"the splitter was run again and offered {offered} pieces, but not these, which an earlier run had offered: {shown}. "
        "Make the splitter repeatable, or cancel those pieces, and retry the job",
    )


def after(tx: Transaction, ends: Counter[tuple[str, str]], special: Iterable[Settlement]) -> None:
    """Counts the pieces that ended, seals what is to be sealed, and follows every end upward."""
    touched: set[str] = set()
    for s in special:
        if s.seal is not None:
            own = tx.row("own_read", job=s.id)
            tx.run("batch_seal", id=own[0])
            touched.add(own[0])
            if own[2] == "failed":
                _release(tx, own)  # a piece failed before the last was offered, and the operation is to look at that
        elif s.state in (State.CANCELLED, State.FAILED):
            close(
                tx, s.id, "failed" if s.state is State.FAILED else "stopped", s.reason or "the split did not end well"
            )
    count(tx, ends, touched)


def count(tx: Transaction, ends: Counter[tuple[str, str]], touched: Iterable[str] = ()) -> None:
    """Lowers `open` for pieces that ended, and ends the batches that this brought to their end, upward to the root."""
    pending = set(touched)
    while ends or pending:
        if ends:
            ids = {batch for batch, _ in ends}
            rows = [[id, *(ends[id, end] for end in ("completed", "failed", "cancelled"))] for id in ids]
            tx.run("settle_batches", rows=to_json(rows))
            pending |= ids
        failing = [batch for batch, end in ends if end == "failed"]
        ripe = [row[0] for row in tx.rows("settle_ripe_batches", ids=to_json(list(pending)), failing=to_json(failing))]
        ends, pending = Counter(), set()
        for id in ripe:
            ends += _end(tx, id)


def _end(tx: Transaction, id: str) -> Counter[tuple[str, str]]:
    """Ends a batch: releases its continuation, or fails it. Returns what that counts in the batch above."""
    row = tx.row("batch_read", id=id)
    on_failure, failed, cancelled = row[3], row[8], row[9]
    if (failed or cancelled) and on_failure != "compose":
        return _fail(tx, row)
    tx.run("batch_end", id=id, state="done", now=tx.now)
    _release(tx, row)
    return Counter()


def _release(tx: Transaction, batch: Any) -> None:
    id, then, queue, priority = batch[0], batch[1], batch[12], batch[13]
    record = tx.row("then_read", id=then) if then is not None else None
    if record and tx.run(
        "batch_release", id=then, batch=id, always=batch[ALWAYS], queue=queue, priority=priority, now=tx.now
    ):
        tx.moved(record[0], "waiting", None)
        tx.moved(queue or record[0], None, "available")


def _fail(tx: Transaction, batch: Any) -> Counter[tuple[str, str]]:
    id, then = batch[0], batch[1]
    error = why_failed(tx, id)
    tx.run("batch_end", id=id, state="failed", now=tx.now)
    stop_below(tx, id, error.message)
    if batch[ALWAYS]:
        _release(tx, batch)
        return Counter()
    if then is None:
        return Counter()
    record = tx.row("then_read", id=then)
    if record and tx.run("batch_fail_then", id=then, error=to_json(error), now=tx.now):
        tx.moved(record[0], record[4], "failed")
        remember(tx, [(then, record[3], record[2], "failed", to_json(error), None)])
        if record[1] is not None:
            return Counter({(record[1], "failed"): 1})
    elif record:
        # The splitter still runs: it is asked to stop, and fails with this batch when it answers.
        tx.run("cancel_ask", ids=to_json([then]), how=waits.TO_STOP, reason=error.message, by=None, now=tx.now)
    return Counter()


def why_failed(tx: Transaction, batch: str) -> ErrorInfo:
    row = tx.row("batch_first_failure", batch=batch)
    if row is None:
        return ErrorInfo("PieceFailed", "a piece failed")
    key, state, error, reason = row
    if error is None:
        return ErrorInfo("PieceFailed", f"piece {key} was {state}: {reason or 'no reason was given'}")
    info = msgspec.json.decode(error, type=ErrorInfo)
    return ErrorInfo("PieceFailed", f"piece {key} failed: {info.type}: {info.message}", info.traceback)


def close(tx: Transaction, job: str, state: str, reason: str) -> None:
    """Ends the batch below a job that ended by itself, if it has one and that is open."""
    own = tx.row("own_read", job=job)
    if own is not None:
        end_batch(tx, own[0], state, reason)


def follow_cancelled(tx: Transaction, rows: Sequence[Any], reason: str) -> None:
    """Counts jobs that somebody cancelled (id, queue, state before, batch, when it was counted before), in their order.

    Batch by batch, because the end of one may end another whose pieces come later.
    """
    waits.pause(tx, rows)
    for batch, group in groupby(rows, key=itemgetter(3)):
        n = 0
        for id, queue, state, _, counted_at in group:
            tx.moved(queue, state, "cancelled")
            if counted_at is not None and batch is not None:
                tx.run("cancel_recount", id=batch)
            else:
                n += 1
            close(tx, id, "stopped", reason)
        if batch is not None:
            count(tx, Counter({(batch, "cancelled"): n}))


def end_batch(tx: Transaction, id: str, state: str, reason: str) -> bool:
    """Ends an open batch without releasing anything; nothing below it starts any more."""
    if not tx.run("batch_end", id=id, state=state, now=tx.now):
        return False
    stop_below(tx, id, reason)
    return True


def is_loose(tx: Transaction, id: str) -> bool:
    """Whether an id names a batch without a continuation."""
    row = tx.row("batch_read", id=id)
    return row is not None and row[1] is None


def stop_below(tx: Transaction, top: str, reason: str) -> None:
    """Nothing below this batch starts any more: waiting pieces end with their batches, running ones are asked to stop."""
    (batches,) = tx.row("stop_tree", batch=top)
    tx.run("stop_batches", batches=batches, top=top, now=tx.now)
    tx.run("stop_running", batches=batches, reason=reason)
    cancel_open(tx, msgspec.json.decode(batches, type=list[str]), reason)


def cancel_open(tx: Transaction, batches: Sequence[str], reason: str) -> None:
    """Cancels pieces of dead batches that have not started; nothing is released by their ends.

    All that wait for batches of their own, because no fetch would ever meet them, and a bite of the others.
    """
    rows = tx.rows("stop_waiting", batches=to_json(batches))
    room = STOP_BITE
    for batch in batches:
        looked_at, found = tx.row("stop_available", batch=batch, limit=room)
        rows += msgspec.json.decode(found)
        room -= looked_at
        if room <= 0:
            break
    cancel_unstarted(tx, rows, reason)


def cancel_unstarted(tx: Transaction, rows: Sequence[Any], reason: str) -> None:
    """Cancels pieces of dead batches (id, queue, state, batch), and counts them."""
    if not rows:
        return
    tx.run("cancel_rows", ids=to_json([row[0] for row in rows]), reason=reason, by=None, now=tx.now)
    waits.pause(tx, rows)
    ends: Counter[tuple[str, str]] = Counter()
    for _, queue, state, batch in rows:
        tx.moved(queue, state, "cancelled")
        ends[batch, "cancelled"] += 1
    count(tx, ends)


def nothing() -> Counter[tuple[str, str]]:
    """No ends to count."""
    return Counter()
