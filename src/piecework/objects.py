"""Classes as tasks: each public method of a registered class is a task of its own, made when it is first asked for.

An object is rebuilt from the arguments that it was constructed with. The name in the store is
``<name of the class>.<name of the method>``, and reaches nothing but public methods of registered classes and of their
subclasses.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import msgspec

from piecework.codec import MAX_PAYLOAD, ResultCodec, Signature, resolve_hints, too_large
from piecework.errors import BadArguments, DuplicateTask, TooLarge
from piecework.options import TaskOptions
from piecework.recording import constructor, given_to
from piecework.registry import Registry, TaskSpec, kind_of, task_name
from piecework.rows import Rows, Unit

# ── how a call of a method travels ───────────────────────────────────────────────────────────────


class Blueprint(NamedTuple):
    """An object to be: its class, and the arguments to construct it with."""

    kind: type
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    object: msgspec.Raw
    call: msgspec.Raw


_stored = msgspec.json.Decoder(_Stored)


class MethodSignature:
    """The arguments of a method and of its object, as one JSON text; the object itself is the first argument."""

    def __init__(self, task: str, kind: type, made: Signature, call: Signature) -> None:
        self.task = task
        self._kind = kind
        self._made = made
        self._call = call

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = MAX_PAYLOAD) -> str:
        """The JSON text of a call. Raises as `Signature.encode` does, and for an object of unknown arguments."""
        target, *rest = args
        given = given_to(target)
        if given is None:
            name = self._kind.__qualname__
            raise BadArguments(
                f"{self.task}: it is not known which arguments this {name} was constructed with (a copy, an unpickled one, "
                f"or one made before {name} was registered); construct it with {name}(…)"
            )
        made = self._made.encode(given.args, given.kwargs, limit)
        text = f'{{"object":{made},"call":{self._call.encode(rest, kwargs, limit)}}}'
        if len(text) > limit // 4 and (size := len(text.encode())) > limit:
            raise TooLarge(too_large(f"the arguments of {self.task} and its object", size, limit))
        return text

    def unit(self) -> Unit | None:
        """A new unit of rows for one run; None where neither the object nor the call takes any."""
        return self._made.unit() or self._call.unit()

    def reads(self, text: str) -> bool:
        """Whether stored arguments fit the object and its method as they are now."""
        try:
            stored = _stored.decode(text)
        except msgspec.MsgspecError:
            return False
        return self._made.reads(bytes(stored.object)) and self._call.reads(bytes(stored.call))

    def decode(self, text: str, unit: Unit | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The blueprint of the object and the arguments of its method. Raises as `Signature.decode` does."""
        try:
            stored = _stored.decode(text)
        except msgspec.MsgspecError as error:
            raise BadArguments(f"{self.task}: the stored arguments are not those of a method: {error}") from error
        made = Blueprint(self._kind, *self._made.decode(bytes(stored.object), unit))
        args, kwargs = self._call.decode(bytes(stored.call), unit)
        return (made, *args), kwargs


# ── one class ────────────────────────────────────────────────────────────────────────────────────


class TaskClass:
    """One class under its stable name: makes the specification of each of its methods when it is asked for."""

    def __init__(self, kind: type, name: str, options: TaskOptions, rows: Rows) -> None:
        self.kind = kind
        self.name = name
        self.options = options
        self._rows = rows
        self._made = Signature(constructor(kind), name, bound=True, rows=rows, hints=lambda: _constructor_hints(kind))
        self._specs: dict[str, TaskSpec] = {}

    def method(self, name: str) -> TaskSpec | None:
        """The task that a public method is; None where there is no such method."""
        spec = self._specs.get(name)
        if spec is None and runnable(self.kind, name):
            spec = self._specs.setdefault(name, self._spec(name))
        return spec

    def _spec(self, name: str) -> TaskSpec:
        task = f"{self.name}.{name}"
        declared = declared_in(self.kind, name)
        function = getattr(declared, "__func__", declared)
        call = Signature(function, task, bound=not isinstance(declared, staticmethod), rows=self._rows)
        is_async = kind_of(function) == "async"  # runs on the loop, whatever the class says of its other methods
        of_object = isinstance(declared, FunctionType)
        return TaskSpec(
            name=task,
            function=_built_and_called(name, function) if of_object else getattr(self.kind, name),
            options=msgspec.structs.replace(self.options, pool="thread") if is_async else self.options,
            signature=MethodSignature(task, self.kind, self._made, call) if of_object else call,
            result=ResultCodec(function, task),
            is_async=is_async,
        )


