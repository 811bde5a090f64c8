"""What people ask of jobs by hand: which states a verb is for, who asked and why, and why a job cannot come back."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator

from piecework.job import Filter, Record, State
from piecework.options import check_text
from piecework.store.protocol import Store

RETRIABLE = State.FAILED, State.CANCELLED, State.PARKED
# What waits first: it takes along what it waits for.
UNFINISHED = State.WAITING, State.RUNNING, State.AVAILABLE, State.PARKED


def why_and_who(verb: str, reason: str, by: str | None) -> tuple[str, str]:
    """What is kept of a verb: why, and who; without `by`, the user and host of this process. Raises `BadOption`."""
    return check_text(reason, f"{verb}: reason"), whoami() if by is None else check_text(by, f"{verb}: by", longest=200)


def whoami() -> str:
    """The user and host of this process, for those who ask later who it was."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


def why_not_back(store: Store, record: Record) -> str:
    """What keeps a failed, cancelled or parked job from coming back."""
    for job in _and_above(store, record):
        if job.key is not None and _is_carried(store, job):
            who = "its" if job.id == record.id else f"its split's ({job.id})"
            return f"{who} unique key {job.key!r} is carried by another job that has not finished"
    if record.state is State.PARKED and record.finished_at is None:
        return "the batch that it is a piece of has ended; retry the split"
    return "the batch that it is a piece of has composed, and what a compose has read does not change"


def _is_carried(store: Store, job: Record) -> bool:
    """Whether another job that has not finished carries the unique key of this one."""
    carriers = (store.find(Filter(key=job.key, state=state), limit=2) for state in State if not state.finished)
    return any(other.id != job.id for found in carriers for other in found)


def _and_above(store: Store, record: Record) -> Iterator[Record]:
    """The job, and the jobs that wait for it."""
    yield record
    while record.batch is not None:
        batch = store.batch(record.batch)
        found = store.get([batch.then]) if batch is not None and batch.then is not None else []
        if not found:
            return
        record = found[0]
        yield record
