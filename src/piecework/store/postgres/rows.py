"""Rows of the PostgreSQL shelf to values, and filters to conditions."""

from __future__ import annotations

from typing import Any

import msgspec

from piecework.job import AttemptRecord, BatchRecord, BatchState, ErrorInfo, Filter, OnFailure, Progress, Record, State

RECORD_COLUMNS = (
    "id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker, "
    "batch, coalesce(root, batch), below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, "
    "result, expires_at, stopped_by, stopped_at"
)

_error = msgspec.json.Decoder(ErrorInfo)
_progress = msgspec.json.Decoder(Progress)


def error_of(text: str | None) -> ErrorInfo | None:
    return None if text is None else _error.decode(text)


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
    job, run, attempt, outcome, started_at, finished_at, worker, error, reason = row
    return AttemptRecord(
        job=job, run=run, attempt=attempt, outcome=outcome, started_at=started_at, finished_at=finished_at,
        worker=worker, error=error_of(error), reason=reason,
    )  # fmt: skip


# A state is part of the text, so that the planner sees which partial index holds all that is asked for.
_STATES = {state: f"state = '{state}'" for state in State}


def where(which: Filter) -> tuple[str, dict[str, Any]]:
    """A condition made of fixed fragments, and its parameters; no value ever becomes part of the text."""
    parts: list[str] = []
    params: dict[str, Any] = {}
    if which.ids is not None:
        parts.append("id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))")
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