def _built_and_called(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """What a worker runs: builds the object and calls its method. An object that is there already is taken as it is."""

    @functools.wraps(method)
    def run(made: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(made, Blueprint):
            made = made.kind(*made.args, **made.kwargs)
        return getattr(made, name)(*args, **kwargs)

    return run


def declared_in(kind: type, name: str) -> Any:
    """What stands under a name in a class or a base of it (not in its metaclass); None where there is nothing."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def runnable(kind: type, name: str) -> bool:
    """Whether a name is a public method, classmethod or staticmethod of a class, and one that returns what it comes to."""
    return why_not_runnable(kind, name) is None


def why_not_runnable(kind: type, name: str) -> str | None:
    """Why an attribute of a class cannot be run later; None where it can."""
    if name.startswith("_"):
        return "is private; give it a public name, or call it from a public method"
    declared = declared_in(kind, name)
    if isinstance(declared, functools.singledispatchmethod):
        return (
            "is a singledispatchmethod, which has no signature of its own; call it from a plain method, and give that"
        )
    function = declared.__func__ if isinstance(declared, classmethod | staticmethod) else declared
    if not isinstance(function, FunctionType):
        return "is no method written in Python"
    if "generator" in kind_of(function):
        return "is a generator, whose answer is no value; return a list, or yield pieces in an @app.split"
    return None


_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "_fields")


def _constructor_hints(kind: type) -> dict[str, Any]:
    """The annotations of a constructor.

    One that was generated has those of its fields, in the modules where they stand.
    """
    function = constructor(kind)
    generated = function.__code__.co_filename.startswith("<") and any(hasattr(kind, mark) for mark in _FIELDS)
    if not generated:
        return resolve_hints(function)
    fields = resolve_hints(kind)
    own = {name: fields.get(name, hint) for name, hint in function.__annotations__.items()}
    return {name: hint.type if isinstance(hint, dataclasses.InitVar) else hint for name, hint in own.items()}


# ── all classes ──────────────────────────────────────────────────────────────────────────────────


class ObjectRegistry(Registry):
    """A registry that knows classes too."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self._rows = rows
        self._classes: dict[str, TaskClass] = {}
        self._by_kind: dict[type, TaskClass] = {}
        self._derived: dict[type, TaskClass] = {}
        self._statics: dict[Callable[..., Any], tuple[TaskClass, str]] = {}

    def add_class(self, kind: type, name: str, options: TaskOptions, aliases: Iterable[str] = ()) -> None:
        """Registers a class, and the names it had before. Raises `DuplicateTask`."""
        known = self._classes.get(name)
        if known is not None and not _same_class(known.kind, kind):
            raise DuplicateTask(f"two classes are registered as {name!r}; give one of them another name=")
        taken = [task for task in self._tasks if task.startswith(f"{name}.") and runnable(kind, task[len(name) + 1 :])]
        if taken or self._owner(name) not in (None, name) or name in self._tasks:
            raise DuplicateTask(
                f"{(taken or [name])[0]!r} is the name of another task already; give the class another name="
            )
        self._add_aliases(name, aliases)
        self._classes[name] = self._by_kind[kind] = TaskClass(kind, name, options, self._rows)

    def get(self, name: str) -> TaskSpec | None:
        return super().get(name) or self._method(name)

    def __iter__(self) -> Iterator[TaskSpec]:
        yield from super().__iter__()
        for known in self._classes.values():
            names = (name for name in dir(known.kind) if runnable(known.kind, name))
            yield from (spec for name in names if (spec := known.method(name)) is not None)

    def __len__(self) -> int:
        return super().__len__() + len(self._classes)

    def _owner(self, name: str) -> str | None:
        return name if name in self._classes else super()._owner(name)

    def _names(self) -> list[str]:
        return [spec.name for spec in self]

    def _method(self, name: str) -> TaskSpec | None:
        owner, _, method = name.rpartition(".")
        found = self._class(self._aliases.get(owner, owner)) if owner else None
        return None if found is None else found.method(method)

    def _class(self, name: str) -> TaskClass | None:
        if name in self._classes:
            return self._classes[name]
        named = [kind for kind in self._subclasses() if task_name(kind, None) == name]
        return self.class_of(named[-1]) if named else None  # the last one, where a module was loaded again

    def _subclasses(self) -> Iterator[type]:
        """Every loaded subclass that a worker can find by its name, and that was not registered itself."""
        line = [known.kind for known in self._classes.values()]
        seen = set(line)
        while line:
            kind = line.pop(0)
            below = [child for child in _children(kind) if child not in seen]
            seen.update(below)
            line.extend(below)
            yield from (child for child in below if "<locals>" not in child.__qualname__)

    def kinds(self) -> list[type]:
        """Every registered class, and every subclass of one that a worker can find."""
        return [*(known.kind for known in self._classes.values()), *self._subclasses()]

    def class_of(self, kind: type) -> TaskClass | None:
        """The class as a task: as it was registered, or with the options of the nearest base that was. None without."""
        known = self._by_kind.get(kind) or self._derived.get(kind)
        if known is None:
            base = next((self._by_kind[base] for base in kind.__mro__ if base in self._by_kind), None)
            if base is not None:
                known = TaskClass(kind, task_name(kind, None), base.options, self._rows)
                known = self._derived.setdefault(kind, known)
        return known

    def static_method(self, function: Callable[..., Any]) -> tuple[TaskClass, str] | None:
        """The class and the name of a staticmethod, which itself knows neither."""
        if function not in self._statics:
            for kind in self.kinds():
                name = next((name for name in dir(kind) if _is_static(kind, name, function)), None)
                known = None if name is None else self.class_of(kind)
                if name is not None and known is not None:
                    self._statics[function] = known, name
                    break
        return self._statics.get(function)


def _children(kind: type) -> list[type]:
    return type.__subclasses__(kind)


def _is_static(kind: type, name: str, function: Callable[..., Any]) -> bool:
    declared = declared_in(kind, name)
    return isinstance(declared, staticmethod) and declared.__func__ is function


def _same_class(one: type, other: type) -> bool:
    """Whether two classes are one, of a module that was loaded twice: their functions stand in the same lines."""
    return one is other or _source(one) == _source(other)


def _source(kind: type) -> tuple[Any, ...]:
    members = [(name, value) for name, value in vars(kind).items() if not name.startswith("__")]
    functions = [(name, value.__code__) for name, value in members if isinstance(value, FunctionType)]
    lines = [(name, code.co_filename, code.co_firstlineno) for name, code in functions]
    return (kind.__module__, kind.__qualname__, *lines)
