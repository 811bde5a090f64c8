"""The declared tasks of an app: name → task.

Only what is declared here ever runs; nothing is imported from the store.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from piecework.codec import ResultCodec
from piecework.errors import BadOption, DuplicateTask, UnknownTask
from piecework.job import OnFailure
from piecework.labels import Identity
from piecework.names import module_name
from piecework.options import TaskOptions
from piecework.rows import Unit

if TYPE_CHECKING:
    from piecework.operation import OperationSpec

_NAME = re.compile(r"[A-Za-z0-9_.:\-]{1,200}")


class Compose(msgspec.Struct):
    """The function that joins the pieces of a split, and where it runs."""

    function: Callable[..., Any]
    result: ResultCodec
    queue: str | None = None
    priority: int | None = None


class Travelling(Protocol):
    """How the arguments of a task travel."""

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = ...) -> str: ...

    def reads(self, text: str) -> bool: ...

    def unit(self) -> Unit | None: ...

    def decode(self, text: str, unit: Unit | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]: ...


class TaskSpec(msgspec.Struct):
    """One declared task: what to call, how its arguments and result travel, and its options."""

    name: str
    function: Callable[..., Any]
    options: TaskOptions
    signature: Travelling
    result: ResultCodec
    is_async: bool = False
    is_split: bool = False
    on_failure: OnFailure = OnFailure.FINISH
    compose: Compose | None = None
    operation: OperationSpec | None = None
    identity: Identity | None = None

    @property
    def outcome_codec(self) -> ResultCodec:
        """How the final result travels: a split's is its compose's."""
        return self.compose.result if self.compose is not None else self.result


class Registry:
    """Name → task; two functions under one name, and names that nobody declared, are errors that say what is near."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskSpec] = {}
        self._aliases: dict[str, str] = {}

    def add(self, spec: TaskSpec, aliases: Iterable[str] = ()) -> None:
        """Registers a task, and the names it had before. Raises `DuplicateTask` where one of them is another task's."""
        known = self._tasks.get(spec.name)
        if known is not None and not _same_source(known.function, spec.function):
            raise DuplicateTask(f"two functions are registered as {spec.name!r}; give one of them another name=")
        if known is None and (self._owner(spec.name) is not None or self.get(spec.name) is not None):
            raise DuplicateTask(f"{spec.name!r} is the name of another task already; give one of them another name=")
        self._add_aliases(spec.name, aliases)
        self._tasks[spec.name] = spec

    def _add_aliases(self, name: str, aliases: Iterable[str]) -> None:
        for alias in aliases:
            if self._owner(alias) not in (None, name) or self._owner(alias) == alias or alias == name:
                raise DuplicateTask(f"{alias!r} cannot be an alias of {name!r}: it is the name of a task already")
        self._aliases |= dict.fromkeys(aliases, name)

    def _owner(self, name: str) -> str | None:
        """The present name of what has this name, or had it before."""
        return name if name in self._tasks else self._aliases.get(name)

    def names_of(self, name: str) -> tuple[str, ...]:
        """A task's name, and those that it had before."""
        return (name, *(alias for alias, owner in self._aliases.items() if owner == name))

    def _names(self) -> list[str]:
        return list(self._tasks)

    def get(self, name: str) -> TaskSpec | None:
        return self._tasks.get(name) or self._tasks.get(self._aliases.get(name, ""))

    def __getitem__(self, name: str) -> TaskSpec:
        spec = self.get(name)
        if spec is None:
            near = difflib.get_close_matches(name, self._names(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownTask(f"no task is registered as {name!r}{hint}")
        return spec

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

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


def task_name(function: Callable[..., Any], given: str | None, what: str = "task") -> str:
    """The stable name of a task: the one it was given, else its module and qualified name.

    A function of the script that was started is named after the script's file, as the worker that imports it will.
    """
    if given is None:
        if function.__name__ == "<lambda>":
            raise BadOption("a lambda has no name that a worker could find it by; use def, or give it a name=")
        given = f"{module_name(function)}.{function.__qualname__}".replace(".<locals>", "")
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise BadOption(f"the {what} name {given!r} must be 1 to 200 letters, digits or any of _ . : -")
    return str.__str__(given)  # of a subclass nobody knows whether it travels


def check_aliases(given: Any, where: str) -> tuple[str, ...]:
    """The names that a task had before. Raises `BadOption`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise BadOption(f"{where}: aliases must be a list of the names that it had before, not {given!r}")
    aliases = tuple(given)
    for alias in aliases:
        if not isinstance(alias, str) or not _NAME.fullmatch(alias):
            raise BadOption(f"{where}: the alias {alias!r} must be 1 to 200 letters, digits or any of _ . : -")
    return tuple(map(str.__str__, aliases))


def kind_of(function: Callable[..., Any]) -> str:
    """What sort of callable a decorator was given."""
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    if inspect.iscoroutinefunction(function):
        return "async"
    return "plain"
