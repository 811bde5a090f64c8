"""The declared tasks of an app: name → task. Only what is declared here ever runs; nothing is imported from the store."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from piecework.codec import ResultCodec, Signature
from piecework.errors import BadOption, DuplicateTask, UnknownTask
from piecework.job import OnFailure
from piecework.options import TaskOptions

_NAME = re.compile(r"[A-Za-z0-9_.:\-]{1,200}")


class Compose(msgspec.Struct):
    """The function that joins the pieces of a split, and where it runs."""

    function: Callable[..., Any]
    result: ResultCodec
    queue: str | None = None
    priority: int | None = None


class TaskSpec(msgspec.Struct):
    """One declared task: what to call, how its arguments and result travel, and its options."""

    name: str
    function: Callable[..., Any]
    options: TaskOptions
    signature: Signature
    result: ResultCodec
    is_async: bool = False
    is_split: bool = False
    on_failure: OnFailure = OnFailure.FINISH
    compose: Compose | None = None

    @property
    def outcome_codec(self) -> ResultCodec:
        """How the final result travels: a split's is its compose's."""
        return self.compose.result if self.compose is not None else self.result


class Registry:
    """Name → task; two functions under one name, and names that nobody declared, are errors that say what is near."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskSpec] = {}

    def add(self, spec: TaskSpec) -> None:
        known = self._tasks.get(spec.name)
        if known is not None and not _same_source(known.function, spec.function):
            raise DuplicateTask(f"two functions are registered as {spec.name!r}; give one of them another name=")
        self._tasks[spec.name] = spec

    def get(self, name: str) -> TaskSpec | None:
        return self._tasks.get(name)

    def __getitem__(self, name: str) -> TaskSpec:
        try:
            return self._tasks[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._tasks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownTask(f"no task is registered as {name!r}{hint}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[TaskSpec]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)


def _same_source(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are one, of a module that was loaded twice: another code object from the same place."""
    if one is other:
        return True
    a, b = getattr(one, "__code__", None), getattr(other, "__code__", None)
    if a is None or b is None or a is b or "<" in a.co_qualname:
        return False
    return (a.co_filename, a.co_firstlineno, a.co_qualname) == (b.co_filename, b.co_firstlineno, b.co_qualname)


def task_name(function: Callable[..., Any], given: str | None) -> str:
    """The stable name of a task: the one it was given, else its module and qualified name.

    A function of the script that was started is named after the script's file, as the worker that imports it will.
    """
    if given is None:
        if function.__name__ == "<lambda>":
            raise BadOption("a lambda has no name that a worker could find it by; use def, or give it a name=")
        given = f"{_module_name(function)}.{function.__qualname__}".replace(".<locals>", "")
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise BadOption(f"the task name {given!r} must be 1 to 200 letters, digits or any of _ . : -")
    return given


def _module_name(function: Callable[..., Any]) -> str:
    return function.__module__ if function.__module__ != "__main__" else main_name()


def main_name() -> str:
    """The name under which another process would import the script that was started."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def kind_of(function: Callable[..., Any]) -> str:
    """What sort of callable a decorator was given."""
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    if inspect.iscoroutinefunction(function):
        return "async"
    return "plain"
