"""The steps of an operation as they are written down: functions, classes, tasks, `step(…)`, `wait_for(…)`.

Whatever cannot be a step is refused here, with what to write instead; nothing is looked up in any app.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from piecework.codec import ResultCodec
from piecework.errors import BadOption
from piecework.job import OnFailure
from piecework.operation import StepSpec
from piecework.options import CallOptions, Kinds, TaskOptions, refuse_transaction, step_options
from piecework.plan import UNDO, UNDONE
from piecework.registry import Compose, TaskSpec, kind_of
from piecework.retry import RetryPolicy
from piecework.stepping import make_wait

MAX_STEP_NAME = 100
OWN = ("name", "undo", "compose", "on_failure", "into", "aliases")
_WHERE_THEY_ARE_OF_USE = {
    "compose": "a step that yields pieces",
    "on_failure": "a step that yields pieces",
    "into": "a task, or a step that yields pieces; a function sets what it wants by itself: step[…] = …",
}


class StepKeywords(TypedDict, total=False):
    """What `step(…)` takes beside its function, as type checkers see it."""

    name: str
    queue: str
    priority: int
    attempts: int
    retry: RetryPolicy | float | timedelta
    timeout: float | timedelta | None
    retry_on: Kinds | Mapping[type[BaseException], RetryPolicy | float | timedelta]
    give_up_on: Kinds
    pool: Literal["thread", "process"]
    grace: float | timedelta
    delay: float | timedelta | None
    at: datetime | None
    undo: Any
    compose: Callable[..., Any]
    on_failure: OnFailure | Literal["fail_fast", "finish", "compose"]
    into: str
    aliases: Iterable[str]


class DeclaredStep(msgspec.Struct, frozen=True):
    """A step with what was said of it: what `step(…)` and `wait_for(…)` return."""

    given: Any  # by which a jump may name it
    spec: StepSpec
    aliases: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<step {self.spec.name}>"

    def same(self, other: DeclaredStep) -> bool:
        """Whether two declarations say the same, so that a step may stand in several branches."""
        return self is other or (
            self.given == other.given and self.spec == other.spec and self.aliases == other.aliases
        )

    __hash__ = object.__hash__


def wait_for(
    signal: str,
    *,
    timeout: float | timedelta | None = None,
    otherwise: str | None = None,
    into: str | None = None,
    name: str | None = None,
    aliases: Iterable[str] = (),
) -> DeclaredStep:
    """A step that ends when a signal has come; nothing is held meanwhile, and one that came before is taken.

    Its payload becomes the global `into` (the signal's name). After `timeout` seconds without it the operation goes to the
    branch or step `otherwise`, or fails. `name` is the step's (the signal's name). Raises `BadArguments` and `BadOption`.

    Example: ``wait_for("approval", timeout=86400, otherwise="expired")``
    """
    wait = msgspec.structs.replace(make_wait(signal, timeout, otherwise, into, None), is_step=True)
    called = check_step_name(signal if name is None else name, "wait_for: the step's name")
    return DeclaredStep(None, StepSpec(called, "wait", wait=wait), _aliases(aliases, f"wait_for({called!r})"))


def step(function: Any, /, **said: Unpack[StepKeywords]) -> DeclaredStep:
    """A step that says something other than its operation: options of its own, a time, an undo.

    `function` is a function or class of a step, or a task. `queue`, `priority`, `attempts`, `retry`, `timeout`, `retry_on`,
    `give_up_on`, `pool` and `grace` are as those of a task. `delay` (seconds after the step before it) or `at` (aware
    datetime) say when. `undo` is called, newest first, when the operation fails for good after this step has completed, or
    is cancelled with ``undo=True``. `into` is the global that a task's result becomes (the step's name). Of a step that
    yields pieces, `compose` takes the pieces and the step, and `on_failure` is as that of a split. `name` is under which
    the step is stored, and `aliases` are names that it had before, by which running operations may still know it.
    Raises `BadOption`.

    Example: ``step(set_up, attempts=3, queue="slow", delay=60, undo=tear_down)``
    """
    given: Mapping[str, Any] = said
    own = {key: given[key] for key in OWN if key in given}
    called = check_step_name(own["name"], "step: name") if "name" in own else _name_of(function)
    where = f"the step {called!r}"
    options = step_options({key: value for key, value in given.items() if key not in OWN}, OWN, where)
    if options.get("at") is not None and options.get("delay") is not None:
        raise BadOption(f"{where}: give at= or delay=, not both")
    spec = _spec_of(function, called, where)
    spec.delay, spec.at = options.pop("delay", None), options.pop("at", None)
    spec.options = {**spec.options, **options}
    _join(spec, own, where)
    _check_pool(spec, where)
    if own.get("undo") is not None:
        spec.undo = _undo_of(own["undo"], where)
    return DeclaredStep(function, spec, _aliases(own.get("aliases", ()), where))


def declared(given: Any) -> DeclaredStep:
    """What a branch was given, as a step. Raises `BadOption` for what is none."""
    return given if isinstance(given, DeclaredStep) else step(given)


def check_step_name(value: Any, where: str) -> str:
    """The name of a step or branch; cursors are made of them. Raises `BadOption`."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_STEP_NAME or not value.isprintable() or "/" in value:
        raise BadOption(f"{where} must be 1 to {MAX_STEP_NAME} printable characters, without '/', not {value!r:.120}")
    return str.__str__(value)  # of a subclass nobody knows whether it travels


