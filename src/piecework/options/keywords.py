"""The options as type checkers see them, which keywords a decorator and a call take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from piecework.retry import RetryPolicy


class TaskKeywords(TypedDict, total=False):
    """The options that a task and a call have in common, as type checkers see them."""

    queue: str
    priority: int
    attempts: int
    retry: RetryPolicy | float | timedelta
    timeout: float | timedelta | None
    on_missing: Literal["fail", "cancel", "retry"]
    tags: str | Sequence[str]


Kinds = type[BaseException] | Sequence[type[BaseException]]


class DeclaredKeywords(TaskKeywords, total=False):
    """The options of `@app.split`, as type checkers see them: what is said of exceptions stays with the code."""

    expires: float | timedelta | None
    retry_on: Kinds | Mapping[type[BaseException], RetryPolicy | float | timedelta]
    give_up_on: Kinds
    identity: Callable[..., Any] | str | Sequence[str]
    one_per_identity: bool


class FunctionKeywords(DeclaredKeywords, total=False):
    """The options of `@app.task`, as type checkers see them."""

    pool: Literal["thread", "process"]
    grace: float | timedelta
    transaction: bool


class CallKeywords(TaskKeywords, total=False):
    """The options of `using`, as type checkers see them; `expires` may be a moment here."""

    expires: float | timedelta | datetime | None
    at: datetime | None
    delay: float | timedelta | None
    key: str | None
    on_duplicate: Literal["return", "raise"]
    within: Any
    after_commit: Any
    identity: Any
    one_per_identity: bool
