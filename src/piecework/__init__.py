"""piecework: background jobs in pieces.

The work stays ordinary code; its state lives in one database you already have.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piecework.app import Piecework
    from piecework.branches import branch
    from piecework.distributed import DistributedJob
    from piecework.engine.context import current
    from piecework.errors import (
        Duplicate,
        JobCancelled,
        JobFailed,
        JobParked,
        PieceFailed,
        PieceworkError,
        ResultTimeout,
        StepLimit,
        WaitTimedOut,
    )
    from piecework.handle import Job
    from piecework.job import ErrorInfo, OnFailure, Progress, State
    from piecework.operations import Operation
    from piecework.operationtask import OperationTask
    from piecework.retry import exponential, fixed
    from piecework.split import FailedPiece, Piece, Pieces
    from piecework.splittask import Split
    from piecework.standing import Status
    from piecework.stepping import Step
    from piecework.steps import step, wait_for
    from piecework.task import Task
    from piecework.verdicts import Cancel, Fail, Retry, Snooze

__all__ = [
    "Cancel",
    "DistributedJob",
    "Duplicate",
    "ErrorInfo",
    "Fail",
    "FailedPiece",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobParked",
    "OnFailure",
    "Operation",
    "OperationTask",
    "Piece",
    "PieceFailed",
    "Pieces",
    "Piecework",
    "PieceworkError",
    "Progress",
    "ResultTimeout",
    "Retry",
    "Snooze",
    "Split",
    "State",
    "Status",
    "Step",
    "StepLimit",
    "Task",
    "WaitTimedOut",
    "branch",
    "current",
    "exponential",
    "fixed",
    "step",
    "wait_for",
]

__version__ = "0.1.0"

# Names are fetched from their rooms at first use, so that `piecework --help` does not pay for the whole house.
_ROOMS = {
    "piecework.app": ("Piecework",),
    "piecework.distributed": ("DistributedJob",),
    "piecework.engine.context": ("current",),
    "piecework.errors": (
        "Duplicate",
        "JobCancelled",
        "JobFailed",
        "JobParked",
        "PieceFailed",
        "PieceworkError",
        "ResultTimeout",
        "StepLimit",
        "WaitTimedOut",
    ),
    "piecework.job": ("ErrorInfo", "OnFailure", "Progress", "State"),
    "piecework.handle": ("Job",),
    "piecework.operations": ("Operation",),
    "piecework.operationtask": ("OperationTask",),
    "piecework.retry": ("exponential", "fixed"),
    "piecework.split": ("FailedPiece", "Piece", "Pieces"),
    "piecework.standing": ("Status",),
    "piecework.stepping": ("Step",),
    "piecework.branches": ("branch",),
    "piecework.steps": ("step", "wait_for"),
    "piecework.splittask": ("Split",),
    "piecework.task": ("Task",),
    "piecework.verdicts": ("Cancel", "Fail", "Retry", "Snooze"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'piecework' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
