"""The options once they have been checked: of a task, of one call, and what of a call travels with its job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from piecework.retry import DEFAULT_ATTEMPTS, DEFAULT_RETRY, RetryPolicy

DEFAULT_GRACE = 5.0  # seconds that a job in a process has to end after it was asked to stop


class ExceptionRule(msgspec.Struct, frozen=True):
    """What `retry_on` says of one class of exceptions: it is tried again, by this policy or by the task's."""

    kind: type[BaseException]
    retry: RetryPolicy | None = None


class TaskOptions(msgspec.Struct, frozen=True):
    """What a task's decorator may say. Lower priority runs sooner; times are in seconds.

    `on_missing` says what becomes of a job that was given a row which is gone: "fail", "cancel" or "retry".
    """

    queue: str = "default"
    priority: int = 0
    attempts: int = DEFAULT_ATTEMPTS
    retry: RetryPolicy = DEFAULT_RETRY
    timeout: float | None = None
    expires: float | None = None  # counted from the moment it is due
    on_missing: str = "fail"
    retry_on: tuple[ExceptionRule, ...] | None = None  # None: every exception
    give_up_on: tuple[type[BaseException], ...] = ()
    pool: str = "thread"
    grace: float = DEFAULT_GRACE
    transaction: bool = False
    tags: tuple[str, ...] = ()
    identity: Callable[..., Any] | tuple[str, ...] | None = None  # a function of the arguments, or names of some
    one_per_identity: bool = False

    def rule(self, kind: type[BaseException]) -> ExceptionRule | None:
        """What is to be done about an exception: the rule by which it is tried again; None to give up.

        Judged by the classes' own order of resolution: a metaclass has no say in it.
        """
        above = type.mro(kind)
        if any(given in above for given in self.give_up_on):
            return None
        if self.retry_on is None:
            return _EVERY
        return next((rule for rule in self.retry_on if rule.kind in above), None)


class CallOptions(msgspec.Struct, frozen=True):
    """What one call may say beside: `using(…)`. Whatever is None, or unset, is left to the task."""

    queue: str | None = None
    priority: int | None = None
    attempts: int | None = None
    retry: RetryPolicy | None = None
    timeout: float | UnsetType | None = UNSET  # None is said, too: no limit
    on_missing: str | None = None
    expires: float | UnsetType | None = UNSET
    expires_at: float | None = None
    run_at: float | None = None
    delay: float | None = None
    key: str | None = None
    on_duplicate: str = "return"
    within: Any = None
    after_commit: Any = None
    tags: tuple[str, ...] = ()  # beside the task's
    identity: str | UnsetType | None = UNSET  # None is said, too: it has none
    one_per_identity: bool | None = None


class Overrides(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a call's options that travels with the job, because the worker needs it.

    An operation's queue and priority are those of its present step; here are those of the steps that say nothing.
    """

    attempts: int | None = None
    retry: RetryPolicy | None = None
    timeout: float | UnsetType | None = UNSET
    on_missing: str | None = None
    queue: str | None = None
    priority: int | None = None


_EVERY = ExceptionRule(BaseException)
