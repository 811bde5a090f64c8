"""Operations beside their jobs: what is stored of them, how their globals change, how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from piecework.job import (
    AmendmentRecord,
    Change,
    Ending,
    Fetched,
    NewJob,
    NewOperation,
    OperationRecord,
    OperationRun,
    Wait,
    fold,
)
from piecework.store.sql.rows import changes_of
from piecework.store.sql.transaction import Transaction, to_json

_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_wait = msgspec.json.Decoder(Wait).decode
_ending = msgspec.json.Decoder(Ending).decode

PLAN, TERM, ENDING = ("digest", "plan"), ("id", "global", "term"), ("id", "ending")
ROW = (
    "id", "digest", "globals", "key", "forked_from", "forked_after", "wait", "awaits", "timeout", "received",
)  # fmt: skip

_UNFINISHED = "available", "running", "waiting", "parked"


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


class Kept(NamedTuple):
    """What is kept of new operations beside their jobs."""

    plans: dict[str, str]  # by their digests
    keys: list[str]  # that they take from those which had them before
    rows: list[tuple[object, ...]]  # in the order of `ROW`
    terms: list[tuple[object, ...]]  # in the order of `TERM`


def new_among(jobs: Sequence[NewJob], stored: Mapping[str, tuple[str, str]], answers: dict[str, str]) -> list[NewJob]:
    """Those of these operations that are to be stored; `answers` tells by which one each of the others is answered.

    `stored` has for each that is there, by its id or its key: which job that is, and its state.
    """
    new: list[NewJob] = []
    by_key: dict[str, str] = {}
    for job in jobs:
        found, state = stored.get(job.id, (None, None))
        if found is not None and (found == job.id or state in _UNFINISHED or not _of(job).again):
            answers[job.id] = found
        elif job.key is not None and job.key in by_key:
            answers[job.id] = by_key[job.key]
        else:
            new.append(job)
            if job.key is not None:
                by_key[job.key] = job.id
    return new


def kept_of(jobs: Sequence[NewJob]) -> Kept:
    """What is to be stored of new operations."""
    return Kept(
        plans={_of(job).digest: _of(job).plan for job in jobs},
        keys=[job.key for job in jobs if job.key is not None],
        rows=[_row(job, _of(job)) for job in jobs],
        terms=[(job.id, *term) for job in jobs for term in _terms(_of(job).globals)],
    )


def _row(job: NewJob, new: NewOperation) -> tuple[object, ...]:
    wait = new.wait
    awaited = wait if new.received is None else None
    return (
        job.id, new.digest, _globals(new.globals), job.key, new.forked_from, new.forked_after,
        None if wait is None else to_json(wait), awaited and awaited.name, awaited and awaited.timeout, new.received,
    )  # fmt: skip


def _of(job: NewJob) -> NewOperation:
    assert job.operation is not None
    return job.operation


def _globals(changes: Iterable[Change]) -> str:
    document: dict[str, msgspec.Raw] = {}
    fold(document, changes)
    return to_json(document)


def _terms(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """The terms of globals as they are after these changes: the last one of each key counts."""
    last = {change.key: change for change in changes}
    return [(key, term) for key, change in last.items() if change.value is not None for term in change.terms]


# ── globals ──────────────────────────────────────────────────────────────────────────────────────


def change(tx: Transaction, changes: Sequence[tuple[str, Sequence[Change]]]) -> None:
    """Changes the globals of operations, key by key: what others changed meanwhile stays."""
    if not changes:
        return
    present = {row[0]: row[1:] for row in tx.rows("operation_globals", ids=to_json([id for id, _ in changes]))}
    rows: list[tuple[object, ...]] = []
    dropped: list[tuple[object, ...]] = []
    added: list[tuple[object, ...]] = []
    for id, new in changes:
        if id not in present:
            continue  # a job by hand that has no operation: its fence is all that it has
        place, text = present[id]
        document = _document(text)
        dropped += [(place, key) for key in {change.key for change in new} if key in document]
        fold(document, new)
        rows.append((place, to_json(document)))
        added += [(place, *term) for term in _terms(new)]
    tx.post("operation_globals_set", rows=tx.table(("job", "globals"), rows))
    if dropped:
        tx.post("operation_terms_drop", rows=tx.table(("operation", "global"), dropped))
    if added:
        tx.post("operation_terms_add", rows=tx.table(("operation", "global", "term"), added))


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


def note(tx: Transaction, ids: Sequence[str], what: str, by: str, reason: str) -> None:
    """A line for each of these jobs that is an operation: what is done to it now."""
    if ids:
        tx.post("amend_deeds", ids=to_json(list(ids)), what=what, by=by, reason=reason)


# ── deleting ─────────────────────────────────────────────────────────────────────────────────────


def forget(tx: Transaction, seqs: Sequence[int], ids: str) -> None:
    """What is kept of the operations among jobs that were deleted; `ids` is JSON text."""
    places = to_json(list(seqs))
    digests = {row[0] for row in tx.rows("prune_operations", seqs=places)}
    if not digests:
        return
    tx.post("prune_steps", seqs=places)
    tx.post("prune_terms", seqs=places)
    tx.post("prune_signals", ids=ids)
    tx.post("prune_amendments", ids=ids)
    mine = list(digests)
    if not tx.only_writer:
        mine = [row[0] for row in tx.rows("prune_plans_lock", digests=to_json(mine))]
    tx.post("prune_plans", digests=to_json(mine))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def with_runs(tx: Transaction, jobs: list[Fetched]) -> list[Fetched]:
    """The same jobs, the operations among them with what belongs to them. Only a job with a cursor can be one."""
    placed = [job.id for job in jobs if job.cursor is not None]
    if not placed:
        return jobs
    runs = {row[0]: _run(*row[1:]) for row in tx.rows("fetch_operations", ids=to_json(placed))}
    return [msgspec.structs.replace(job, operation=runs[job.id]) if job.id in runs else job for job in jobs]


def _run(digest: str, document: str, wait: str | None, received: str | None, ending: str | None) -> OperationRun:
    return OperationRun(digest, document, _maybe(_wait, wait), received, _maybe(_ending, ending))


def record(row: Any) -> OperationRecord:
    id, digest, document, key, wait, received, ending, forked_from, forked_after = row
    return OperationRecord(
        id=id, digest=digest, globals=document, key=key, wait=_maybe(_wait, wait), received=received,
        ending=_maybe(_ending, ending), forked_from=forked_from, forked_after=forked_after,
    )  # fmt: skip


def _maybe(decode: Any, text: str | None) -> Any:
    return None if text is None else decode(text)


def amendment_record(row: Any) -> AmendmentRecord:
    *known, changes = row
    names = AmendmentRecord.__struct_fields__[:-1]
    return AmendmentRecord(**dict(zip(names, known, strict=True)), changes=changes_of(changes))
