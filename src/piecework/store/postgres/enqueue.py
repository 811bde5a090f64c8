"""Adding jobs on the PostgreSQL shelf, on a connection of its own or a caller's: see `asking`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.job import Fence, NewBatch, NewJob, State
from piecework.store.postgres import operation
from piecework.store.postgres.asking import Asking
from piecework.store.postgres.held import adding
from piecework.store.postgres.transaction import Collided, to_json

BITE = 2000  # rows in one step: long enough to be fast, short enough to bound the text that is parsed at once


async def add(tx: Asking, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    """The verb `add`, inside a transaction."""
    opened = await begin(tx, batch, fence)
    offer = fence.run if fence is not None else 0
    answers: dict[str, str] = {}
    for group in _groups(jobs):
        for start in range(0, len(group), BITE):
            bite = group[start : start + BITE]
            if bite[0].operation is None:
                await _add_bite(tx, bite, offer, answers)
            else:
                await _add_operations(tx, bite, offer, answers)
    if batch is not None and opened and batch.then is not None:
        await tx.post("add_below", id=batch.id, then=batch.then)
    return [answers.get(job.id, job.id) for job in jobs]


async def begin(tx: Asking, batch: NewBatch | None, fence: Fence | None) -> bool:
    """Raises `LeaseLost` where the run that adds is no longer the job's; then opens the batch. Whether it was not there."""
    if fence is not None and not await tx.row("fence_read", id=fence.id, run=fence.run):
        raise LeaseLost(f"run {fence.run} of job {fence.id} does not own its job any more")
    return batch is not None and await _open(tx, batch)


def is_plain(job: NewJob) -> bool:
    """Whether a job touches nothing that others count or look for, and may be fetched one day."""
    return job.batch is None and _is_common(job)


def is_plain_piece(job: NewJob) -> bool:
    """Whether a job is known by nothing but its id and its place in a batch, and may be fetched one day."""
    return job.batch is not None and job.ordinal is not None and _is_common(job)


def _is_common(job: NewJob) -> bool:
    return (
        job.state is State.AVAILABLE
        and job.key is None
        and job.operation is None
        and job.expires is None
        and job.expires_at is None
        and not _labelled(job)
    )


