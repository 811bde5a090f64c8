"""Rows of the shelves on SQL to values."""

from __future__ import annotations

from typing import Any

import msgspec

from piecework.job import (
    AttemptRecord,
    BatchRecord,
    BatchState,
    Change,
    ErrorInfo,
    OnFailure,
    Progress,
    Record,
    Route,
    Standing,
    State,
)

_error = msgspec.json.Decoder(ErrorInfo)
_changes = msgspec.json.Decoder(tuple[Change, ...])
_route = msgspec.json.Decoder(Route).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_progress = msgspec.json.Decoder(Progress)


def error_of(text: str | None) -> ErrorInfo | None:
    return None if text is None else _error.decode(text)


def changes_of(text: str | None) -> tuple[Change, ...]:
    return () if text is None else _changes.decode(text)


def record(row: Any) -> Record:
    """A row in the order of `filters.RECORD_COLUMNS`."""
    (id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker,
     batch, root, below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, result,
     expires_at, stopped_by, stopped_at, identity, tags, status, status_at) = row  # fmt: skip
    return Record(
        id=id, task=task, queue=queue, priority=priority, state=State(state), run_at=run_at, run=run, attempt=attempt,
        crashes=crashes, created_at=created_at, started_at=started_at, finished_at=finished_at, worker=worker,
        batch=batch, root=root, below=below, ordinal=ordinal, piece=piece, key=key, cursor=cursor, options=options, reason=reason,
        stopping=bool(stopping), progress=None if progress is None else _progress.decode(progress),
        error=error_of(error), args=args, result=result, expires_at=expires_at, stopped_by=stopped_by, stopped_at=stopped_at,
        identity=identity, tags=() if tags is None else _tags(tags), status=status, status_at=status_at,
    )  # fmt: skip


def standing(row: Any) -> Standing:
    id, state, busy, status, status_by, status_at = row
    return Standing(
        id=id, state=State(state), busy=bool(busy), status=status, status_by=status_by, status_at=status_at
    )  # fmt: skip


def batch_record(row: Any) -> BatchRecord:
    id, then, state, on_failure, sealed, total, open, completed, failed, cancelled, created_at, finished_at, *_ = row
    return BatchRecord(
        id=id, then=then, state=BatchState(state), on_failure=OnFailure(on_failure), sealed=bool(sealed), total=total,
        open=open, completed=completed, failed=failed, cancelled=cancelled, created_at=created_at,
        finished_at=finished_at,
    )  # fmt: skip


def attempt_record(row: Any) -> AttemptRecord:
    job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route = row
    return AttemptRecord(
        job=job, run=run, attempt=attempt, outcome=outcome, started_at=started_at, finished_at=finished_at,
        worker=worker, error=error_of(error), reason=reason, cursor=cursor, changes=changes_of(changes),
        route=None if route is None else _route(route),
    )  # fmt: skip
