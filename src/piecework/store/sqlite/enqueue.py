"""Adding jobs on the SQLite shelf."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.job import Fence, NewBatch, NewJob, State
from piecework.store.sqlite import operation
from piecework.store.sqlite.transaction import Transaction, to_json

MANY = 20_000  # jobs that may take seconds on a busy machine
BITE = 2000  # rows in one step: long enough to be fast, short enough to bound the text that is parsed at once


def add(tx: Transaction, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    """The verb `add`, inside a transaction."""
    if fence is not None and not tx.row("fence_read", id=fence.id, run=fence.run):
        raise LeaseLost(f"run {fence.run} of job {fence.id} does not own its job any more")
    opened = batch is not None and _open(tx, batch)
    offer = fence.run if fence is not None else 0
    answers: dict[str, str] = {}
    for group in _groups(jobs):
        for start in range(0, len(group), BITE):
            bite = group[start : start + BITE]
            if bite[0].operation is None:
                _add_bite(tx, bite, offer, answers)
            else:
                _add_operations(tx, bite, offer, answers)
    if batch is not None and opened and batch.then is not None:
        tx.run("add_below", id=batch.id, then=batch.then)
    return [answers.get(job.id, job.id) for job in jobs]


def _open(tx: Transaction, batch: NewBatch) -> bool:
    """Opens a batch; False where it exists."""
    return bool(
        tx.run(
            "add_batch",
            id=batch.id,
            then=batch.then,
            on_failure=batch.on_failure.value,
            then_queue=batch.then_queue,
            then_priority=batch.then_priority,
            always=batch.always,
            now=tx.now,
        )
    )


def _groups(jobs: Sequence[NewJob]) -> list[list[NewJob]]:
    """Neighbours that differ only in what varies from row to row, together; the order of the call is that of arrival."""
    return [list(group) for _, group in groupby(jobs, _alike)]


def _alike(job: NewJob) -> tuple[object, ...]:
    return (
        job.task,
        job.queue,
        job.priority,
        job.state,
        job.run_at,
        job.delay,
        job.options,
        job.expires,
        job.expires_at,
        job.batch,
        job.root,
        job.key is None and job.batch is None,
        job.operation is None,
        _labelled(job),
    )


def _labelled(job: NewJob) -> bool:
    return job.identity is not None or bool(job.tags)


def _add_operations(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    new = operation.new_among(tx, jobs, answers)
    if new:
        _add_bite(tx, new, offer, answers)
        for job in jobs:  # the answer of one may be another of this call, and that one's a job that was there before
            held = answers.get(job.id, job.id)
            answers[job.id] = answers.get(held, held)
        operation.store(tx, [job for job in new if answers.get(job.id, job.id) == job.id])


def _add_bite(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    first = jobs[0]
    placed = first.batch is not None or first.key is not None or _expires(first) or first.operation is not None
    placed = placed or _labelled(first)
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
        "now": tx.now,
        "options": first.options,
    }
    if not placed:
        return tx.run("add_plain", rows=to_json([(job.id, job.args) for job in jobs]), **common)
    rows: list[tuple[object, ...]]
    title, rows = "add_placed", [(job.id, job.args, job.ordinal, job.piece, job.key) for job in jobs]
    if first.operation is not None:
        title, rows = "add_operation", [(*_labels(job), job.operation and job.operation.cursor) for job in jobs]
    elif _labelled(first):
        title, rows = "add_labelled", [_labels(job) for job in jobs]
    expires_at = first.expires_at if first.expires is None else run_at + first.expires
    root = None if first.root == first.batch else first.root  # a piece of the root's own batch does not repeat its id
    return tx.run(title, rows=to_json(rows), batch=first.batch, root=root, offer=offer, expires_at=expires_at, **common)


def _labels(job: NewJob) -> tuple[object, ...]:
    return job.id, job.args, job.ordinal, job.piece, job.key, job.identity, job.tags or None


def _expires(job: NewJob) -> bool:
    return job.expires is not None or job.expires_at is not None


def _takes_pieces(tx: Transaction, batch: str, jobs: list[NewJob]) -> bool:
    """Whether there is something to store; False for a call that was answered before its batch was sealed."""
    row = tx.row("batch_read", id=batch)
    if row is None:
        raise UsageError(f"there is no batch {batch}; open it by adding it together with its first pieces")
    if row[4]:
        if tx.row("add_known", ids=to_json([job.id for job in jobs]))[0] == len(jobs):
            return False
        raise UsageError(f"batch {batch} is sealed; it takes no further pieces")
    if row[2] in ("failed", "stopped"):
        raise JobCancelled(f"batch {batch} has {row[2]}; it takes no further pieces")
    return True


def _sort_out(tx: Transaction, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> int:
    """Some were there already: answers with what is stored, and stores what only lacked a place.

    A splitter that runs again offers what it offered before. Its new pieces come behind those that are there.
    """
    rows = to_json([(job.id, None, job.ordinal, job.piece, job.key) for job in jobs])
    stored = {row[0]: row[1:] for row in tx.rows("add_stored", rows=rows, batch=jobs[0].batch)}
    again: dict[str, str] = {}
    homeless: list[NewJob] = []
    for job in jobs:
        if job.id not in stored:
            homeless.append(job)
            continue
        found, task, args, batch, offered, offered_as = stored[job.id]
        answers[job.id] = found
        if found != job.id and job.batch is not None and batch == job.batch:
            _check_once(job, found in again or (offered == offer and offered_as != job.id), offer)
            _check_same(job, task, args)
            again[found] = job.id
    if again:
        tx.run("add_offer", rows=to_json(list(again.items())), offer=offer)
    return _append(tx, homeless, offer) if homeless else 0


def _append(tx: Transaction, jobs: list[NewJob], offer: int) -> int:
    (last,) = tx.row("add_last_place", batch=jobs[0].batch)
    moved = [msgspec.structs.replace(job, ordinal=last + 1 + n) for n, job in enumerate(jobs)]
    return _insert(tx, moved, offer, placed=True)


def _check_once(job: NewJob, twice: bool, offer: int) -> None:
    if offer and twice:
        raise SplitChanged(f"piece {_name(job)} was offered twice; a split's keys must be different from each other")


def _check_same(job: NewJob, task: str, args: str) -> None:
    if (task, args) != (job.task, job.args):
        raise SplitChanged(
            f"piece {_name(job)} was offered before as {task}({args[:200]}) and now as {job.task}({job.args[:200]}); "
            "a splitter that is run again must offer the same pieces: give them keys that tell them apart, or make it "
            "repeatable"
        )


def _name(job: NewJob) -> str:
    return repr(job.piece) if job.piece is not None else f"number {job.ordinal}"
