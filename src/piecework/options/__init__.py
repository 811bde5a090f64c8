"""The options of tasks and of single calls: checked where they are given, unknown ones refused by naming the known."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UnsetType

from piecework.errors import BadOption
from piecework.options.checks import (
    CHECKS,
    check_coming,
    check_moment,
    check_name,
    check_queue,
    check_queues,
    check_seconds,
    check_tags,
    check_text,
)
from piecework.options.keywords import CallKeywords, DeclaredKeywords, FunctionKeywords, Kinds
from piecework.options.values import CallOptions, ExceptionRule, Overrides, TaskOptions

__all__ = [
    "CallKeywords",
    "CallOptions",
    "DeclaredKeywords",
    "ExceptionRule",
    "FunctionKeywords",
    "Kinds",
    "Overrides",
    "TaskOptions",
    "call_options",
    "check_coming",
    "check_moment",
    "check_name",
    "check_queue",
    "check_queues",
    "check_seconds",
    "check_tags",
    "check_text",
    "effective",
    "overrides_of",
    "refuse_identity",
    "refuse_transaction",
    "step_options",
    "task_options",
]

_NOTHING = Overrides()
_OF_WHOLE_OPERATIONS = ("expires", "on_missing", "transaction", "tags", "identity", "one_per_identity")
_OVERRIDDEN = ("attempts", "retry", "on_missing", "queue", "priority")
_overrides = msgspec.json.Decoder(Overrides)


def task_options(given: Mapping[str, Any], where: str) -> TaskOptions:
    """Checked options of a decorator. Raises `BadOption`."""
    return TaskOptions(**_checked(given, TaskOptions.__struct_fields__, where))


def refuse_transaction(given: Mapping[str, Any], where: str) -> None:
    """Raises `BadOption` where a transaction of its own is asked of something that is no single run of a `def`."""
    if given.get("transaction"):
        raise BadOption(f"{where}: transaction= is for a task that is a def and runs in a thread, which ends in one go")


def refuse_identity(given: Mapping[str, Any], where: str, instead: str) -> None:
    """Raises `BadOption` where something is declared with an identity that has no arguments to take it from."""
    for name in ("identity", "one_per_identity"):
        if name in given:
            raise BadOption(f"{where}: {name}= is for functions; {instead}")


def call_options(given: Mapping[str, Any], before: CallOptions, where: str) -> CallOptions:
    """Checked options of a call, on top of those of an earlier `using`. Raises `BadOption`."""
    known: tuple[str, ...] = tuple(CallKeywords.__annotations__)
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
    return {name: CHECKS[name](value, f"{where}: {name}") for name, value in given.items()}
