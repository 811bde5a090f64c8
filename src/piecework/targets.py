"""What `app.later` was given: finds the task that a bound method is, or says why it is none and what to do."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from piecework.errors import BadArguments, UnknownTask, UsageError
from piecework.objects import ObjectRegistry, TaskClass, declared_in, why_not_runnable
from piecework.recording import constructed_otherwise
from piecework.registry import TaskSpec

_GIVE = "give it a registered task, or a method of an object whose class is registered: app.later(process.call, …)"


class Target(NamedTuple):
    """A task, and what stands before the arguments of its call: the object, where the method has one."""

    spec: TaskSpec
    before: tuple[Any, ...]


def target_of(given: Any, registry: ObjectRegistry) -> Target:
    """The task that a method is. Raises `UnknownTask` or `BadArguments` for whatever a worker could not find or run."""
    if isinstance(given, MethodType):
        made = given.__self__
        return _of_class(given, made, registry) if isinstance(made, type) else _of_object(given, made, registry)
    if isinstance(given, FunctionType):
        return _of_function(given, registry)
    raise _no_method(given)


def _of_object(given: MethodType, made: Any, registry: ObjectRegistry) -> Target:
    kind = type(made)
    known = _known(kind, registry)
    name = _name_of(given, kind)
    return Target(_spec(known, name), (made,))


def _of_class(given: MethodType, kind: type, registry: ObjectRegistry) -> Target:
    known = _known(kind, registry)
    function = given.__func__
    if any(function in vars(above).values() for above in inspect.getmro(type(kind))):
        raise BadArguments(
            f"{kind.__qualname__}.{function.__name__} is a method of the metaclass {type(kind).__qualname__}, and none of the "
            "class; define it in the class as a @classmethod"
        )
    return Target(_spec(known, _name_of(given, kind)), ())


def _of_function(given: FunctionType, registry: ObjectRegistry) -> Target:
    found = registry.static_method(given)
    if found is not None:
        known, name = found
        _findable(known.kind)
        return Target(_spec(known, name), ())
    raise _no_static_method(given, registry)


def _known(kind: type, registry: ObjectRegistry) -> TaskClass:
    """The class as a task.

    Raises `UnknownTask` where it, and every base of it, is unregistered, or no worker could find it.
    """
    known = registry.class_of(kind)
    if known is None:
        said = f"the class {kind.__qualname__} is not registered with this app; put @app.task above it"
        if any(
            other.__qualname__ == kind.__qualname__ and other.__module__ == kind.__module__
            for other in registry.kinds()
        ):
            said += ", and above whatever makes another class of it, such as @dataclass(slots=True)"
        raise UnknownTask(said)
    _findable(kind)
    why_not = constructed_otherwise(kind)
    if why_not is not None:  # registered was a base of it, without that metaclass
        raise BadArguments(f"{kind.__qualname__} {why_not}")
    return known


def _findable(kind: type) -> None:
    if "<locals>" in kind.__qualname__:
        raise UnknownTask(
            f"{kind.__qualname__} is defined inside a function, where no worker can find it; move it to its module's top level"
        )


def _spec(known: TaskClass, name: str) -> TaskSpec:
    why_not = why_not_runnable(known.kind, name)
    spec = known.method(name)
    if why_not is not None or spec is None:
        raise BadArguments(f"{known.kind.__qualname__}.{name} cannot run later: it {why_not}")
    return spec


def _name_of(given: MethodType, kind: type) -> str:
    """The name under which a worker gets this very method from such an object."""
    function = given.__func__
    name: str = getattr(function, "__name__", "")
    if _function(kind, name) is function:
        return name
    found = next((other for other in dir(kind) if _function(kind, other) is function), None)
    if found is not None:
        return found
    qualified = getattr(function, "__qualname__", repr(function))
    hidden = next(
        (other for base in inspect.getmro(kind) for other in vars(base) if _function(base, other) is function), None
    )
    if hidden is not None:
        raise BadArguments(
            f"{qualified} is overridden in {kind.__qualname__}, so that a worker would run {kind.__qualname__}.{hidden}; "
            "give the method that calls it"
        )
    raise BadArguments(
        f"{qualified} is not a method of the class {kind.__qualname__}, it was put on this object; a worker builds the object "
        "anew, without it: define the method in the class"
    )


def _function(kind: type, name: str) -> Any:
    declared = declared_in(kind, name)
    return declared.__func__ if isinstance(declared, classmethod) else declared


def _no_static_method(given: FunctionType, registry: ObjectRegistry) -> UsageError:
    name = given.__qualname__
    if given.__name__ == "<lambda>":
        return UnknownTask(f"a lambda has no name that a worker could find it by; use def with @app.task, or {_GIVE}")
    if any(spec.function is given for spec in registry):
        return BadArguments(
            f"{name} is the function under a task; give the task itself, which has its name in the module"
        )
    for kind in registry.kinds():
        for attribute in dir(kind):
            said = _why_no_static(given, kind, attribute)
            if said is not None:
                return BadArguments(said)
    if "<locals>" in name:
        return UnknownTask(
            f"{name} is defined inside a function, where no worker can find it; move it to its module's top level and put "
            "@app.task above it (if a decorator made it of such a function: put functools.wraps into the decorator)"
        )
    return UnknownTask(f"the function {name} is not registered with this app; put @app.task above it")


def _why_no_static(given: FunctionType, kind: type, attribute: str) -> str | None:
    """Why a function that came from this attribute of a class is no task; None where it came from elsewhere."""
    declared = declared_in(kind, attribute)
    if declared is given:
        called = f"{kind.__qualname__}(…).{attribute}"
        return f"{kind.__qualname__}.{attribute} is bound to no object; give the method of one: app.later({called}, …)"
    made_by = getattr(given, "__wrapped__", None)
    if isinstance(declared, functools.singledispatchmethod) and declared.func is made_by:
        return f"{kind.__qualname__}.{attribute} cannot run later: it {why_not_runnable(kind, attribute)}"
    return None


def _no_method(given: Any) -> UsageError:
    if isinstance(given, type):
        return BadArguments(f"{given.__qualname__} is a class, and no method; {_GIVE}")
    if isinstance(given, functools.partial):
        return BadArguments(
            "a partial has no name that a worker could find it by; give the method, and its arguments to the call"
        )
    if inspect.isroutine(given):
        return UnknownTask(f"{given.__qualname__} is not written in Python and not registered; {_GIVE}")
    if callable(given):
        return UnknownTask(f"a callable {type(given).__qualname__} is no method; {_GIVE}")
    return BadArguments(
        f"{given!r:.60} is a {type(given).__qualname__}, and no method (an attribute or a property gives its value); {_GIVE}"
    )
