"""Every error piecework raises, in families by who must act: the caller, the operator, or the reader of a job.

Each message says what was wrong and what to do. All of them descend from `PieceworkError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piecework.job import ErrorInfo


class PieceworkError(Exception):
    """The root of every error that piecework raises."""


# ── the caller's code ────────────────────────────────────────────────────────────────────────────


class UsageError(PieceworkError):
    """A call that cannot be right; nothing was stored."""


class UnknownTask(UsageError):
    """A task name that no registered task carries."""


class DuplicateTask(UsageError):
    """Two different functions were registered under one name."""


class BadOption(UsageError, TypeError):
    """An option that does not exist or whose value cannot be right."""


class BadSettings(UsageError):
    """Settings that cannot be right; the message lists every mistake at once."""


class BadArguments(UsageError, TypeError):
    """Arguments that do not fit the task's signature or annotations."""


class OtherPlan(BadArguments):
    """A jump to what the plan of the code has, and the plan with which its operation began has not."""


class OtherState(BadArguments):
    """Globals that do not fit the declared state, as they came to the step: they are those of an older state."""


class NotSerializable(BadArguments):
    """An argument or result that cannot travel, or would not arrive as it was sent."""


class TooLarge(BadArguments):
    """Arguments or a result above the size limit (`max_payload`, 1 MiB by default)."""


class Duplicate(UsageError):
    """An unfinished job already carries this unique key, and ``on_duplicate="raise"`` was said; `job_id` names it."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class SplitChanged(UsageError):
    """A splitter that was run again offered other pieces than before."""


class JobNotFound(UsageError, KeyError):
    """No job has this id: it never existed, or was pruned."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class TokenNotFound(UsageError, KeyError):
    """No distributed job has this token: nothing was pushed to it, or it has ended and its time is over."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class PartNotFound(UsageError, KeyError):
    """The distributed job has no part of this name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BadToken(UsageError, ValueError):
    """Something that cannot be the token of a distributed job."""


class BadPart(UsageError, TypeError, ValueError):
    """Something that cannot be the name of a part, or parts that cannot be iterated."""


class AlreadyClosed(UsageError):
    """A push to a distributed job that takes no further parts."""


class PartsChanged(UsageError):
    """The producer of a distributed job was run again, and offered fewer parts than before."""


class TransactionEnded(UsageError):
    """A task with `transaction=True` ended its transaction itself; its job fails, and is not tried again."""


# ── the store and who keeps it ───────────────────────────────────────────────────────────────────


class StoreError(PieceworkError):
    """The store could not do what it was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is locked, or has no room; the same call may be sent again."""


class KeyHeld(StoreUnavailable):
    """A transaction that is still open has taken the unique key, so it is not known whether there is such a job."""


class StoreRefused(StoreUnavailable):
    """The server is there, and does not let in what the URL names: its role, password, database or encryption.

    Somebody may be about to mend that; a worker that starts with it ends.
    """


class SchemaOutdated(StoreError):
    """The store's schema is older or newer than this version of piecework can work with."""


class WithinNotSupported(StoreError):
    """This store cannot write on the connection that was given as `within=`."""


# ── a job, read or run ───────────────────────────────────────────────────────────────────────────


class JobError(PieceworkError):
    """Something about one job, raised to whoever waits for it or inside it."""


class JobFailed(JobError):
    """The job ended as failed; `error` holds the class, message and traceback, as text."""

    def __init__(self, message: str, job_id: str, error: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.error = error


class JobCancelled(JobError):
    """The job was cancelled; raised by `result()`, and inside a job by `current.check()`."""


class JobParked(JobError):
    """The job is parked, with the reason: it waits for new code or for somebody, and `result()` would wait for ever."""


class JobTimeout(JobError, TimeoutError):
    """A job ran past its `timeout`."""


class ProcessDied(JobError):
    """The process that ran a job of ``pool="process"`` ended without an answer."""


class ResultTimeout(JobError, TimeoutError):
    """The job did not end within the time that `result(timeout=…)` was given."""


class LeaseLost(JobError):
    """This run no longer belongs to this worker; whatever it still writes is refused."""


class RowGone(JobError):
    """A row of a database that a job was given is not there any more; `model` and `key` name it.

    What becomes of the job is said by its task's `on_missing`.
    """

    def __init__(self, message: str, model: str, key: tuple[Any, ...]) -> None:
        super().__init__(message)
        self.model = model
        self.key = key


class DistributedJobStopped(JobError):
    """A push to a distributed job that somebody has stopped."""


class ProducerReplaced(JobError):
    """Another run of the producer pushes to this distributed job by now; the parts of this one are refused."""


class PieceFailed(JobError):
    """A piece of a split failed for good, so its batch did."""


class StepLimit(JobError):
    """An operation came to more steps than its `max_steps`: it went round in a loop."""


class WaitTimedOut(JobError, TimeoutError):
    """The signal that an operation waited for did not come in time, and nothing was said of where to go then."""
