"""What single options may be: each is made what it is kept as, or refused by naming where it was given."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from piecework.errors import BadArguments, BadOption
from piecework.errortext import clean, storable
from piecework.labels import identity_text
from piecework.options.values import ExceptionRule
from piecework.retry import RetryPolicy, check_policy, fixed

_QUEUE = re.compile(r"[A-Za-z0-9_.:\-]{1,100}")
MAX_PRIORITY = 1_000_000
MAX_KEY = 500
MAX_TAG = 100  # characters
MAX_TAGS = 20
TOO_FAR = 2200  # the year


def check_queue(value: Any, where: str) -> str:
    """A queue's name."""
    if not isinstance(value, str) or not _QUEUE.fullmatch(value):
        raise BadOption(f"{where} must be a queue name of 1 to 100 letters, digits or any of _ . : -, not {value!r}")
    return str.__str__(value)  # of a subclass nobody knows whether a store takes it


def check_queues(value: Any, where: str) -> list[str]:
    """A list of queue names; a bare string would be taken for the list of its letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise BadOption(f"{where} must be a list of queue names, not {value!r}")
    names = [check_queue(queue, where) for queue in value]
    if not names:
        raise BadOption(f"{where} names no queue; leave it out for all of them")
    return names


def check_name(value: Any, where: str) -> str:
    """A worker's name, as lists show it: something to read, on one line."""
    if not isinstance(value, str) or not value.strip() or len(value) > 100 or not value.isprintable():
        raise BadOption(f"{where} must be a name of 1 to 100 printable characters, not {value!r}")
    return str.__str__(value)


