"""Rows of the PostgreSQL shelf to values, and filters to conditions."""

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
    Route,
    State,
)

RECORD_COLUMNS = (
    "id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker, "
    "batch, coalesce(root, batch), below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, "
    "result, expires_at, stopped_by, stopped_at"
)

_error = msgspec.json.Decoder(ErrorInfo)
_changes = msgspec.json.Decoder(tuple[Change, ...])
_route = msgspec.json.Decoder(Route).decode
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
    job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route = row
    return AttemptRecord(
        job=job, run=run, attempt=attempt, outcome=outcome, started_at=started_at, finished_at=finished_at,
        worker=worker, error=error_of(error), reason=reason, cursor=cursor, changes=changes_of(changes),
        route=None if route is None else _route(route),
    )  # fmt: skip


# A state is part of the text, so that the planner sees which partial index holds all that is asked for.
_ENDED = (State.FAILED, State.CANCELLED, State.PARKED)
_STATES = {state: f"state = '{state}'" for state in State}


# Operations in the order of their arrival: the fences (OFFSET 0) keep the planner from going another way.
_LED = """(SELECT {distinct} AS place FROM {leading} ORDER BY place{way} OFFSET 0) AS led
CROSS JOIN LATERAL (SELECT * FROM piecework_job AS j WHERE j.seq = led.place OFFSET 0) AS job"""


def source(which: Filter, newest: bool | None = None) -> str:
    """The table to ask, and the way to go about it where that matters: operations are found by their terms, or among
    each other. With `newest` given, a page of them, behind `:after`.
    """
    if order(which) == "seq":
        return "piecework_job"
    leading, place = "piecework_operation AS t WHERE true", "t.job"
    if which.terms:
        leading, place = "piecework_term AS t WHERE t.term = :term0", "t.operation"
    if newest is not None:
        leading += f" AND {place} {'<' if newest else '>'} :after"
    distinct = f"DISTINCT {place}" if which.terms else place
    return _LED.format(distinct=distinct, leading=leading, way=" DESC" if newest else "")


def order(which: Filter) -> str:
    """The column to sort by, which is that of arrival."""
    return "place" if which.ids is None and (which.terms or _leads_by_operations(which)) else "seq"


def _leads_by_operations(which: Filter) -> bool:
    """Whether all operations are walked: not where something narrower is known of them."""
    narrow = which.key is not None or which.batch is not None or which.state in (*_ENDED, State.RUNNING)
    return _only_operations(which) and not narrow


def _only_operations(which: Filter) -> bool:
    return bool(which.operations) or which.terms is not None


def where(which: Filter, *, alone: bool = False) -> tuple[str, dict[str, Any]]:
    """A condition made of fixed fragments, and its parameters; no value ever becomes part of the text.

    It goes with `source`; one that stands `alone` is for all jobs.
    """
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
    parts += _of_operations(which, alone)
    params |= {f"term{n}": term for n, term in enumerate(which.terms or ())}
    return " AND ".join(parts) or "true", params


def _of_operations(which: Filter, alone: bool) -> list[str]:
    if alone and _only_operations(which):
        lead = "operation FROM piecework_term WHERE term = :term0" if which.terms else "job FROM piecework_operation"
        parts = [f"seq IN (SELECT {lead})"]
    elif _only_operations(which):
        parts = ["EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = seq)"]
    else:
        parts = []
    if which.operations is False:
        parts.append("NOT EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = seq)")
    has_term = "EXISTS (SELECT 1 FROM piecework_term AS t WHERE t.term = :term{} AND t.operation = seq)"
    return parts + [has_term.format(n) for n in range(len(which.terms or ()))]
