"""Adding jobs on the SQLite shelf."""

from __future__ import annotations

from collections.abc import Sequence

from piecework.job import Fence, NewBatch, NewJob, State
from piecework.store.sql import adding, operation
from piecework.store.sql.adding import labelled
from piecework.store.sql.transaction import to_json
from piecework.store.sqlite.transaction import Transaction

MANY = 20_000  # jobs that may take seconds on a busy machine


def add(tx: Transaction, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    """The verb `add`, inside a transaction."""
    if fence is not None and not tx.row("fence_read", id=fence.id, run=fence.run):
        raise adding.lost(fence)
    opened = batch is not None and tx.run("add_batch", **adding.columns_of(batch))
    offer = fence.run if fence is not None else 0
    answers: dict[str, str] = {}
    for bite in adding.bites(jobs):
        if bite[0].operation is None:
            _add_bite(tx, bite, offer, answers)
        else:
            _add_operations(tx, bite, offer, answers)
    if batch is not None and opened and batch.then is not None:
        tx.run("add_below", id=batch.id, then=batch.then)
    return [answers.get(job.id, job.id) for job in jobs]


def _add_operations(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    held = tx.rows("add_held", rows=to_json([(job.id, job.key) for job in jobs]))
    new = operation.new_among(jobs, {row[0]: row[1:] for row in held}, answers)
    if new:
        _add_bite(tx, new, offer, answers)
        adding.follow_answers(jobs, answers)
        _keep_operations(tx, [job for job in new if answers.get(job.id, job.id) == job.id])


def _keep_operations(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    """What is kept of new operations beside their jobs, which are stored already."""
    if not jobs:
        return
    kept = operation.kept_of(jobs)
    tx.post("add_plan", rows=tx.table(operation.PLAN, kept.plans.items()))
    if kept.keys:
        tx.post("add_operation_take_key", keys=to_json(kept.keys))
    tx.post("add_operation_rows", rows=tx.table(operation.ROW, kept.rows))
    if kept.terms:
        tx.post("add_operation_terms", rows=tx.table(operation.TERM, kept.terms))


def _add_bite(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    first = jobs[0]
    placed = first.batch is not None or first.key is not None or _expires(first) or first.operation is not None
    placed = placed or labelled(first)
    if first.batch is not None and not _takes_pieces(tx, first.batch, jobs):
        return
    # A splitter's first run offers what is not there; a later one looks first, so that what is new keeps its order.
    stored = _insert(tx, jobs, offer, placed) if offer <= 1 else 0
    if stored < len(jobs):
        stored += _sort_out(tx, jobs, offer, answers)
    if stored:
        tx.moved(first.queue, None, first.state.value, stored)
        if first.batch is not None:
            tx.run("add_count", batch=first.batch, n=stored)
        if tagged := [job.id for job in jobs if job.tags]:
            tx.run("add_tags", ids=to_json(tagged))


def _insert(tx: Transaction, jobs: list[NewJob], offer: int, placed: bool) -> int:
    first = jobs[0]
    run_at = first.run_at if first.run_at is not None else tx.now + (first.delay or 0.0)
    common = {
        "task": first.task,
        "queue": first.queue,
        "priority": first.priority,
        "state": first.state.value,
        "due": int(first.state is not State.AVAILABLE or run_at <= tx.now),
        "run_at": run_at,
        "options": first.options,
    }
    if not placed:
        return tx.run("add_plain", rows=to_json([(job.id, job.args) for job in jobs]), **common)
    rows: list[tuple[object, ...]]
    title, rows = "add_placed", [(job.id, job.args, job.ordinal, job.piece, job.key) for job in jobs]
    if first.operation is not None:
        title, rows = "add_operation", [(*_labels(job), job.operation and job.operation.cursor) for job in jobs]
    elif labelled(first):
        title, rows = "add_labelled", [_labels(job) for job in jobs]
    expires_at = first.expires_at if first.expires is None else run_at + first.expires
    placing = {"batch": first.batch, "root": adding.root_of(first), "offer": offer, "expires_at": expires_at}
    return tx.run(title, rows=to_json(rows), **placing, **common)


def _labels(job: NewJob) -> tuple[object, ...]:
    return job.id, job.args, job.ordinal, job.piece, job.key, job.identity, job.tags or None


def _expires(job: NewJob) -> bool:
    return job.expires is not None or job.expires_at is not None


def _takes_pieces(tx: Transaction, batch: str, jobs: list[NewJob]) -> bool:
    """Whether there is something to store; False for a call that was answered before its batch was sealed."""
    if adding.is_open(batch, tx.row("batch_read", id=batch)):
        return True
    (known,) = tx.row("add_known", ids=to_json([job.id for job in jobs]))
    return not adding.is_repeated(batch, jobs, known)


def _sort_out(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> int:
    """Some were there already: answers with what is stored, and stores what only lacked a place, behind what is there."""
    rows = to_json([(job.id, None, job.ordinal, job.piece, job.key) for job in jobs])
    stored = {row[0]: row[1:] for row in tx.rows("add_stored", rows=rows, batch=jobs[0].batch)}
    again, homeless = adding.sorted_out(jobs, stored, offer, answers)
    if again:
        tx.run("add_offer", rows=to_json(list(again.items())), offer=offer)
    if not homeless:
        return 0
    (last,) = tx.row("add_last_place", batch=jobs[0].batch)
    return _insert(tx, adding.behind(homeless, last), offer, placed=True)
