"""Rows of the Redis shelf to values. Their fields have the order of `lua/lib_1_rows.lua`; what is not set is false."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from piecework.job import (
    BatchRecord,
    BatchState,
    Change,
    Ending,
    ErrorInfo,
    Fetched,
    OnFailure,
    OperationRun,
    Progress,
    Record,
    State,
    Wait,
)

LETTERS = {
    State.WAITING: "w", State.AVAILABLE: "a", State.RUNNING: "r", State.COMPLETED: "c", State.FAILED: "f",
    State.CANCELLED: "x", State.PARKED: "p",
}  # fmt: skip
STATES = {letter: state for state, letter in LETTERS.items()}

CHANGING = (
    "state", "run", "queue", "priority", "run_at", "attempt", "created_at", "batch", "ordinal", "worker", "claim",
    "started_at", "settled", "finished_at", "result", "key", "operation", "cursor", "below", "crashes", "expires_at", "ahead",
    "error", "reason", "stopping", "progress", "stopped_by", "stopped_at", "crashed", "to_undo", "whose", "status",
    "status_at",
)  # fmt: skip
_NOTHING = (False,) * len(CHANGING)

_progress = msgspec.json.Decoder(Progress).decode
_wait = msgspec.json.Decoder(Wait).decode
_ending = msgspec.json.Decoder(Ending).decode
_changes = msgspec.json.Decoder(tuple[Change, ...]).decode
_text = msgspec.json.Encoder().encode


def or_none(value: Any) -> Any:
    return None if value is False else value


def seconds(value: Any) -> float | None:
    """A moment, or how long something takes: a script packs whole numbers as such."""
    return None if value is False or value is None else float(value)


def text(value: Any) -> str:
    """A value as JSON, for what the scripts keep and do not read."""
    return _text(value).decode()


def error_of(row: Any) -> ErrorInfo | None:
    return ErrorInfo(*row) if row else None


def changes_of(packed: str | bool | None) -> tuple[Change, ...]:
    return _changes(packed) if isinstance(packed, str) else ()


def wait_of(row: Any) -> Wait | None:
    return _wait(row[4]) if row else None


def ending_of(row: Any) -> Ending | None:
    return _ending(row[1]) if row else None


def wait_row(wait: Wait | None) -> Any:
    """What a script has to know of a wait, and all of it as text: see O in `lua/lib_1_rows.lua`."""
    if wait is None:
        return False
    known = (wait.timeout, wait.delay, wait.run_at)
    return [wait.name, *(False if value is None else value for value in known), text(wait)]


def ending_row(ending: Ending | None) -> Any:
    return False if ending is None else [False if ending.reason is None else ending.reason, text(ending)]


def record(changing: list[Any], fixed: list[Any]) -> Record:
    """Everything that is kept of a job, from what changes, long texts included, and what never does."""
    row: Mapping[str, Any] = dict(zip(CHANGING, (*changing, *_NOTHING[len(changing) :]), strict=True))
    id, task, root, piece, options, args = (or_none(value) for value in fixed[:6])
    return Record(
        id=id, task=task, queue=row["queue"], priority=row["priority"] or 0, state=STATES[row["state"]],
        run_at=float(row["run_at"]), run=row["run"] or 0, attempt=row["attempt"] or 0, crashes=row["crashes"] or 0,
        created_at=float(row["created_at"]), started_at=seconds(row["started_at"]),
        finished_at=seconds(row["finished_at"]), worker=or_none(row["worker"]), batch=or_none(row["batch"]), root=root,
        below=or_none(row["below"]), ordinal=or_none(row["ordinal"]), piece=piece, key=or_none(row["key"]),
        cursor=or_none(row["cursor"]), options=options, reason=or_none(row["reason"]),
        expires_at=seconds(row["expires_at"]), stopping=bool(row["stopping"]), stopped_by=or_none(row["stopped_by"]),
        stopped_at=seconds(row["stopped_at"]), progress=_progress(row["progress"]) if row["progress"] else None,
        error=error_of(row["error"]), args=args, result=or_none(row["result"]), identity=_identity(row["whose"]),
        tags=tuple(fixed[6]) if len(fixed) > 6 else (), status=or_none(row["status"]),
        status_at=seconds(row["status_at"]),
    )  # fmt: skip


def _identity(whose: str | bool) -> str | None:
    """It stands in front of the task's name, which has no zero byte."""
    return whose.rpartition("\0")[0] if isinstance(whose, str) else None


def is_operation(changing: list[Any]) -> bool:
    return len(changing) > 16 and changing[16] is True


def fetched(changing: list[Any], fixed: list[Any], beside: tuple[list[Any], list[Any]] | None) -> Fetched:
    """A job as a worker gets it: its row, what never changes of it, and of an operation its own row and its globals."""
    n = len(changing)  # up to STARTED at least: it runs
    cursor = or_none(changing[17]) if n > 17 else None
    crashes = (changing[19] or 0) if n > 19 else 0
    id, task, root, _, options, args = fixed[:6]
    return Fetched(
        id, changing[1] or 0, task, changing[2], changing[3] or 0, changing[5] or 0, crashes, or_none(changing[7]),
        or_none(root), cursor, or_none(options), float(changing[11]), args,
        operation_run(*beside) if beside is not None else None,
    )  # fmt: skip


def globals_of(pairs: list[Any]) -> str:
    """Globals as a JSON object; their values are JSON already."""
    return "{" + ",".join(f"{text(change[0])}:{change[1]}" for change in pairs) + "}"


def operation_run(row: list[Any], pairs: list[Any]) -> OperationRun:
    digest, _, wait, received, ending = (*row, *_NOTHING)[:5]
    return OperationRun(digest, globals_of(pairs), wait_of(wait), or_none(received), ending_of(ending))


def batch_record(id: str, row: list[Any]) -> BatchRecord:
    state, total, open, completed, failed, cancelled, sealed, then, on_failure, created, finished = (*row, *_NOTHING)[
        :11
    ]
    return BatchRecord(
        id=id, then=or_none(then), state=BatchState(state), on_failure=OnFailure(on_failure), sealed=bool(sealed),
        total=total or 0, open=open or 0, completed=completed or 0, failed=failed or 0, cancelled=cancelled or 0,
        created_at=float(created), finished_at=seconds(finished),
    )  # fmt: skip
