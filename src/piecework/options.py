"""The options of tasks and of single calls: checked where they are given, unknown ones refused with the known ones named."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from piecework.errors import BadArguments, BadOption
from piecework.errortext import clean, storable
from piecework.labels import identity_text
from piecework.retry import DEFAULT_ATTEMPTS, DEFAULT_RETRY, RetryPolicy, check_policy, fixed

_QUEUE = re.compile(r"[A-Za-z0-9_.:\-]{1,100}")
MAX_PRIORITY = 1_000_000
MAX_KEY = 500
MAX_TAG = 100  # characters
MAX_TAGS = 20
TOO_FAR = 2200  # the year
DEFAULT_GRACE = 5.0  # seconds that a job in a process has to end after it was asked to stop


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
            return _ANY
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


_NOTHING = Overrides()
_OVERRIDDEN = ("attempts", "retry", "on_missing", "queue", "priority")
_ANY = ExceptionRule(BaseException)
_overrides = msgspec.json.Decoder(Overrides)


def task_options(given: Mapping[str, Any], where: str) -> TaskOptions:
    """Checked options of a decorator. Raises `BadOption`."""
    return TaskOptions(**_checked(given, TaskOptions.__struct_fields__, where))


def refuse_transaction(given: Mapping[str, Any], where: str) -> None:
    """Raises `BadOption` where a transaction of its own is asked of something that is no single run of a `def`."""
    if given.get("transaction"):
        raise BadOption(f"{where}: transaction= is for a task that is a def and runs in a thread, which ends in one go")


def refuse_identity(given: Mapping[str, Any], where: str, instead: str) -> None:
    """Raises `BadOption` where something is declared with an identity that has no arguments of its own to take it from."""
    for name in ("identity", "one_per_identity"):
        if name in given:
            raise BadOption(f"{where}: {name}= is for functions; {instead}")


def call_options(given: Mapping[str, Any], before: CallOptions, where: str) -> CallOptions:
    """Checked options of a call, on top of those of an earlier `using`. Raises `BadOption`."""
    known: tuple[str, ...] = tuple(name for name in CallKeywords.__annotations__)
    if "identity" in given:
        given = {**given, "identified": given["identity"]}
        del given["identity"]
        known += ("identified",)
    if isinstance(given.get("expires"), datetime):
        given = {**given, "expires_at": given["expires"]}
        del given["expires"]
        known += ("expires_at",)
    values = _checked(given, known, where)
    if "expires" in values or "expires_at" in values:
        values = {"expires": None, "expires_at": None} | values
    if "identified" in values:
        values["identity"] = values.pop("identified")
    if "at" in values:
        values["run_at"] = values.pop("at")
        values.setdefault("delay", None)
    elif "delay" in values:
        values.setdefault("run_at", None)
    options: CallOptions = msgspec.structs.replace(before, **values)
    if options.run_at is not None and options.delay is not None:
        raise BadOption(f"{where}: give at= or delay=, not both")
    if options.within is not None and options.after_commit is not None:
        raise BadOption(f"{where}: give within= or after_commit=, not both")
    return options


_OF_WHOLE_OPERATIONS = ("expires", "on_missing", "transaction", "tags", "identity", "one_per_identity")


def step_options(given: Mapping[str, Any], beside: tuple[str, ...], where: str) -> dict[str, Any]:
    """What one step of an operation says other than the operation; `beside` are names of what else it may say."""
    known = tuple(name for name in TaskOptions.__struct_fields__ if name not in _OF_WHOLE_OPERATIONS)
    return _checked(given, (*known, "delay", "at", *beside), where)


def overrides_of(options: CallOptions, *, moves: bool = False) -> str | None:
    """The travelling part as JSON; None when there is nothing to say. A job that `moves` has its place in it, too."""
    own = Overrides(options.attempts, options.retry, options.timeout, options.on_missing)
    if moves:
        own = msgspec.structs.replace(own, queue=options.queue, priority=options.priority)
    return None if own == _NOTHING else msgspec.json.encode(own).decode()


def effective(options: TaskOptions, overrides: str | None) -> TaskOptions:
    """A task's options as one job has them. Raises `ValueError` where the stored text cannot be read."""
    if overrides is None:
        return options
    own = _overrides.decode(overrides)
    said = {name: value for name in _OVERRIDDEN if (value := getattr(own, name)) is not None}
    if not isinstance(own.timeout, UnsetType):
        said["timeout"] = own.timeout
    changed: TaskOptions = msgspec.structs.replace(options, **said)
    return changed


def _checked(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> dict[str, Any]:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadOption(f"{where}: unknown option {name!r}{hint} (known: {', '.join(known)})")
    return {name: _CHECKS[name](value, f"{where}: {name}") for name, value in given.items()}


def check_queue(value: Any, where: str) -> str:
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
    return value


def _check_priority(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise BadOption(f"{where} must be a whole number between ±{MAX_PRIORITY:,} (lower runs sooner), not {value!r}")
    return int(value)


def check_attempts(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise BadOption(f"{where} must be a whole number, 1 or more (1: never retried), not {value!r}")
    return int(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def check_seconds(value: Any, where: str) -> float:
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
    return str(value)


def _check_on_missing(value: Any, where: str) -> str:
    if value not in ("fail", "cancel", "retry"):
        raise BadOption(f"{where} must be 'fail', 'cancel' or 'retry', not {value!r}")
    return str(value)


_CHECKS: dict[str, Any] = {
    "queue": check_queue,
    "priority": _check_priority,
    "attempts": check_attempts,
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
