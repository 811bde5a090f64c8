"""What is decided when jobs are added, on any shelf on SQL.

How they are stored is each shelf's own: it is its hottest path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.job import Fence, NewBatch, NewJob

BITE = 2000  # rows in one step: long enough to be fast, short enough to bound the text that is parsed at once
BYTES = 64 * 1024 * 1024  # of arguments in one step; neither database takes a value of a gigabyte


def lost(fence: Fence) -> LeaseLost:
    """The error of a run that adds jobs and is no longer its job's."""
    return LeaseLost(f"run {fence.run} of job {fence.id} does not own its job any more")


def columns_of(batch: NewBatch) -> dict[str, Any]:
    """A new batch as the values of its row."""
    return {
        "id": batch.id, "then": batch.then, "on_failure": batch.on_failure.value, "then_queue": batch.then_queue,
        "then_priority": batch.then_priority, "always": batch.always,
    }  # fmt: skip


# ── what goes together ───────────────────────────────────────────────────────────────────────────


def bites(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """Neighbours that differ only in what varies from row to row, together; the order of the call is that of arrival."""
    for _, neighbours in groupby(jobs, _alike):
        bite, size = list[NewJob](), 0
        for job in neighbours:
            if bite and (len(bite) == BITE or size + len(job.args) > BYTES):
                yield bite
                bite, size = [], 0
            bite.append(job)
            size += len(job.args)
        yield bite


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
        labelled(job),
    )


def labelled(job: NewJob) -> bool:
    """Whether a job has something by which it is found."""
    return job.identity is not None or bool(job.tags)


def root_of(job: NewJob) -> str | None:
    """What is kept as the root: a piece of the root's own batch does not repeat its id."""
    return None if job.root == job.batch else job.root


# ── what is there already ────────────────────────────────────────────────────────────────────────


def is_open(batch: str, row: Any) -> bool:
    """Whether a batch takes pieces, by its row; False once it is sealed, when only what it has may be said again."""
    if row is None:
        raise UsageError(f"there is no batch {batch}; open it by adding it together with its first pieces")
    if row[4]:
        return False
    if row[2] in ("failed", "stopped"):
        raise JobCancelled(f"batch {batch} has {row[2]}; it takes no further pieces")
    return True


def is_repeated(batch: str, jobs: Sequence[NewJob], known: int) -> bool:
    """True for a call that was answered before the batch was sealed: all of its jobs are known. Else it is refused."""
    if known == len(jobs):
        return True
    raise UsageError(f"batch {batch} is sealed; it takes no further pieces")


class Sorted(NamedTuple):
    """Jobs of which some were there already."""

    again: dict[str, str]  # what is stored of a piece, and as what it is offered now
    homeless: list[NewJob]  # what is not there


def sorted_out(
    jobs: Sequence[NewJob], stored: Mapping[str, Sequence[Any]], offer: int, answers: dict[str, str]
) -> Sorted:
    """Answers with what is stored. A splitter that runs again offers what it offered before."""
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
    return Sorted(again, homeless)


def behind(jobs: Sequence[NewJob], last: int) -> list[NewJob]:
    """The same pieces, placed behind the last one that is there."""
    return [msgspec.structs.replace(job, ordinal=last + 1 + n) for n, job in enumerate(jobs)]


def follow_answers(jobs: Sequence[NewJob], answers: dict[str, str]) -> None:
    """The answer of one operation may be another of this call, and that one's a job that was there before."""
    for job in jobs:
        held = answers.get(job.id, job.id)
        answers[job.id] = answers.get(held, held)


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