def check_not_undoing(name: str, where: str) -> None:
    """Raises `BadOption` for a step or branch by whose name a cursor would not be told from that of an undoing."""
    if name in (UNDO, UNDONE):
        raise BadOption(f"{where} cannot be {name!r}, which says that an operation undoes what it did")


# ── what is called ───────────────────────────────────────────────────────────────────────────────


def _task_of(given: Any) -> TaskSpec | None:
    """The specification of a registered task; tasks live on a floor above this one."""
    spec = getattr(given, "_spec", None) if not isinstance(given, type) else None
    return spec if isinstance(spec, TaskSpec) else None


def _name_of(given: Any) -> str:
    task = _task_of(given)
    name = getattr(given if task is None else task.function, "__name__", None)
    if isinstance(given, str) or not callable(given):
        raise BadOption(
            f"{given!r:.100} is no step; a step is a function, a class with call(step), a task, {_FACTORIES}"
        )
    if not isinstance(name, str) or name == "<lambda>":
        what = "a lambda" if name == "<lambda>" else f"a {type(given).__name__}"
        raise BadOption(f"{what} has no name under which a step could be stored; use def, or step(…, name=…)")
    return check_step_name(name, f"the name of the step {name!r}")


_FACTORIES = "step(…) or wait_for(…)"


def _spec_of(given: Any, name: str, where: str) -> StepSpec:
    task = _task_of(given)
    if task is not None:
        return _of_task(given, task, name, where)
    if isinstance(given, DeclaredStep):
        raise BadOption(f"{where}: step(…) takes a function, not {given!r:.100}; say everything at once")
    if isinstance(given, type):
        return _of_class(given, name, where)
    if not callable(given):
        raise BadOption(f"{where}: {given!r:.100} cannot be called")
    kind = _kind(given, where)
    _must_take(given, 1, where, f"the step: def {name}(step)")
    return StepSpec(name, kind, given)


def _of_task(given: Any, task: TaskSpec, name: str, where: str) -> StepSpec:
    if task.operation is not None:
        raise BadOption(f"{where}: {task.name} is an operation; start it in a step, or yield its piece(…) from one")
    if given.options != CallOptions():
        raise BadOption(f"{where}: {task.name}.using(…) is for calls; say step({name}, queue=…)")
    refuse_transaction({"transaction": task.options.transaction}, f"the step {name!r}")
    own = {key: value for key in _TRAVELLING if (value := getattr(task.options, key)) != getattr(_DEFAULTS, key)}
    return StepSpec(
        name, "task", task.function, options=own, task=task, compose=task.compose, on_failure=task.on_failure
    )


_DEFAULTS = TaskOptions()
_TRAVELLING = tuple(name for name in TaskOptions.__struct_fields__ if name != "expires")


def _of_class(kind: type, name: str, where: str) -> StepSpec:
    written = inspect.getattr_static(kind, "call", None)
    if written is None:
        raise BadOption(f"{where}: the class {kind.__qualname__} has no method call(step)")
    if isinstance(written, classmethod | staticmethod):
        bound = getattr(kind, "call")  # noqa: B009 - of whatever class was given
        _must_take(bound, 1, where, "the step: def call(step)")
        return StepSpec(name, _kind(bound, where), bound)
    if not callable(written):
        raise BadOption(f"{where}: {kind.__qualname__}.call is {written!r:.100}, and no method")
    _must_take(written, 2, where, "the step: def call(self, step)")
    _must_take(kind, 0, where, "nothing when it is constructed; what it needs is in the globals", kind.__qualname__)
    return StepSpec(name, _kind(written, where), _Calling(kind))


