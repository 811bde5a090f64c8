"""Verdicts: what a task may say of its own run, by returning or raising it: `Retry`, `Snooze`, `Cancel`, `Fail`.

They are exceptions so that they can be raised from any depth, and values so that a function's last line can be
``return Snooze(60)``. Both mean the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from piecework.errors import BadOption
from piecework.errortext import clean
from piecework.options import check_coming, check_seconds

MAX_REASON = 2_000


class Verdict(Exception):
    """The root of what a task may say of its own run."""

    def __init__(self, reason: str = "") -> None:
        if not isinstance(reason, str):
            raise BadOption(f"{type(self).__name__}: the reason must be text, not {reason!r:.100}")
        super().__init__(reason)
        self.reason = clean(reason, MAX_REASON)

    def __reduce__(self) -> Any:  # an exception would be made anew from its text alone
        return type(self), (*self._said(), self.reason)

    def _said(self) -> tuple[Any, ...]:
        """What it was made from, beside the reason."""
        return ()


class Retry(Verdict):
    """Try this job again: an attempt is spent; without attempts left it fails with the reason.

    `after` is seconds or a timedelta; without it the task's retry policy says how long to wait.
    Raises `BadOption` for a time that cannot be.

    Example: ``raise Retry(after=response.retry_after, reason="429 from the API")``
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.after = None if after is None else check_seconds(after, "Retry: after")

    def _said(self) -> tuple[Any, ...]:
        return (self.after,)


class Snooze(Verdict):
    """Run this job again later, as if it had not run: no attempt is spent, however often.

    `until` is seconds, a timedelta, or an aware datetime. Raises `BadOption` for a time that cannot be.

    Example: ``return Snooze(timedelta(minutes=5), reason="the export is not ready")``
    """

    def __init__(self, until: float | timedelta | datetime, reason: str = "") -> None:
        super().__init__(reason)
        if isinstance(until, datetime) and until.tzinfo is None:
            raise BadOption(f"Snooze: until must be an aware datetime, such as datetime.now(UTC) + …, not {until!r}")
        if isinstance(until, datetime):
            check_coming(until, "Snooze: until")
        self.until = until.astimezone(UTC) if isinstance(until, datetime) else check_seconds(until, "Snooze: until")

    def _said(self) -> tuple[Any, ...]:
        return (self.until,)

    def delay(self, now: float) -> float:
        """Seconds from `now` (epoch seconds); 0 for a moment that has passed."""
        if isinstance(self.until, datetime):
            return max(0.0, self.until.timestamp() - now)
        return self.until


class Cancel(Verdict):
    """This job need not be done any more: it ends as cancelled, with the reason.

    Example: ``return Cancel("the order was withdrawn")``
    """


class Fail(Verdict):
    """This job cannot succeed: it fails for good, with the reason, whatever attempts are left.

    Example: ``raise Fail("the card was refused") from error``
    """
