"""Adding very many plain jobs at once on the PostgreSQL shelf: by COPY, which costs the server about half of an INSERT.

COPY knows no ON CONFLICT. So it is hoped that none of the jobs is stored yet; where one is, because a call is sent again,
nothing of it is kept, and the caller goes the usual way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from psycopg.errors import UniqueViolation

from piecework.job import NewJob, State
from piecework.store.postgres import enqueue
from piecework.store.postgres.transaction import Transaction

MANY = 500  # jobs from which on the trips that a COPY takes are worth it
BITE = 2000  # lines that are sent at once


class KnownError(Exception):
    """One of the jobs is stored already; nothing was added."""


def suits(jobs: Sequence[NewJob]) -> bool:
    """Whether these jobs are for this way."""
    return len(jobs) >= MANY and all(map(enqueue.is_plain, jobs))


def add(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    """Adds them inside a transaction without a pipeline, which COPY does not go along with."""
    now = tx.now if tx.now is not None else float(tx.row("now_read")[0])
    lines = _lines(jobs, now)
    try:
        with tx.con.cursor().copy(tx.statement("add_copy")) as copy:
            for bite in _joined(lines):
                copy.write(bite)
    except UniqueViolation as error:
        raise KnownError from error
    for queue, n in Counter(job.queue for job in jobs).items():
        tx.moved(queue, None, State.AVAILABLE.value, n)


def _joined(lines: Iterator[str]) -> Iterator[str]:
    kept: list[str] = []
    for line in lines:
        kept.append(line)
        if len(kept) == BITE:
            yield "".join(kept)
            kept.clear()
    yield "".join(kept)


def _lines(jobs: Sequence[NewJob], now: float) -> Iterator[str]:
    """What differs is written for each job; what many have in common, once."""
    ends: dict[tuple[object, ...], str] = {}
    for job in jobs:
        common = (job.task, job.queue, job.priority, job.options, job.run_at, job.delay)
        end = ends.get(common)
        if end is None:
            end = ends[common] = _end(job, now)
        yield f"{_text(job.id)}\t{_text(job.args)}\t{end}"


def _end(job: NewJob, now: float) -> str:
    run_at = job.run_at if job.run_at is not None else now + (job.delay or 0.0)
    options = "\\N" if job.options is None else _text(job.options)
    due = "t" if run_at <= now else "f"
    return f"{_text(job.task)}\t{_text(job.queue)}\t{job.priority}\t{options}\tavailable\t{due}\t{run_at!r}\t{now!r}\n"


def _text(value: str) -> str:
    """A value as COPY's text format has it."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
