"""Adding very many jobs at once on the PostgreSQL shelf: by COPY, which costs the server about half of an INSERT.

COPY knows no ON CONFLICT. So it is hoped that none of the jobs is stored yet; where one is, because a call is sent
again, nothing of it is kept, and the caller goes the usual way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from psycopg.errors import UniqueViolation

from piecework.job import Fence, NewBatch, NewJob, State
from piecework.store.postgres import enqueue
from piecework.store.postgres.asking import Own, at_once
from piecework.store.postgres.transaction import Transaction

MANY = 500  # jobs from which on the trips that a COPY takes are worth it
BITE = 2000  # lines that are made at once
SENT = 1 << 18  # characters that are sent at once

# All but what is a job's own: its id and arguments, and a piece's place and key.
_alike = attrgetter(
    "task", "queue", "priority", "options", "run_at", "delay", "batch", "root", "state", "key", "expires", "expires_at",
    "operation", "identity", "tags",
)  # fmt: skip

Groups = list[list[NewJob]]  # neighbours that have in common what is not each one's own


class KnownError(Exception):
    """One of the jobs is stored already; nothing was added."""


def plain(jobs: Sequence[NewJob]) -> Groups:
    """Plain jobs in groups; none where these are not for this way."""
    groups = _groups(jobs) if len(jobs) >= MANY and enqueue.is_plain(jobs[0]) else []
    return groups if all(enqueue.is_plain(group[0]) for group in groups) else []


def pieces(jobs: Sequence[NewJob], fence: Fence | None) -> Groups:
    """Pieces of one batch in groups; none where these are not for this way, or may be known from an earlier run."""
    new = fence is None or fence.run <= 1
    groups = _groups(jobs) if new and len(jobs) >= MANY and enqueue.is_plain_piece(jobs[0]) else []
    one = len({group[0].batch for group in groups}) == 1
    return groups if one and all(enqueue.is_plain_piece(group[0]) for group in groups) else []


def _groups(jobs: Sequence[NewJob]) -> Groups:
    return [list(group) for _, group in groupby(jobs, _alike)]


def add(tx: Transaction, groups: Groups) -> None:
    """Adds plain jobs, inside a transaction without a pipeline, which COPY does not go along with."""
    _copy(tx, "add_copy", (line for group, end in _ends(tx, groups) for line in _lines(group, end)))
    _count(tx, groups)


def add_pieces(tx: Transaction, groups: Groups, batch: NewBatch | None, fence: Fence | None) -> None:
    """Adds pieces of one batch, whose row is locked first: as `enqueue.add` does it."""
    own, id, offer = Own(tx), groups[0][0].batch, fence.run if fence is not None else 0
    assert id is not None
    jobs = [job for group in groups for job in group]
    opened = at_once(enqueue.begin(own, batch, fence))
    if at_once(enqueue.takes_pieces(own, id, jobs)):
        ends = _ends(tx, groups)
        _copy(tx, "add_copy_pieces", (line for group, end in ends for line in _piece_lines(group, end, offer)))
        _count(tx, groups)
        tx.post("add_count", batch=id, n=len(jobs))
    if batch is not None and opened and batch.then is not None:
        tx.post("add_below", id=batch.id, then=batch.then)


def _copy(tx: Transaction, title: str, bites: Iterator[str]) -> None:
    asked = tx.statement(title).replace(b"%%", b"%")  # a schema's own: the driver halves them for parameters only
    try:
        with tx.con.cursor().copy(asked) as copy:
            for sent in _joined(bites):
                copy.write(sent)
    except UniqueViolation as error:
        raise KnownError from error


def _joined(bites: Iterator[str]) -> Iterator[str]:
    """Of groups that are small, many together."""
    kept, size = [], 0
    for bite in bites:
        kept.append(bite)
        size += len(bite)
        if size >= SENT:
            yield "".join(kept)
            kept, size = [], 0
    yield "".join(kept)


def _count(tx: Transaction, groups: Groups) -> None:
    for group in groups:
        tx.moved(group[0].queue, None, State.AVAILABLE.value, len(group))


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


def _ends(tx: Transaction, groups: Groups) -> list[tuple[list[NewJob], str]]:
    """Each group with what all its lines end with."""
    now = tx.now if tx.now is not None else float(tx.row("now_read")[0])
    return [(group, _end(group[0], now)) for group in groups]


def _end(job: NewJob, now: float) -> str:
    run_at = job.run_at if job.run_at is not None else now + (job.delay or 0.0)
    options = "\\N" if job.options is None else _text(job.options)
    due = "t" if run_at <= now else "f"
    return f"{_text(job.task)}\t{_text(job.queue)}\t{job.priority}\t{options}\tavailable\t{due}\t{run_at!r}\t{now!r}"


def _lines(jobs: list[NewJob], end: str) -> Iterator[str]:
    """The lines of plain jobs, many at a time."""
    end = f"\t{end}\n"
    for bite in _bites(jobs):
        ids, args = _texts([job.id for job in bite]), _texts([job.args for job in bite])
        yield "".join([f"{id}\t{text}{end}" for id, text in zip(ids, args, strict=True)])


def _piece_lines(jobs: list[NewJob], end: str, offer: int) -> Iterator[str]:
    """The lines of pieces, many at a time."""
    batch, root = jobs[0].batch, jobs[0].root
    root = None if root == batch else root  # a piece of the root's own batch does not repeat its id
    end = f"{end}\t{_nullable(batch)}\t{_nullable(root)}\t{offer}\n"
    for bite in _bites(jobs):
        ids, args = _texts([job.id for job in bite]), _texts([job.args for job in bite])
        for_each = zip(ids, args, bite, strict=True)
        yield "".join([f"{id}\t{text}\t{job.ordinal}\t{_nullable(job.piece)}\t{end}" for id, text, job in for_each])


def _bites(jobs: list[NewJob]) -> Iterator[list[NewJob]]:
    for start in range(0, len(jobs), BITE):
        yield jobs[start : start + BITE]


def _texts(values: list[str]) -> list[str]:
    """Values as COPY's text format has them: looked at together, because hardly one has to be changed."""
    whole = "".join(values)
    if any(mark in whole for mark in "\\\t\n\r"):
        return [_text(value) for value in values]
    return values


def _nullable(value: str | None) -> str:
    return "\\N" if value is None else _text(value)


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
