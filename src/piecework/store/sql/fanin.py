"""Fan-in: counting pieces, sealing, releasing or failing continuations, stopping trees.

Everything here runs inside the transaction that ended the piece. Where a shelf has many writers, pieces that end well,
and batches that do, are counted beside others: a batch's row is locked by who counts in it, and its continuation waits
for nobody else. Whatever goes another way (a batch that fails, a tree that is stopped) needs the store for itself: a
transaction that is not alone begins anew. Where there is one writer at a time, a counter that is read is a counter that
holds until the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from piecework.job import ErrorInfo, State
from piecework.outcome import Settlement
from piecework.store.sql import waits
from piecework.store.sql.history import remember
from piecework.store.sql.transaction import Transaction, to_json

STOP_BITE = (
    1000  # pieces that are cancelled in one transaction: some when a batch dies, the rest when a fetch meets them
)
ALWAYS = 14  # where a batch's row says that its continuation is released whatever becomes of it
ENDED = "its batch had ended"  # why those are cancelled that are met later

_ENDS = "completed", "failed", "cancelled"
COUNTED = {State.COMPLETED: "completed", State.FAILED: "failed", State.CANCELLED: "cancelled"}


class Counted(NamedTuple):
    """What was sent about batches, and whose answer has to be read."""

    counters: Callable[[], list[Any]] | None
    sealed: list[str]


NOTHING = Counted(None, [])


def before(tx: Transaction, settlements: list[Settlement]) -> tuple[list[Settlement], dict[str, str]]:
    """Splitters first: what they came to depends on what became of their batch. Also answers which batch each seals."""
    asked = [s.id for s in settlements if s.seal is not None or s.state in (State.CANCELLED, State.FAILED)]
    own = {row[0]: row[1:] for row in tx.rows("own_read_all", jobs=to_json(asked))} if asked else {}
    judged = [_judge_splitter(tx, s, own.get(s.id)) for s in settlements]
    for s in judged:
        if s.state in (State.CANCELLED, State.FAILED) and s.id in own and own[s.id][2] == "open":
            tx.must_be_alone()
    open = {job: batch[0] for job, batch in own.items() if not batch[4]}
    return judged, {s.id: open.get(s.id) or _without_batch(tx, s) for s in judged if s.seal is not None}


def _judge_splitter(tx: Transaction, s: Settlement, batch: Any) -> Settlement:
    if batch is None or (s.seal is None and s.state not in (State.CANCELLED, State.FAILED)):
        return s
    state, sealed, always = batch[2], batch[4], batch[6]
    if s.seal is not None and sealed:
        return s
    if state == "failed" and not always:
        return _failed(s, why_failed(tx, batch[0]))
    if state == "stopped" and not always:
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


def _without_batch(tx: Transaction, s: Settlement) -> str:
    """A splitter without a single piece has not opened its batch; sealing does."""
    id = s.id if tx.row("batch_read", id=s.id) is None else f"{s.id}.{s.run}"
    tx.post("add_batch", id=id, then=s.id, on_failure="finish", then_queue=None, then_priority=None, always=False)
    tx.post("add_below", id=id, then=s.id)
    return id


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


def post_count(tx: Transaction, ends: Counter[tuple[str, str]], seals: Collection[str]) -> Counted:
    """Sends what the ends of pieces change in their batches, and seals; locks first, in the one order of all."""
    if not ends and not seals:
        return NOTHING
    ids = {batch for batch, _ in ends} | set(seals)
    if len(ids) > 1 and not tx.only_writer:
        tx.post("batch_lock", ids=to_json(sorted(ids)))
    for id in seals:
        tx.post("batch_seal", id=id)
    return Counted(_post_counters(tx, ends) if ends else None, list(seals))


def _post_counters(tx: Transaction, ends: Counter[tuple[str, str]]) -> Callable[[], list[Any]]:
    rows = [(id, *(ends[id, end] for end in _ENDS)) for id in sorted({batch for batch, _ in ends})]
    return tx.ask("settle_batches", rows=tx.table(("id", *_ENDS), rows))


def after(tx: Transaction, counted: Counted, special: Iterable[Settlement]) -> None:
    """Follows every end upward, and closes what is below those that ended badly."""
    for s in special:
        if tx.alone and s.state in (State.CANCELLED, State.FAILED):
            state = "failed" if s.state is State.FAILED else "stopped"
            close(tx, s.id, state, s.reason or "the split did not end well")
    _follow(tx, counted)
    if counted.sealed:  # a piece failed before the last was offered, and the operation is to look at that
        failed = [row[0] for row in tx.rows("batch_failed", ids=to_json(counted.sealed))]
        if failed:
            _release(tx, failed)


def count(tx: Transaction, ends: Counter[tuple[str, str]], touched: Collection[str] = ()) -> None:
    """Lowers `open` for pieces that ended, and ends the batches that this brought to their end, upward to the root."""
    if ends or touched:
        _follow(tx, Counted(_post_counters(tx, ends) if ends else None, list(touched)))


def _follow(tx: Transaction, counted: Counted) -> None:
    while True:
        told: dict[str, str | None] = dict(counted.counters()) if counted.counters is not None else {}
        if counted.sealed:
            told |= dict(tx.rows("settle_ripe_batches", ids=to_json(counted.sealed)))
        if done := [id for id, end in told.items() if end == "done"]:
            tx.post("batch_done", ids=to_json(done))
            _release(tx, done)
        ends = nothing()
        for id, end in told.items():
            if end == "failed":
                tx.must_be_alone()
                ends += _fail(tx, id)
        if not ends:
            return
        counted = Counted(_post_counters(tx, ends), [])


def _release(tx: Transaction, batches: Sequence[str]) -> None:
    """What waited for these batches may run."""
    for before, now in tx.release(to_json(batches)):
        tx.moved(before, "waiting", None)
        tx.moved(now, None, "available")


def _fail(tx: Transaction, id: str) -> Counter[tuple[str, str]]:
    """Fails a batch and what waited for it. Returns what that counts in the batch above."""
    batch = tx.row("batch_read", id=id)
    then, error = batch[1], why_failed(tx, id)
    tx.post("batch_end", id=id, state="failed")
    stop_below(tx, id, error.message)
    if batch[ALWAYS]:
        _release(tx, [id])
        return nothing()
    if then is None:
        return Counter()
    record = tx.row("then_read", id=then)
    if record and tx.run("batch_fail_then", id=then, error=to_json(error)):
        tx.moved(record[0], record[4], "failed")
        remember(tx, [(then, record[3], record[2], "failed", to_json(error), None)])
        if record[1] is not None:
            return Counter({(record[1], "failed"): 1})
    elif record:
        # The splitter still runs: it is asked to stop, and fails with this batch when it answers.
        tx.post("cancel_ask", ids=to_json([then]), how=waits.TO_STOP, reason=error.message, by=None)
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


def close_all(tx: Transaction, jobs: Sequence[str], state: str, reason: str) -> None:
    """The same for many, of which few have one."""
    for job in sorted(_with_batch(tx, jobs)):
        close(tx, job, state, reason)


def _with_batch(tx: Transaction, jobs: Sequence[str]) -> set[str]:
    """Those of these jobs that have a batch below them."""
    return {row[0] for row in tx.rows("own_read_all", jobs=to_json(list(jobs)))} if jobs else set()


def follow_cancelled(tx: Transaction, rows: Sequence[Any], reason: str) -> None:
    """Counts jobs that somebody cancelled (id, queue, state before, batch, when it was counted before), in their order.

    Batch by batch, because the end of one may end another whose pieces come later.
    """
    waits.pause(tx, rows)
    above = _with_batch(tx, [row[0] for row in rows])
    for batch, group in groupby(rows, key=itemgetter(3)):
        n = 0
        for id, queue, state, _, counted_at in group:
            tx.moved(queue, state, "cancelled")
            if counted_at is not None and batch is not None:
                tx.post("cancel_recount", id=batch)
            else:
                n += 1
            if id in above:
                close(tx, id, "stopped", reason)
        if batch is not None:
            count(tx, Counter({(batch, "cancelled"): n}))


def end_batch(tx: Transaction, id: str, state: str, reason: str) -> bool:
    """Ends an open batch without releasing anything; nothing below it starts any more."""
    if not tx.run("batch_end", id=id, state=state):
        return False
    stop_below(tx, id, reason)
    return True


def is_loose(tx: Transaction, id: str) -> bool:
    """Whether an id names a batch without a continuation."""
    row = tx.row("batch_read", id=id)
    return row is not None and row[1] is None


def stop_below(tx: Transaction, top: str, reason: str) -> None:
    """Nothing below this batch starts any more: waiting pieces end with their batches, running ones are asked to stop."""
    tx.must_be_alone()
    batches = [row[0] for row in tx.rows("stop_tree", batch=top)]
    tx.post("stop_batches", batches=to_json(batches), top=top)
    tx.post("stop_running", batches=to_json(batches), reason=reason)
    cancel_open(tx, batches, reason)


def cancel_open(tx: Transaction, batches: Sequence[str], reason: str) -> None:
    """Cancels pieces of dead batches that have not started; nothing is released by their ends.

    All that wait for batches of their own, because no fetch would ever meet them, and a bite of the others.
    """
    rows = tx.rows("stop_waiting", batches=to_json(batches))
    room = STOP_BITE
    for batch in batches:
        found = tx.rows("stop_available", batch=batch, limit=room)
        rows += [row for row in found if row[2] == "available"]
        room -= len(found)
        if room <= 0:
            break
    cancel_unstarted(tx, rows, reason)


def cancel_unstarted(tx: Transaction, rows: Sequence[Any], reason: str) -> None:
    """Cancels pieces of dead batches (id, queue, state, batch), and counts them."""
    if not rows:
        return
    tx.post("cancel_rows", ids=to_json([row[0] for row in rows]), reason=reason, by=None)
    waits.pause(tx, rows)
    ends: Counter[tuple[str, str]] = Counter()
    for _, queue, state, batch in rows:
        tx.moved(queue, state, "cancelled")
        ends[batch, "cancelled"] += 1
    count(tx, ends)


def nothing() -> Counter[tuple[str, str]]:
    """No ends to count."""
    return Counter()
