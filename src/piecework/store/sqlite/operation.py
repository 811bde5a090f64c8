"""Operations on the SQLite shelf, beside their jobs: how they are stored, how their globals change, how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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
from piecework.store.sqlite.rows import changes_of
from piecework.store.sqlite.transaction import Transaction, to_json

_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_wait = msgspec.json.Decoder(Wait).decode
_ending = msgspec.json.Decoder(Ending).decode

_UNFINISHED = "available", "running", "waiting", "parked"


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


def new_among(tx: Transaction, jobs: Sequence[NewJob], answers: dict[str, str]) -> list[NewJob]:
    """Those of these operations that are to be stored; `answers` tells by which one each of the others is answered."""
    rows = to_json([(job.id, job.key) for job in jobs])
    stored = {row[0]: row[1:] for row in tx.rows("add_held", rows=rows)}
    new: list[NewJob] = []
    by_key: dict[str, str] = {}
    for job in jobs:
        found, state = stored.get(job.id, (None, None))
        if found == job.id or (found is not None and (state in _UNFINISHED or not _of(job).again)):
            answers[job.id] = found
        elif job.key is not None and job.key in by_key:
            answers[job.id] = by_key[job.key]
        else:
            new.append(job)
            if job.key is not None:
                by_key[job.key] = job.id
    return new


def store(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    """What is kept of new operations beside their jobs, which are stored already."""
    if not jobs:
        return
    plans = {_of(job).digest: _of(job).plan for job in jobs}
    tx.run("add_plan", rows=to_json(list(plans.items())))
    if keys := [job.key for job in jobs if job.key is not None]:
        tx.run("add_operation_take_key", keys=to_json(keys))
    tx.run("add_operation_rows", rows=to_json([_row(job, _of(job)) for job in jobs]), now=tx.now)
    terms = [(job.id, *term) for job in jobs for term in _terms(_of(job).globals)]
    if terms:
        tx.run("add_operation_terms", rows=to_json(terms))


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
    rows, dropped, added = [], [], []
    for id, new in changes:
        if id not in present:
            continue  # a job by hand that has no operation: its fence is all that it has
        place, text = present[id]
        document = _document(text)
        dropped += [(place, key) for key in {change.key for change in new} if key in document]
        fold(document, new)
        rows.append((place, to_json(document)))
        added += [(place, *term) for term in _terms(new)]
    tx.run("operation_globals_set", rows=to_json(rows))
    if dropped:
        tx.run("operation_terms_drop", rows=to_json(dropped))
    if added:
        tx.run("operation_terms_add", rows=to_json(added))


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


def note(tx: Transaction, ids: Sequence[str], what: str, by: str, reason: str) -> None:
    """A line for each of these jobs that is an operation: what is done to it now."""
    if ids:
        tx.run("amend_deeds", ids=to_json(list(ids)), what=what, by=by, reason=reason, now=tx.now)


# ── deleting ─────────────────────────────────────────────────────────────────────────────────────


def forget(tx: Transaction, seqs: Sequence[int], ids: str) -> None:
    """What is kept of the operations among jobs that were deleted; `ids` is JSON text."""
    places = to_json(list(seqs))
    digests = {row[0] for row in tx.rows("prune_operations", seqs=places)}
    if not digests:
        return
    tx.run("prune_steps", seqs=places)
    tx.run("prune_terms", seqs=places)
    tx.run("prune_signals", ids=ids)
    tx.run("prune_amendments", ids=ids)
    tx.run("prune_plans", digests=to_json(list(digests)))


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
