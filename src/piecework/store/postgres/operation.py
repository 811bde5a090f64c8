"""Operations on the PostgreSQL shelf, beside their jobs: how they are stored, how their globals change, how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from piecework.store.postgres.asking import Asking
from piecework.store.postgres.rows import changes_of
from piecework.store.postgres.transaction import Collided, Transaction, to_json

_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_wait = msgspec.json.Decoder(Wait).decode
_ending = msgspec.json.Decoder(Ending).decode

_UNFINISHED = "available", "running", "waiting", "parked"


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


async def new_among(tx: Asking, jobs: Sequence[NewJob], answers: dict[str, str]) -> list[NewJob]:
    """Those of these operations that are to be stored; `answers` tells by which one each of the others is answered."""
    asked = {"ids": to_json([job.id for job in jobs]), "keys": to_json([job.key for job in jobs])}
    stored = {row[0]: row[1:] for row in await tx.rows("add_held", **asked)}
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


async def store(tx: Asking, jobs: Sequence[NewJob]) -> None:
    """What is kept of new operations beside their jobs, which are stored already."""
    if not jobs:
        return
    plans = {_of(job).digest: _of(job).plan for job in jobs}
    await _hold_plans(tx, plans)
    if keys := [job.key for job in jobs if job.key is not None]:
        await tx.post("add_operation_take_key", keys=to_json(keys))
    await tx.post("add_operation_rows", rows=to_json([_row(job, _of(job)) for job in jobs]))
    terms = [{"id": job.id, **term} for job in jobs for term in _terms(_of(job).globals)]
    if terms:
        await tx.post("add_operation_terms", rows=to_json(terms))


async def store_plans(tx: Asking, plans: Mapping[str, str]) -> None:
    """Stores what is new of the plans."""
    await tx.post("add_plan", rows=to_json([{"digest": digest, "plan": plan} for digest, plan in plans.items()]))


async def _hold_plans(tx: Asking, plans: Mapping[str, str]) -> None:
    """Stores what is new of the plans, and keeps all of them from being pruned until the operations are there."""
    await store_plans(tx, plans)
    if len(await tx.rows("add_plan_hold", digests=to_json(list(plans)))) < len(plans):
        raise Collided("a plan was pruned at this very moment")


def _row(job: NewJob, new: NewOperation) -> dict[str, object]:
    wait = new.wait
    awaited = wait if new.received is None else None
    return {
        "id": job.id, "digest": new.digest, "globals": _globals(new.globals), "key": job.key,
        "forked_from": new.forked_from, "forked_after": new.forked_after,
        "wait": None if wait is None else to_json(wait), "awaits": awaited and awaited.name,
        "timeout": awaited and awaited.timeout, "received": new.received,
    }  # fmt: skip


def _of(job: NewJob) -> NewOperation:
    assert job.operation is not None
    return job.operation


def _globals(changes: Iterable[Change]) -> str:
    document: dict[str, msgspec.Raw] = {}
    fold(document, changes)
    return to_json(document)


def _terms(changes: Iterable[Change]) -> list[dict[str, object]]:
    """The terms of globals as they are after these changes: the last one of each key counts."""
    last = {change.key: change for change in changes}
    return [
        {"global": key, "term": t} for key, change in last.items() if change.value is not None for t in change.terms
    ]


# ── globals ──────────────────────────────────────────────────────────────────────────────────────


def change(tx: Transaction, changes: Sequence[tuple[str, Sequence[Change]]]) -> None:
    """Changes the globals of operations, key by key: what others changed meanwhile stays."""
    if not changes:
        return
    present = {row[0]: row[1:] for row in tx.rows("operation_globals", ids=to_json([id for id, _ in changes]))}
    rows: list[dict[str, object]] = []
    dropped: list[dict[str, object]] = []
    added: list[dict[str, object]] = []
    for id, new in changes:
        if id not in present:
            continue  # a job by hand that has no operation: its fence is all that it has
        place, text = present[id]
        document = _document(text)
        dropped += [{"operation": place, "global": key} for key in {change.key for change in new} if key in document]
        fold(document, new)
        rows.append({"job": place, "globals": to_json(document)})
        added += [{"operation": place, **term} for term in _terms(new)]
    tx.post("operation_globals_set", rows=to_json(rows))
    if dropped:
        tx.post("operation_terms_drop", rows=to_json(dropped))
    if added:
        tx.post("operation_terms_add", rows=to_json(added))


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
    mine = [row[0] for row in tx.rows("prune_plans_lock", digests=to_json(list(digests)))]
    tx.post("prune_plans", digests=to_json(mine))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def with_runs(tx: Transaction, jobs: list[Fetched]) -> list[Fetched]:
    """The same jobs, the operations among them with what belongs to them. Only a job with a cursor can be one."""
    placed = [job.id for job in jobs if job.cursor is not None]
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
