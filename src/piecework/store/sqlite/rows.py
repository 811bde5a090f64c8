"""Rows of the SQLite shelf to values, and filters to conditions."""

from __future__ import annotations

from typing import Any

import msgspec

from piecework.job import (
    AttemptRecord,
    BatchRecord,
    BatchState,
    Change,
    ErrorInfo,
    Filter,
    OnFailure,
    Progress,
    Record,
    State,
)

RECORD_COLUMNS = (
    "id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker, "
    "batch, coalesce(root, batch), below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, "
    "result, expires_at, stopped_by, stopped_at"
)

_error = msgspec.json.Decoder(ErrorInfo)
_changes = msgspec.json.Decoder(tuple[Change, ...])
_progress = msgspec.json.Decoder(Progress)


def error_of(text: str | None) -> ErrorInfo | None:
    return None if text is None else _error.decode(text)


def changes_of(text: str | None) -> tuple[Change, ...]:
    return () if text is None else _changes.decode(text)


def record(row: Any) -> Record:
    """A row in the order of `RECORD_COLUMNS`."""
    (id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker,
     batch, root, below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, result,
     expires_at, stopped_by, stopped_at) = row  # fmt: skip
    return Record(
        id=id, task=task, queue=queue, priority=priority, state=State(state), run_at=run_at, run=run, attempt=attempt,
        crashes=crashes, created_at=created_at, started_at=started_at, finished_at=finished_at, worker=worker,
        batch=batch, root=root, below=below, ordinal=ordinal, piece=piece, key=key, cursor=cursor, options=options, reason=reason,
        stopping=bool(stopping), progress=None if progress is None else _progress.decode(progress),
        error=error_of(error), args=args, result=result, expires_at=expires_at, stopped_by=stopped_by, stopped_at=stopped_at,
    )  # fmt: skip


def batch_record(row: Any) -> BatchRecord:
    id, then, state, on_failure, sealed, total, open, completed, failed, cancelled, created_at, finished_at, *_ = row
    return BatchRecord(
        id=id, then=then, state=BatchState(state), on_failure=OnFailure(on_failure), sealed=bool(sealed), total=total,
        open=open, completed=completed, failed=failed, cancelled=cancelled, created_at=created_at,
        finished_at=finished_at,
    )  # fmt: skip


def attempt_record(row: Any) -> AttemptRecord:
    job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes = row
    return AttemptRecord(
        job=job, run=run, attempt=attempt, outcome=outcome, started_at=started_at, finished_at=finished_at,
        worker=worker, error=error_of(error), reason=reason, cursor=cursor, changes=changes_of(changes),
    )  # fmt: skip


# The library uses a partial index only where the query repeats the index's own condition, word for word.
_ENDED = "(state = 'failed' OR state = 'cancelled' OR state = 'parked')"
_STATES = {
    state: f"{_ENDED} AND state = '{state}'" if f"'{state}'" in _ENDED else f"state = '{state}'" for state in State
}


def source(which: Filter) -> str:
    """The table to ask, and the way to go about it where that matters.

    What is named by its id is found by it, and not among all that ended; the few that run are found among each other,
    and not in a batch or in all there ever were.
    """
    if which.ids is not None:
        return "piecework_job INDEXED BY sqlite_autoindex_piecework_job_1"
    if which.state is State.RUNNING and which.key is None:
        return "piecework_job INDEXED BY piecework_job_running"
    return "piecework_job"


def where(which: Filter) -> tuple[str, dict[str, Any]]:
    """A condition made of fixed fragments, and its parameters; no value ever becomes part of the text."""
    parts: list[str] = []
    params: dict[str, Any] = {}
    if which.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(:ids))")
        params["ids"] = msgspec.json.encode(which.ids).decode()
    for name in ("queue", "task", "batch", "key", "worker"):
        value = getattr(which, name)
        if value is not None:
            parts.append(f"{name} = :{name}")
            params[name] = value
    if which.root is not None:
        parts.append("coalesce(root, batch) = :root")
        params["root"] = which.root
    if which.state is not None:
        parts.append(_STATES[State(which.state)])
    return " AND ".join(parts) or "true", params
