"""Adding jobs on the PostgreSQL shelf, on a connection of its own or a caller's: see `asking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from piecework.job import Fence, NewBatch, NewJob, State
from piecework.store.postgres.asking import Asking
from piecework.store.postgres.held import inserting
from piecework.store.postgres.transaction import Collided, objects
from piecework.store.sql import adding, operation
from piecework.store.sql.adding import labelled
from piecework.store.sql.transaction import to_json


async def add(tx: Asking, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    """The verb `add`, inside a transaction."""
    opened = await begin(tx, batch, fence)
    offer = fence.run if fence is not None else 0
    answers: dict[str, str] = {}
    for bite in adding.bites(jobs):
        if bite[0].operation is None:
            await _add_bite(tx, bite, offer, answers)
        else:
            await _add_operations(tx, bite, offer, answers)
    if batch is not None and opened and batch.then is not None:
        await tx.post("add_below", id=batch.id, then=batch.then)
    return [answers.get(job.id, job.id) for job in jobs]


async def begin(tx: Asking, batch: NewBatch | None, fence: Fence | None) -> bool:
    """Raises `LeaseLost` where the run that adds is no longer the job's; then opens the batch.

    Whether it was not there.
    """
    if fence is not None and not await tx.row("fence_read", id=fence.id, run=fence.run):
        raise adding.lost(fence)
    return batch is not None and bool(await tx.run("add_batch", **adding.columns_of(batch)))


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
        and not labelled(job)
    )


async def _add_operations(tx: Asking, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> None:
    asked = {"ids": to_json([job.id for job in jobs]), "keys": to_json([job.key for job in jobs])}
    held = await tx.rows("add_held", **asked)
    new = operation.new_among(jobs, {row[0]: row[1:] for row in held}, answers)
    if new:
        await _add_bite(tx, new, offer, answers)
        adding.follow_answers(jobs, answers)
        await _keep_operations(tx, [job for job in new if answers.get(job.id, job.id) == job.id])


async def _keep_operations(tx: Asking, jobs: Sequence[NewJob]) -> None:
    """What is kept of new operations beside their jobs, which are stored already."""
    if not jobs:
        return
    kept = operation.kept_of(jobs)
    await _hold_plans(tx, kept.plans)
    if kept.keys:
        await tx.post("add_operation_take_key", keys=to_json(kept.keys))
    await tx.post("add_operation_rows", rows=objects(operation.ROW, kept.rows))
    if kept.terms:
        await tx.post("add_operation_terms", rows=objects(operation.TERM, kept.terms))


async def store_plans(tx: Asking, plans: Mapping[str, str]) -> None:
    """Stores what is new of the plans."""
    await tx.post("add_plan", rows=objects(operation.PLAN, plans.items()))


async def _hold_plans(tx: Asking, plans: Mapping[str, str]) -> None:
    """Stores what is new of the plans, and keeps all of them from being pruned until the operations are there."""
    await store_plans(tx, plans)
    if len(await tx.rows("add_plan_hold", digests=to_json(list(plans)))) < len(plans):
        raise Collided("a plan was pruned at this very moment")


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
    with inserting():
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
    if labelled(first) or first.operation is not None:
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
        root=adding.root_of(first),
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
    if adding.is_open(batch, await tx.row("batch_read", id=batch)):
        return True
    (known,) = await tx.row("add_known", ids=to_json([job.id for job in jobs]))
    return not adding.is_repeated(batch, jobs, known)


async def _sort_out(tx: Asking, jobs: list[NewJob], offer: int, answers: dict[str, str]) -> int:
    """Some were there already: answers with what is stored, and stores what only lacked a place."""
    places = {
        "ids": to_json([job.id for job in jobs]),
        "ordinals": to_json([job.ordinal for job in jobs]),
        "pieces": to_json([job.piece for job in jobs]),
        "keys": to_json([job.key for job in jobs]),
    }
    stored = {row[0]: row[1:] for row in await tx.rows("add_stored", batch=jobs[0].batch, **places)}
    again, homeless = adding.sorted_out(jobs, stored, offer, answers)
    if again:
        await tx.post("add_offer", ids=to_json(list(again)), given=to_json(list(again.values())), offer=offer)
    return await _house(tx, homeless, offer) if homeless else 0


async def _house(tx: Asking, jobs: list[NewJob], offer: int) -> int:
    """Stores what is not there and found no place at first."""
    if jobs[0].batch is not None:  # behind those that are there
        (last,) = await tx.row("add_last_place", batch=jobs[0].batch)
        stored = await _insert(tx, adding.behind(jobs, last), offer)
    else:
        stored = await _insert(tx, jobs, offer) if offer > 1 else 0
    if stored < len(jobs):  # who stood in the way has gone since: it begins anew
        raise Collided("a job that carried a unique key ended at this very moment")
    return stored
