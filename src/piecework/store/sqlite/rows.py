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
    Route,
    Standing,
    State,
)

RECORD_COLUMNS = (
    "id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker, "
    "batch, coalesce(root, batch), below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, "
    "result, expires_at, stopped_by, stopped_at, identity, tags, status, status_at"
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
    """A row in the order of `RECORD_COLUMNS`."""
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


# The library uses a partial index only where the query repeats the index's own condition, word for word.
_ENDED = "(state = 'failed' OR state = 'cancelled' OR state = 'parked')"
_STATES = {
    state: f"{_ENDED} AND state = '{state}'" if f"'{state}'" in _ENDED else f"state = '{state}'" for state in State
}


# Operations in the order of their arrival, under a name that no column of a job has.
_OPERATIONS = "(SELECT job AS place FROM piecework_operation) CROSS JOIN piecework_job ON seq = place"
_TERM = """(
    SELECT t.operation AS place FROM piecework_term AS t WHERE t.term = :term0 AND NOT EXISTS (
        SELECT 1 FROM piecework_term AS u WHERE u.term = t.term AND u.operation = t.operation AND u.global < t.global
    )
) CROSS JOIN piecework_job ON seq = place"""
_TAG = "(SELECT job AS place FROM piecework_tag WHERE tag = :tag0) CROSS JOIN piecework_job ON seq = place"


def source(which: Filter) -> str:
    """The table to ask, and the way to go about it where that matters.

    What is named by its id is found by it, and not among all that ended; the few that run are found among each other,
    and not in a batch or in all there ever were. Operations are found by their terms, or among each other; what has an
    identity by that; what has a tag by that, unless it did not end well: such are fewer.
    """
    if which.ids is not None:
        return "piecework_job INDEXED BY sqlite_autoindex_piecework_job_1"
    if which.terms:
        return _TERM
    if which.state is State.RUNNING and which.key is None:
        return "piecework_job INDEXED BY piecework_job_running"
    if which.identity is not None:
        return "piecework_job INDEXED BY piecework_job_identity"
    if which.tags and not (which.key or which.batch) and (which.state is None or f"'{which.state}'" not in _ENDED):
        return _TAG
    return _OPERATIONS if _leads_by_operations(which) else "piecework_job"


def behind(which: Filter, newest: bool) -> str:
    """Where a page begins. Operations that lead are sought from there; with jobs, that would be taken for the best way."""
    if order(which) == "seq":
        return f"(:after IS NULL OR seq {'<' if newest else '>'} :after)"
    return "place < coalesce(:after, 1 << 62)" if newest else "place > coalesce(:after, 0)"


def order(which: Filter) -> str:
    """The column to sort by, which is that of arrival."""
    return "place" if source(which) in (_TERM, _OPERATIONS, _TAG) else "seq"


def _leads_by_operations(which: Filter) -> bool:
    """Whether all operations are walked: not where something narrower is known of them."""
    narrow = which.key is not None or which.batch is not None or which.ids is not None
    return _only_operations(which) and not narrow and (which.state is None or f"'{which.state}'" not in _ENDED)


def _only_operations(which: Filter) -> bool:
    return bool(which.operations) or which.terms is not None


_TIMES = (
    ("created_at", "created_from", ">="),
    ("created_at", "created_before", "<"),
    ("finished_at", "finished_from", ">="),
    ("finished_at", "finished_before", "<"),
)


def where(which: Filter, *, alone: bool = False) -> tuple[str, dict[str, Any]]:
    """A condition made of fixed fragments, and its parameters; no value ever becomes part of the text.

    It goes with `source`; one that stands `alone` is for all jobs.
    """
    parts: list[str] = []
    params: dict[str, Any] = {}
    if which.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(:ids))")
        params["ids"] = msgspec.json.encode(which.ids).decode()
    for name in ("queue", "task", "batch", "key", "worker", "identity"):
        value = getattr(which, name)
        if value is not None:
            parts.append(f"{name} = :{name}")
            params[name] = value
    if which.root is not None:
        parts.append("coalesce(root, batch) = :root")
        params["root"] = which.root
    if which.state is not None:
        parts.append(_STATES[State(which.state)])
    for column, name, sign in _TIMES:
        moment = getattr(which, name)
        if moment is not None:
            parts.append(f"{column} {sign} :{name}")
            params[name] = moment
    parts += _of_tags(which, alone)
    params |= {f"tag{n}": tag for n, tag in enumerate(which.tags or ())}
    parts += _of_operations(which, alone)
    params |= {f"term{n}": term for n, term in enumerate(which.terms or ())}
    return " AND ".join(parts) or "true", params


def _of_tags(which: Filter, alone: bool) -> list[str]:
    has_tag = "EXISTS (SELECT 1 FROM piecework_tag AS g WHERE g.tag = :tag{} AND g.job = seq)"
    parts = [has_tag.format(n) for n in range(len(which.tags or ()))]
    if alone and parts:
        parts[0] = "seq IN (SELECT job FROM piecework_tag WHERE tag = :tag0)"
    return parts


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