async def _open(tx: Asking, batch: NewBatch) -> bool:
    """Opens a batch; False where it exists."""
    return bool(
        await tx.run(
            "add_batch",
            id=batch.id,
            then=batch.then,
            on_failure=batch.on_failure.value,
            then_queue=batch.then_queue,
            then_priority=batch.then_priority,
            always=batch.always,
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


async def _add_operations(tx: Asking, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    new = await operation.new_among(tx, jobs, answers)
    if new:
        await _add_bite(tx, new, offer, answers)
        for job in jobs:  # the answer of one may be another of this call, and that one's a job that was there before
            held = answers.get(job.id, job.id)
            answers[job.id] = answers.get(held, held)
        await operation.store(tx, [job for job in new if answers.get(job.id, job.id) == job.id])


async def _add_bite(tx: Asking, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    first = jobs[0]
    if first.batch is not None and not await takes_pieces(tx, first.batch, jobs):
        return
    # A splitter's first run offers what is not there; a later one looks first, so that what is new keeps its order.
    stored = await _insert(tx, jobs, offer) if offer <= 1 else 0
    if stored < len(jobs):
        stored += await _sort_out(tx, jobs, offer, answers)
    if stored:
        tx.moved(first.queue, None, first.state.value, stored)
        if first.batch is not None:
            await tx.post("add_count", batch=first.batch, n=stored)
        if tagged := [job.id for job in jobs if job.tags]:
            await tx.post("add_tags", ids=to_json(tagged))


async def _insert(tx: Asking, jobs: list[NewJob], offer: int) -> int:
    """Stores those that are not there. Who has just taken the key of one may keep others waiting: see `Database`."""
    if all(job.key is None for job in jobs):
        return await _insert_now(tx, jobs, offer)
    await tx.limit_locks(brief=True)
    with adding():
        stored = await _insert_now(tx, jobs, offer)
    await tx.limit_locks(brief=False)
    return stored


async def _insert_now(tx: Asking, jobs: list[NewJob], offer: int) -> int:
    first = jobs[0]
    common = {
        "ids": to_json([job.id for job in jobs]),
        "args": to_json([job.args for job in jobs]),
        "task": first.task,
        "queue": first.queue,
        "priority": first.priority,
        "state": first.state.value,
        "run_at": first.run_at,
        "delay": first.delay or 0.0,
        "options": first.options,
    }
    title = "add_placed"
    if _labelled(first) or first.operation is not None:
        title = "add_labelled"
        common["identities"] = to_json([job.identity for job in jobs])
        common["tags"] = to_json([to_json(job.tags) if job.tags else None for job in jobs])
    if first.operation is not None:
        title = "add_operation"
        common["cursors"] = to_json([job.operation and job.operation.cursor for job in jobs])
    elif title == "add_placed" and _is_plain(first):
        return await tx.run("add_plain", **common)
    return await tx.run(
        title,
        ordinals=to_json([job.ordinal for job in jobs]),
        pieces=to_json([job.piece for job in jobs]),
        keys=to_json([job.key for job in jobs]),
        batch=first.batch,
        root=None
        if first.root == first.batch
        else first.root,  # a piece of the root's own batch does not repeat its id
        offer=offer,
        expires=first.expires,
        expires_at=None if first.expires is not None else first.expires_at,
        **common,
    )


def _is_plain(job: NewJob) -> bool:
    return job.batch is None and job.key is None and job.expires is None and job.expires_at is None


async def takes_pieces(tx: Asking, batch: str, jobs: list[NewJob]) -> bool:
    """Whether there is something to store; False for a call that was answered before its batch was sealed."""
    await tx.post("batch_lock", ids=to_json([batch]))
    row = await tx.row("batch_read", id=batch)
    if row is None:
        raise UsageError(f"there is no batch {batch}; open it by adding it together with its first pieces")
    if row[4]:
        if (await tx.row("add_known", ids=to_json([job.id for job in jobs])))[0] == len(jobs):
            return False
        raise UsageError(f"batch {batch} is sealed; it takes no further pieces")
    if row[2] in ("failed", "stopped"):
        raise JobCancelled(f"batch {batch} has {row[2]}; it takes no further pieces")
    return True


async def _sort_out(tx: Asking, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> int:
    """Some were there already: answers with what is stored, and stores what only lacked a place.

    A splitter that runs again offers what it offered before. Its new pieces come behind those that are there.
    """
    places = {
        "ids": to_json([job.id for job in jobs]),
        "ordinals": to_json([job.ordinal for job in jobs]),
        "pieces": to_json([job.piece for job in jobs]),
        "keys": to_json([job.key for job in jobs]),
    }
    stored = {row[0]: row[1:] for row in await tx.rows("add_stored", batch=jobs[0].batch, **places)}
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
        await tx.post("add_offer", ids=to_json(list(again)), given=to_json(list(again.values())), offer=offer)
    return await _house(tx, homeless, offer) if homeless else 0


async def _house(tx: Asking, jobs: list[NewJob], offer: int) -> int:
    """Stores what is not there and found no place at first."""
    if jobs[0].batch is not None:
        stored = await _append(tx, jobs, offer)
    else:
        stored = await _insert(tx, jobs, offer) if offer > 1 else 0
    if stored < len(jobs):  # who stood in the way has gone since: it begins anew
        raise Collided("a job that carried a unique key ended at this very moment")
    return stored


async def _append(tx: Asking, jobs: list[NewJob], offer: int) -> int:
    (last,) = await tx.row("add_last_place", batch=jobs[0].batch)
    moved = [msgspec.structs.replace(job, ordinal=last + 1 + n) for n, job in enumerate(jobs)]
    return await _insert(tx, moved, offer)


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
