"""Adding jobs on the Redis shelf: one script for a call, or for each bite of a large one (`staging`).

What can be refused without looking is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from piecework.errors import UsageError
from piecework.job import Fence, NewBatch, NewJob, NewOperation
from piecework.store.redis import staging
from piecework.store.redis.rows import LETTERS, wait_row
from piecework.store.redis.shard import Shard, given, pack

LOWEST, HIGHEST = -(2**31), 2**31 - 1  # priorities that the line can order
BITE = 2000  # entries that one script makes; a job is one, and whatever it is found by is one more
BYTES = 1000  # of arguments that are as much work as an entry
MOST = 20_000  # entries of a call that one script must take, because what it adds to may refuse it


def add(shard: Shard, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    """The verb `add`, in one shard."""
    bites = list(_bites(jobs))
    if len(bites) <= 1:
        return _at_once(shard, jobs, batch, fence)
    if batch is None and fence is None and all(job.batch is None for job in jobs):
        answers = staging.add(shard, [told(bite, None, None) for bite in bites])
        return [id for bite, stored in zip(bites, answers, strict=True) for id in stored or (job.id for job in bite)]
    if sum(map(_weight, jobs)) > MOST:
        raise UsageError(
            f"{len(jobs):,} pieces are too many for one call on Redis, where all that follows is held up by it; add them "
            "to their batch in several calls, of 500 pieces each"
        )
    return _at_once(shard, jobs, batch, fence)


def _at_once(shard: Shard, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
    asked, fixed = told(jobs, batch, fence)
    answers: list[str] = shard.run("add", asked, *fixed)
    return answers


def _bites(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Jobs in their order, as many at a time as one script takes."""
    first = weight = 0
    for n, job in enumerate(jobs):
        weight += (more := _weight(job))
        if weight > BITE and n > first:
            yield jobs[first:n]
            first, weight = n, more
    if first < len(jobs):
        yield jobs[first:]


def _weight(job: NewJob) -> int:
    """How much work it is to store a job, in entries."""
    weight = 1 + (job.key is not None) + (job.identity is not None) + len(job.tags) + len(job.args) // BYTES
    if job.operation is not None:
        weight += 3 + len(job.operation.plan) // BYTES
        weight += sum(1 + len(change.terms) + len(change.value or "") // BYTES for change in job.operation.globals)
    return weight


def told(jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> tuple[Sequence[Any], Sequence[bytes]]:
    """What the script is told, and for each job what never changes of it."""
    headers: dict[tuple[Any, ...], int] = {}
    packed: list[Any] = []
    fixed: list[bytes] = []
    for job in jobs:
        _check(job)
        header = headers.setdefault(_header(job), len(headers) + 1)
        packed.append(_job(job, header))
        fixed.append(pack(_fixed(job)))
    asked = (
        _batch(batch) if batch is not None else False,
        (fence.id, fence.run) if fence is not None else False,
        list(headers),
        packed,
    )
    return asked, fixed


def _check(job: NewJob) -> None:
    for name in ("id", "task", "queue", "batch", "root", "piece"):
        _check_name(name, getattr(job, name))
    _check_name("identity", job.identity)
    for tag in job.tags:
        _check_name("tag", tag)
    if not LOWEST <= job.priority <= HIGHEST:
        raise UsageError(f"the priority {job.priority} is out of bounds: it can be from {LOWEST} to {HIGHEST}")


def _check_name(what: str, name: str | None) -> None:
    if name is not None and "\0" in name:
        raise UsageError(f"the {what} {name!r} has a zero byte, which ends a name in the store")


def _fixed(job: NewJob) -> list[Any]:
    """What never changes of a job, in the order of `lua/lib_1_rows.lua`."""
    fixed = [job.id, job.task, given(_root(job)), given(job.piece), given(job.options), job.args]
    return [*fixed, job.tags] if job.tags else fixed


def _header(job: NewJob) -> tuple[Any, ...]:
    """What many jobs of one call have in common, in the order of `lua/add.lua`."""
    return (
        job.task,
        job.queue,
        job.priority,
        LETTERS[job.state],
        given(job.run_at),
        given(job.delay),
        given(job.batch),
        given(_root(job)),
        given(job.expires),
        given(job.expires_at),
    )


def _root(job: NewJob) -> str | None:
    return job.root if job.root is not None else job.batch


def _job(job: NewJob, header: int) -> list[Any]:
    """What is a job's own, beside what never changes."""
    own = [
        header,
        job.id,
        given(job.key),
        given(job.ordinal),
        job.piece if job.piece is not None else str(job.ordinal),
        job.operation.cursor if job.operation is not None else False,
        _operation(job.operation) if job.operation is not None else False,
    ]
    return [*own, given(job.identity), job.tags or False] if job.tags or job.identity is not None else own


def _operation(new: NewOperation) -> list[Any]:
    changes = [[change.key, given(change.value), change.terms] for change in new.globals]
    return [
        new.digest,
        new.plan,
        changes,
        new.again,
        given(new.forked_from),
        given(new.forked_after),
        wait_row(new.wait),
        given(new.received),
    ]


def _batch(new: NewBatch) -> list[Any]:
    _check_name("batch's id", new.id)
    return [
        new.id,
        given(new.then),
        new.on_failure.value,
        given(new.then_queue),
        given(new.then_priority),
        new.always,
    ]