def _check_priority(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise BadOption(f"{where} must be a whole number between ±{MAX_PRIORITY:,} (lower runs sooner), not {value!r}")
    return int(value)


def _check_attempts(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise BadOption(f"{where} must be a whole number, 1 or more (1: never retried), not {value!r}")
    return int(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def check_seconds(value: Any, where: str) -> float:
    """Seconds, of a number or a timedelta: none or more, and no more than a hundred years."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value) or value < 0:
        raise BadOption(f"{where} must be seconds (a number, 0 or more) or a timedelta, not {value!r}")
    if value > 100 * 366 * 86400:
        raise BadOption(f"{where} of {value!r} seconds is more than a hundred years")
    return float(value)


def _check_timeout(value: Any, where: str) -> float | None:
    if value is None:
        return None
    seconds = check_seconds(value, where)
    if seconds == 0:
        raise BadOption(f"{where} must be more than 0 seconds; None is no limit")
    return seconds


def check_moment(value: Any, where: str) -> float | None:
    """A moment as seconds since the epoch, of an aware datetime."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise BadOption(
            f"{where} must be an aware datetime, such as datetime.now(UTC) + timedelta(hours=1), not {value!r}"
        )
    try:
        return value.astimezone(UTC).timestamp()
    except OverflowError:
        raise BadOption(f"{where} is beyond what can be told as UTC: {value!r}") from None


def check_coming(value: Any, where: str) -> float | None:
    """A moment that something can wait for, as for a delay, which is no more than a hundred years."""
    if isinstance(value, datetime) and value.year >= TOO_FAR:
        raise BadOption(f"{where} of {value.isoformat()} is beyond the year {TOO_FAR}")
    return check_moment(value, where)


def _check_retry(value: Any, where: str) -> RetryPolicy:
    if isinstance(value, RetryPolicy):
        return check_policy(value)
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return fixed(check_seconds(value, where))
    raise BadOption(f"{where} must be exponential(…), fixed(…) or a number of seconds, not {value!r}")


def _check_key(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY or not storable(value):
        raise BadOption(f"{where} must be text of 1 to {MAX_KEY} characters, without NUL, not {value!r}")
    return str.__str__(value)


def check_text(value: Any, where: str, *, longest: int = 2_000) -> str:
    """Words that are kept with a job, made fit for any store: an operator's stop is not refused for a character."""
    if not isinstance(value, str):
        raise BadOption(f"{where} must be text, not {value!r:.100}")
    return clean(value, longest)


def _check_kinds(value: Any, where: str) -> tuple[type[BaseException], ...]:
    kinds = (value,) if isinstance(value, type) else value
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise BadOption(f"{where} must be an exception class or several, not {value!r}")
    found = tuple(kinds)
    for kind in found:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise BadOption(f"{where} must be exception classes, not {kind!r}")
    return found


def _check_retry_on(value: Any, where: str) -> tuple[ExceptionRule, ...]:
    if isinstance(value, Mapping):
        kinds = _check_kinds(list(value), where)
        return tuple(ExceptionRule(kind, _check_retry(value[kind], f"{where}[{kind.__name__}]")) for kind in kinds)
    return tuple(ExceptionRule(kind) for kind in _check_kinds(value, where))


def _check_pool(value: Any, where: str) -> str:
    if value not in ("thread", "process"):
        raise BadOption(f"{where} must be 'thread' or 'process', not {value!r}")
    return str.__str__(value)


def check_tags(value: Any, where: str) -> tuple[str, ...]:
    """Tags, each once; a bare text is one tag, and not its letters."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise BadOption(f"{where} must be text, or a list of texts, not {value!r:.100}")
    tags = tuple(dict.fromkeys(_check_tag(tag, where) for tag in given))
    if len(tags) > MAX_TAGS:
        raise BadOption(f"{where} may be up to {MAX_TAGS}, not {len(tags)}")
    return tags


def _check_tag(tag: Any, where: str) -> str:
    if not isinstance(tag, str) or not 1 <= len(tag) <= MAX_TAG or not storable(tag) or not tag.isprintable():
        raise BadOption(f"{where} must be 1 to {MAX_TAG} printable characters each, not {tag!r:.100}")
    return str.__str__(tag)


def _check_identity(value: Any, where: str) -> Callable[..., Any] | tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if callable(value):
        return value  # type: ignore[no-any-return]
    names = tuple(value) if isinstance(value, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise BadOption(
            f"{where} must be a function of the task's arguments, or the name of one, or a list of such names, not "
            f"{value!r:.100}"
        )
    return names


def _check_identified(value: Any, where: str) -> str | None:
    try:
        return identity_text(value, where.removesuffix("identified") + "identity")
    except BadArguments as error:
        raise BadOption(str(error)) from None


def _check_flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadOption(f"{where} must be True or False, not {value!r}")
    return value


def _check_on_duplicate(value: Any, where: str) -> str:
    if value not in ("return", "raise"):
        raise BadOption(f"{where} must be 'return' (the job that is there) or 'raise', not {value!r}")
    return str.__str__(value)


def _check_on_missing(value: Any, where: str) -> str:
    if value not in ("fail", "cancel", "retry"):
        raise BadOption(f"{where} must be 'fail', 'cancel' or 'retry', not {value!r}")
    return str.__str__(value)


# By the name of the option: what is given, and where, to what is kept.
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "queue": check_queue,
    "priority": _check_priority,
    "attempts": _check_attempts,
    "retry": _check_retry,
    "timeout": _check_timeout,
    "on_missing": _check_on_missing,
    "expires": _check_timeout,
    "expires_at": check_coming,
    "retry_on": _check_retry_on,
    "give_up_on": _check_kinds,
    "pool": _check_pool,
    "grace": check_seconds,
    "transaction": _check_flag,
    "tags": check_tags,
    "identity": _check_identity,
    "identified": _check_identified,
    "one_per_identity": _check_flag,
    "at": check_coming,
    "delay": lambda value, where: None if value is None else check_seconds(value, where),
    "key": _check_key,
    "on_duplicate": _check_on_duplicate,
    "within": lambda value, where: value,
    "after_commit": lambda value, where: value,
}
