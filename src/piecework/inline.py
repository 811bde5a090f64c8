"""Operations run now: all steps in the caller's thread, with the same jumps, globals and undos as later."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.codec import ResultCodec, Signature
from piecework.documents import with_changes
from piecework.engine.walker import (
    IN_UNDO,
    SPLITTING,
    keep_result,
    over_the_limit,
    refuse_changes,
    refuse_missing,
)
from piecework.errors import UsageError
from piecework.errortext import describe
from piecework.ids import new_id
from piecework.job import ErrorInfo
from piecework.operation import OperationSpec, StepSpec
from piecework.options import TaskOptions
from piecework.plan import Place
from piecework.registry import TaskSpec
from piecework.splittask import Split, finish
from piecework.stepping import Step
from piecework.verdicts import Cancel, Verdict

if TYPE_CHECKING:
    from piecework.app import Piecework


def run_now(app: Piecework, spec: OperationSpec, globals: str) -> str:
    """Runs an operation to its end and returns its globals, as JSON text. Raises what a step raises."""
    waits = [name for name in spec.plan.steps() if (step := spec.step(name)) is not None and step.kind == "wait"]
    if waits:
        raise UsageError(f"{spec.name} waits for a signal in its step {waits[0]!r}; it can run later, and not now")
    walk = _Walk(app, spec, globals)
    walk.run()
    return walk.globals


class _Walk:
    """One operation, from its first step to its end."""

    def __init__(self, app: Piecework, spec: OperationSpec, globals: str) -> None:
        self._app = app
        self._spec = spec
        self._id = new_id()  # its own, as a stored one has: steps make the keys of their effects of it
        self.globals = globals
        self._done: list[Place] = []

    def run(self) -> None:
        """Walks to the end. A step that raises has changed nothing; what was done before it is undone."""
        place: Place | None = self._spec.plan.first
        while place is not None:
            try:
                step = self._step(place)
            except Cancel:
                raise
            except Exception as error:
                self._undo(error)
                raise
            self._done.append(place)
            there = step.jump
            place = self._spec.plan.after(place) if there is None else self._spec.plan.at(there, place.visit + 1)

    def _step(self, place: Place) -> Step[Any]:
        if place.visit > self._spec.max_steps:
            raise over_the_limit(self._spec)
        spec = self._spec.step(place.step)
        assert spec is not None
        return self._call(spec, place)

    def _undo(self, error: BaseException) -> None:
        told = describe(error)
        for place in reversed(self._done):
            step = self._spec.step(place.step)
            if step is not None and step.undo is not None:
                self._call(step.undo, msgspec.structs.replace(place, undoing=True), told)

    def _call(self, spec: StepSpec, place: Place, error: ErrorInfo | None = None) -> Step[Any]:
        """Runs one step, or one undo, and takes over what it changed."""
        limit = self._app.settings.max_payload
        own = self._spec
        step: Step[Any] = Step(
            self._id,
            place,
            own.plan,
            self.globals,
            state=own.state,
            names=own.names,
            limit=limit,
            error=error,
            bound=IN_UNDO if place.undoing else None,
        )
        value = _CALLS[spec.kind](self._app, spec, step)
        if isinstance(value, Verdict):
            raise value
        if step.wait is not None:
            raise UsageError(f"{own.name} waits for the signal {step.wait.name!r}; it can run later, and not now")
        self.globals = with_changes(self.globals, step.changes())
        return step


def _plain(app: Piecework, spec: StepSpec, step: Step[Any]) -> Any:
    assert spec.function is not None
    return spec.function(step)


def _async(app: Piecework, spec: StepSpec, step: Step[Any]) -> Any:
    assert spec.function is not None
    return finish(spec.function(step))


def _pieces(app: Piecework, spec: StepSpec, step: Step[Any]) -> Any:
    assert spec.function is not None
    result = ResultCodec(spec.function, spec.name)
    split: Split[Any] = Split(app, _as_split(spec, result))
    value = split(step)
    if not isinstance(value, Verdict) and spec.compose is not None:
        keep_result(spec, spec.compose.result.encode(value, app.settings.max_payload), step)
    return value


def _as_split(spec: StepSpec, result: ResultCodec) -> TaskSpec:
    function = spec.function
    assert function is not None
    signature = Signature(function, spec.name)

    def offering(step: Step[Any]) -> Generator[Any, None, Any]:
        step.restrict(SPLITTING)
        returned = yield from function(step)
        if not isinstance(returned, Verdict):
            refuse_changes(spec, step)
        step.restrict(None)
        return returned

    return TaskSpec(
        spec.name,
        offering,
        TaskOptions(),
        signature,
        result,
        is_split=True,
        on_failure=spec.on_failure,
        compose=spec.compose,
    )


def _task(app: Piecework, spec: StepSpec, step: Step[Any]) -> Any:
    assert spec.task is not None
    signature = spec.task.signature
    assert isinstance(signature, Signature)  # a method of an object is no step
    refuse_missing(spec, spec.task, signature, step)
    args, kwargs = signature.decode(step.excerpt(signature.names))
    value = app.task_of(spec.task)(*args, **kwargs)
    if spec.task.is_async:
        value = finish(value)
    if not isinstance(value, Verdict):
        keep_result(spec, spec.task.outcome_codec.encode(value, app.settings.max_payload), step)
    return value


_CALLS: dict[str, Callable[[Piecework, StepSpec, Step[Any]], Any]] = {
    "plain": _plain,
    "async": _async,
    "pieces": _pieces,
    "task": _task,
}