class _Calling(msgspec.Struct, frozen=True):
    """Makes an object for each run, and calls it; equal to any other of the same class."""

    kind: type

    def __call__(self, step: Any) -> Any:
        return self.kind().call(step)


def _kind(function: Callable[..., Any], where: str) -> str:
    kind = kind_of(function)
    if kind == "async generator":
        raise BadOption(f"{where} is an async generator; a step that yields pieces is a def")
    return "pieces" if kind == "generator" else kind


def _must_take(function: Callable[..., Any], n: int, where: str, what: str, called: str = "it") -> None:
    try:
        inspect.signature(function).bind(*[None] * n)
    except TypeError:
        raise BadOption(f"{where}: {called} must take {what}") from None
    except ValueError as error:  # not written in Python
        raise BadOption(f"{where}: {error}; put it into a def of yours") from None


# ── what is said of it ───────────────────────────────────────────────────────────────────────────


def _join(spec: StepSpec, own: Mapping[str, Any], where: str) -> None:
    """What becomes of results: of a task's, and of what the pieces come to."""
    for key in ("compose", "on_failure", "into"):
        if key not in own or spec.kind == "pieces" or (key == "into" and spec.kind == "task"):
            continue
        if spec.kind == "task" and spec.task is not None and spec.task.is_split:
            raise BadOption(f"{where}: {key}= is said where the split is declared: {spec.task.name}")
        raise BadOption(f"{where}: {key}= is for {_WHERE_THEY_ARE_OF_USE[key]}")
    if "into" in own:
        spec.into = _into(own["into"], where)
    if "on_failure" in own:
        if own["on_failure"] not in list(OnFailure):
            raise BadOption(f"{where}: on_failure must be one of {', '.join(OnFailure)}, not {own['on_failure']!r}")
        spec.on_failure = OnFailure(own["on_failure"])
    if "compose" in own:
        spec.compose = _compose(own["compose"], spec.name, where)


def _into(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        raise BadOption(f"{where}: into must be the name of a global, not {value!r:.100}")
    return str.__str__(value)


def _compose(function: Any, name: str, where: str) -> Compose:
    if not callable(function) or kind_of(function) != "plain":
        raise BadOption(f"{where}: compose must be a plain function of the pieces and the step, not {function!r:.100}")
    _must_take(function, 2, where, "the pieces and the step: def compose(pieces, step)", "its compose")
    return Compose(function, ResultCodec(function, name))


def _check_pool(spec: StepSpec, where: str) -> None:
    if spec.options.get("pool") != "process" or plain_call(spec):
        return
    if spec.kind == "async" or (spec.task is not None and spec.task.is_async):
        raise BadOption(f"{where} is an async def, which runs on the event loop; pool='process' takes a def")
    raise BadOption(f"{where} yields pieces and talks to the store; give pool='process' to the tasks of its pieces")


def plain_call(spec: StepSpec) -> bool:
    """Whether a step is one call of a plain function, which a process could run."""
    if spec.kind == "task" and spec.task is not None:
        return not spec.task.is_split and not spec.task.is_async
    return spec.kind == "plain"


def _undo_of(given: Any, where: str) -> StepSpec:
    if isinstance(given, DeclaredStep) and given.spec.kind == "wait":
        raise BadOption(f"{where}: its undo cannot be a wait")
    try:
        made = declared(given)
    except BadOption as error:
        raise BadOption(f"{where}: undo: {error}") from None
    spec = made.spec
    if spec.kind == "pieces" or (spec.task is not None and spec.task.is_split):
        raise BadOption(f"{where}: its undo {spec.name!r} yields pieces; an undo is a function, or a task, of its own")
    if spec.undo is not None or spec.delay is not None or spec.at is not None or made.aliases:
        raise BadOption(f"{where}: its undo {spec.name!r} can have no undo, delay, at or aliases of its own")
    return spec


def _aliases(given: Any, where: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise BadOption(f"{where}: aliases must be a list of the names that it had before, not {given!r:.100}")
    return tuple(check_step_name(alias, f"{where}: an alias") for alias in given)
