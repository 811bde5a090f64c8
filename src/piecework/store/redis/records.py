"""What the questions are told and answered on the Redis shelf: filters, rows, and the lines that are kept beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from piecework.job import (
    AmendmentRecord,
    AttemptRecord,
    Filter,
    OperationRecord,
    PieceResult,
    Record,
    Route,
    SignalRecord,
    State,
)
from piecework.store.redis import rows
from piecework.store.redis.rows import or_none, seconds

_unpack = msgspec.msgpack.Decoder().decode
_route = msgspec.json.Decoder(Route).decode


def told(which: Filter) -> dict[str, Any]:
    """A filter as a search in a script is told it: only what is set. No tags are no condition."""
    fields = {name: getattr(which, name) for name in which.__struct_fields__}
    if which.state is not None:
        fields["state"] = rows.LETTERS[State(which.state)]
    return {name: value for name, value in fields.items() if value is not None and (name, value) != ("tags", ())}


def record(row: bytes, fixed: bytes) -> Record:
    """A job from what a script tells of it: its row, and what never changes."""
    return rows.record(_unpack(row), _unpack(fixed))


def piece_result(job: Record) -> PieceResult:
    """A piece as a compose reads it."""
    return PieceResult(job.ordinal or 0, job.piece, job.id, job.task, job.state, job.result, job.error)


def attempt_record(job: str, line: Sequence[Any]) -> AttemptRecord:
    """A line of the history: its run, and its body."""
    run, (attempt, outcome, started, finished, worker, error, reason, cursor, changes, route) = line
    return AttemptRecord(
        job=job, run=run, attempt=attempt or 0, outcome=outcome, started_at=seconds(started),
        finished_at=float(finished), worker=or_none(worker), error=rows.error_of(error), reason=or_none(reason),
        cursor=or_none(cursor), changes=rows.changes_of(changes), route=_route(route) if route else None,
    )  # fmt: skip


def operation_record(row: Sequence[Any]) -> OperationRecord:
    """What is kept of an operation beside its job, in the order of ``lua/operations.lua``."""
    id, digest, key, wait, received, ending, forked_from, forked_after, globals = row
    return OperationRecord(
        id=id, digest=digest, globals=rows.globals_of(globals), key=or_none(key), wait=rows.wait_of(wait),
        received=or_none(received), ending=rows.ending_of(ending), forked_from=or_none(forked_from),
        forked_after=or_none(forked_after),
    )  # fmt: skip


def signal_record(job: str, line: Sequence[Any]) -> SignalRecord:
    """A signal: of one that nobody took, the name is told beside its body."""
    _, kind, name, body = line
    if kind == "u":
        id, payload, by, at = body
        taken_at = False
    else:
        id, name, payload, by, at, taken_at = body
    return SignalRecord(
        id=id, job=job, name=name, payload=payload, by=or_none(by), at=float(at), taken_at=seconds(taken_at)
    )


def amendment_record(job: str, line: Sequence[Any]) -> AmendmentRecord:
    """What was done by hand: a deed."""
    id, run, what, by, reason, at, before, cursor, changes = line[3]
    return AmendmentRecord(
        id=id, job=job, run=run, what=what, by=by, reason=reason, at=float(at), cursor_before=or_none(before),
        cursor=or_none(cursor), changes=rows.changes_of(changes),
    )  # fmt: skip
