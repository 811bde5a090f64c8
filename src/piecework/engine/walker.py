"""Runs what an operation has to do where it is: a step, a wait, the joining of its pieces, an undo.

The runner calls it with what is common to all jobs done: deadline, stop, what an exception means. Answers an outcome, or
the verdict that a step returned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.clock import Clock
from piecework.codec import Signature
from piecework.engine import splitter
from piecework.engine.binding import Arguments, Unbound, call_with_rows, outcome_of_gone
from piecework.engine.context import Running
from piecework.engine.spots import Spot, called
from piecework.engine.undoing import next_undo
from piecework.errors import BadArguments, NotSerializable, OtherPlan, PieceFailed, RowGone, StepLimit, WaitTimedOut
from piecework.errortext import describe
from piecework.failpoints import failpoint
from piecework.job import BatchState, NewBatch, OnFailure, OperationRun, State, Wait
from piecework.operation import OperationSpec, StepSpec
from piecework.outcome import Await, Cancelled, Failed, Outcome, Park, Stepped, Undone, UndoNext
from piecework.plan import Place, Undoing
from piecework.registry import Compose, Registry, TaskSpec
from piecework.split import Offers, why_failed
from piecework.stepping import Step
from piecework.verdicts import Verdict

if TYPE_CHECKING:
    from piecework.rows import Unit
    from piecework.store.protocol import Store

_STEPPED = Stepped()
_UNDONE = Undone()
IN_UNDO = "an undo has no say in the way on; what is undone next follows from what was done"
SPLITTING = "a step that yields pieces says nothing more while it does; its compose may"

Said = Outcome | Verdict


class Walker:
    """Everything that is special to a run of an operation."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        clock: Clock,
        max_payload: int,
        belated: Callable[[], Outcome | None] = lambda: None,
    ) -> None:
        self._belated = belated  # what a run comes to that may be another's by now, and is not to be begun
        self._registry = registry
        self._store = store
        self._clock = clock
        self._max_payload = max_payload

    def run(self, now: Running) -> Said:
        """What a run in a thread comes to. Raises what the step raises."""
        spot, run = _of(now)
        if isinstance(spot.place, Undoing):
            return self._next_undo(now, spot, run, spot.place)
        early = _before_the_step(spot, spot.place, run)
        if early is not None:
            return early
        assert spot.step is not None
        handle = self._handle(now, spot, spot.place, run)
        if spot.step.kind == "wait":
            return _wait_step(spot, spot.step, run, handle)
        if spot.splits:
            return self._split(now, spot.step, spot.place, handle)
        _begins(spot.place)
        if spot.step.task is not None:
            with self._arguments(now, spot.step, spot.step.task, handle) as (args, kwargs):
                result = spot.step.task.function(*args, **kwargs)
        else:
            assert spot.step.function is not None
            result = spot.step.function(handle)
        return self._ended(spot.step, spot.place, handle, result)

    async def run_async(self, now: Running) -> Said:
        """What a run on the loop comes to. Raises what the step raises."""
        spot, run = _of(now)
        assert isinstance(spot.place, Place)
        assert spot.step is not None
        early = _before_the_step(spot, spot.place, run)
        if early is not None:
            return early
        handle = self._handle(now, spot, spot.place, run)
        if spot.step.task is not None:
            result = await self._call_async(now, spot.step, spot.step.task, handle)
        else:
            assert spot.step.function is not None
            result = await spot.step.function(handle)
        return self._ended(spot.step, spot.place, handle, result)

    # ── before and after a step ──────────────────────────────────────────────────────────────────

    def _handle(self, now: Running, spot: Spot, place: Place, run: OperationRun) -> Step[Any]:
        error = run.ending.error if run.ending is not None else None
        handle: Step[Any] = Step(
            now.job.id,
            place,
            spot.plan,
            run.globals,
            attempt=now.job.attempt + 1,
            state=spot.operation.state,
            names=spot.operation.names,
            limit=self._max_payload,
            error=error,
            renamed=spot.renamed,
            bound=IN_UNDO if place.undoing else SPLITTING if spot.splits and not place.composing else None,
            sealed=SPLITTING if spot.splits and not place.composing else None,
            present=spot.operation.plan if spot.plan_text is not None else None,
        )
        if run.wait is not None and run.received is not None and not place.undoing:
            _receive(handle, run.wait, run.received)
        return handle

    def _ended(self, step: StepSpec, place: Place, handle: Step[Any], result: Any) -> Said:
        failpoint("step.ran")
        if isinstance(result, Verdict):
            return result
        if step.task is not None:
            keep_result(step, step.task.outcome_codec.encode(result, self._max_payload), handle)
        elif result is not None:
            _refuse_unawaited(step, result)
        if place.undoing:
            changes = handle.changes()
            return Undone(changes) if changes else _UNDONE
        return self._stepped(handle)

    def _stepped(self, handle: Step[Any]) -> Outcome:
        if handle.waits_in_vain:
            assert handle.wait is not None
            why = f"wait_for({handle.wait.name!r}) in the last step: no step comes behind it that could begin then"
            return Failed(
                describe(BadArguments(f"{why}; let a step wait_for({handle.wait.name!r}, …) be the last one"))
            )
        changes = handle.changes()
        pause = handle.pause
        if not changes and handle.jump is None and pause is None and handle.wait is None:
            return _STEPPED
        if isinstance(pause, datetime):
            pause = max(0.0, pause.timestamp() - self._clock.now())
        return Stepped(changes, handle.jump, pause, handle.wait)

    # ── a task as a step ─────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _arguments(self, now: Running, step: StepSpec, task: TaskSpec, handle: Step[Any]) -> Iterator[Arguments]:
        """The globals of its parameters' names; rows among them are let go afterwards. Raises `Unbound`."""
        unit = task.signature.unit()
        if unit is None:
            yield _bound(now, step, task, handle, None)
            return
        with closing(unit):
            yield _bound(now, step, task, handle, unit)

    async def _call_async(self, now: Running, step: StepSpec, task: TaskSpec, handle: Step[Any]) -> Any:
        unit = task.signature.unit()
        if unit is None:
            args, kwargs = _bound(now, step, task, handle, None)
            return await task.function(*args, **kwargs)
        return await call_with_rows(task.function, lambda: _bound(now, step, task, handle, unit), unit)

    # ── pieces as a step ─────────────────────────────────────────────────────────────────────────

    def _split(self, now: Running, step: StepSpec, place: Place, handle: Step[Any]) -> Said:
        """The step's pieces, or once they have settled what joins them."""
        compose = step.compose if step.task is None else step.task.compose
        on_failure = step.on_failure if step.task is None else step.task.on_failure
        batch = NewBatch(
            batch_of(now.job.id, place.visit),
            then=now.job.id,
            on_failure=on_failure,
            then_queue=compose.queue if compose else None,
            then_priority=compose.priority if compose else None,
            always=True,
        )
        if step.task is None:
            return self._split_with(now, step, place, handle, batch, compose, ((handle,), {}))
        with self._arguments(now, step, step.task, handle) as arguments:
            return self._split_with(now, step, place, handle, batch, compose, arguments)

    def _split_with(
        self,
        now: Running,
        step: StepSpec,
        place: Place,
        handle: Step[Any],
        batch: NewBatch,
        compose: Compose | None,
        arguments: Arguments,
    ) -> Said:
        args, kwargs = arguments
        if not place.composing:
            function = step.function if step.task is None else step.task.function
            assert function is not None
            return self._offer(now, step, handle, batch, Offers(function(*args, **kwargs)))
        failed = self._failed_pieces(batch)
        if failed is not None:
            return failed
        if compose is None:
            return self._stepped(handle)
        failpoint("step.composing")
        pieces = splitter.stored_pieces(self._store, self._registry, batch.id)
        if (belated := self._belated()) is not None:  # the store took its time, or this process stood still meanwhile
            return belated
        result = compose.function(pieces, *args, **kwargs)
        if isinstance(result, Verdict):
            return result
        keep_result(step, compose.result.encode(result, self._max_payload), handle)
        return self._stepped(handle)

    def _offer(self, now: Running, step: StepSpec, handle: Step[Any], batch: NewBatch, offers: Offers) -> Said:
        failpoint("step.splitting")
        try:
            seal = splitter.stream(now, offers, step.name, batch, self._registry, self._store, self._clock)
        except splitter.BatchEnded:
            failed = self._failed_pieces(batch)
            if failed is None:
                raise
            return failed
        refuse_changes(step, handle)
        return seal

    def _failed_pieces(self, batch: NewBatch) -> Outcome | None:
        """What the step came to, where its pieces failed it."""
        record = self._store.batch(batch.id)
        if record is None:
            raise BadArguments(f"the batch {batch.id} of its pieces is not in the store any more")
        spoilt = record.failed + record.cancelled > 0 and batch.on_failure is not OnFailure.COMPOSE
        if record.state is not BatchState.FAILED and record.state is not BatchState.STOPPED and not spoilt:
            return None
        if record.failed == 0 and record.state is BatchState.STOPPED:
            return Failed(describe(PieceFailed("its pieces were stopped")))
        failures = splitter.read_pieces(self._store, batch.id, failed=True)
        first = next(failures, None)
        if first is None:
            return Failed(describe(PieceFailed("its pieces were cancelled")))
        return Failed(why_failed(first if first.state is State.FAILED else _first_failed(first, failures)))

    # ── undoing ──────────────────────────────────────────────────────────────────────────────────

    def _next_undo(self, now: Running, spot: Spot, run: OperationRun, at: Undoing) -> Outcome:
        if at.over:
            return _over_again(now, run)
        failpoint("undo.looking")
        try:
            place = next_undo(self._store, spot.operation, spot.plan, now.job.id, at)
            if place is not None:
                called(spot.operation, place)
        except BadArguments as error:
            return Park(str(error))
        return UndoNext(None if place is None else place.cursor)


def batch_of(id: str, visit: int) -> str:
    """The id of the batch into which a step was split."""
    return f"{id}/{visit}"


def keep_result(step: StepSpec, text: str | None, handle: Step[Any]) -> None:
    """What a task came to becomes a global; of one that returned nothing only where it was given a name."""
    if text is not None or step.into is not None:
        handle.preset(step.into or step.name, text or "null")


def refuse_missing(step: StepSpec, task: TaskSpec, signature: Signature, handle: Step[Any]) -> None:
    """Raises `BadArguments` where there is no global for a parameter of a step's task."""
    if missing := ", ".join(map(repr, signature.missing(handle))):
        there = ", ".join(map(repr, handle)) or "none"
        raise BadArguments(
            f"the step {step.name!r} calls {task.name}, which needs the global {missing}; there are: {there}"
        )


def over_the_limit(operation: OperationSpec) -> StepLimit:
    """The error of an operation that came to more steps than it may."""
    most = f"{operation.max_steps:,} steps"
    return StepLimit(
        f"{operation.name} came to more than {most}: it goes round in circles, or needs a higher max_steps"
    )


def refuse_changes(step: StepSpec, handle: Step[Any]) -> None:
    """Raises `BadArguments` where a step changed a list or dict in place while it yielded pieces."""
    if handle.own_changes():
        raise BadArguments(f"the step {step.name!r} changed globals in place: {SPLITTING}")


def _receive(handle: Step[Any], wait: Wait, payload: str) -> None:
    """Gives a step what came with the signal. Raises `Unbound` where that is too large, or does not fit the state."""
    handle.receive(wait.into or wait.name, payload)
    try:
        handle.check_received()
    except BadArguments as error:
        told = type(error)(f"what came with the signal {wait.name!r} cannot be the global {wait.into!r}: {error}")
        raise Unbound(Failed(describe(told))) from error


def _of(now: Running) -> tuple[Spot, OperationRun]:
    assert now.spot is not None
    assert now.job.operation is not None
    return now.spot, now.job.operation


def _begins(place: Place) -> None:
    """The user's code is called next: a test may want to be there."""
    if place.undoing:
        failpoint("undo.running")
    else:
        failpoint("step.running")


def _before_the_step(spot: Spot, place: Place, run: OperationRun) -> Outcome | None:
    """What the run comes to without any code of the user's: the undoing begins, a wait begins or ends, a limit is met."""
    if place.undoing:
        return None
    if run.ending is not None:
        return UndoNext(Undoing(place.visit + 1).cursor)  # this visit, too, if it has ended: it was the last one then
    if place.skipping:
        return Stepped(said="skipped")
    if place.visit > spot.operation.max_steps:
        return Failed(describe(over_the_limit(spot.operation)))
    if run.wait is not None and run.received is None:
        return _timed_out(spot, run.wait)
    return None


def _over_again(now: Running, run: OperationRun) -> Outcome:
    """An operation that was undone has been brought back, by the retry of what it is a piece of: it ends as it did."""
    ending = run.ending
    if ending is None:
        return Failed(describe(BadArguments("it was undone; fork it, or start another")))
    if ending.state is State.CANCELLED or ending.error is None:
        return Cancelled(ending.reason or "it was undone")
    if now.job.batch is None:
        return Failed(ending.error)
    told = (
        f"{ending.error.message} (operation {now.job.id} was undone; let it jump_to a step, and it begins there anew)"
    )
    return Failed(msgspec.structs.replace(ending.error, message=told))


def _timed_out(spot: Spot, wait: Wait) -> Outcome:
    if wait.otherwise is None:
        return Failed(describe(WaitTimedOut(f"no signal {wait.name!r} came within {wait.timeout:g} s")))
    try:
        return Stepped(jump=_otherwise(spot, wait, wait.otherwise), said="timed out")
    except OtherPlan as error:
        return Park(str(error))
    except BadArguments as error:
        return Failed(describe(error))


def _otherwise(spot: Spot, wait: Wait, said: str) -> str:
    """Where a wait leads that is over. Raises `BadArguments`.

    It may have begun under other code, which was taken back: what that said of its own plan, this code says better.
    """
    own = spot.step.wait if wait.is_step and spot.step is not None else None
    try:
        return _target(spot, said)
    except BadArguments:
        if own is None or own.otherwise is None or own.otherwise == said:
            raise
        return _target(spot, own.otherwise)


def _wait_step(spot: Spot, step: StepSpec, run: OperationRun, handle: Step[Any]) -> Outcome:
    """A step that is a wait: it begins, or it has got its signal; or the step before it has got one by `wait_for`."""
    assert step.wait is not None
    if run.wait is not None and run.wait.is_step:
        return Stepped(handle.changes())
    return Await(_on_its_plan(spot, step.wait), handle.changes())


def _on_its_plan(spot: Spot, wait: Wait) -> Wait:
    """A wait in the words of the operation's own plan, so that code of before knows where it leads."""
    try:
        return (
            wait if wait.otherwise is None else msgspec.structs.replace(wait, otherwise=_target(spot, wait.otherwise))
        )
    except BadArguments:
        return wait  # that is judged where it is over: the signal may come


def _target(spot: Spot, where: str) -> str:
    """A "branch/step" or name that the code says, as the operation's own plan has it. Raises `BadArguments`."""
    branch, _, step = where.partition("/")
    present = spot.operation.plan if spot.plan_text is not None else None
    if not step:
        return spot.plan.target_beside(present, spot.renamed.get(branch, branch), None, (branch, None))
    return spot.plan.target_beside(present, branch, spot.renamed.get(step, step), (branch, step))


def _first_failed(first: Any, rest: Iterator[Any]) -> Any:
    """The first piece that failed by itself; else the first that was cancelled."""
    return next((piece for piece in rest if piece.state is State.FAILED), first)


def _bound(now: Running, step: StepSpec, task: TaskSpec, handle: Step[Any], unit: Unit | None) -> Arguments:
    """The arguments of a task, out of the globals. Raises `Unbound` with what the step comes to without them."""
    signature = task.signature
    assert isinstance(signature, Signature)
    try:
        refuse_missing(step, task, signature, handle)
        return signature.decode(handle.excerpt(signature.names), unit)
    except BadArguments as error:
        raise Unbound(Failed(describe(error.with_traceback(None)))) from error
    except RowGone as error:
        raise Unbound(outcome_of_gone(error, now)) from error


def _refuse_unawaited(step: StepSpec, result: Any) -> None:
    """A plain step's result is ignored, but not one that means that its code has not run."""
    if inspect.iscoroutine(result):
        result.close()
        raise NotSerializable(
            f"the step {step.name!r} returned a coroutine, which nobody awaits: a decorator that is no async def stands "
            "above an async def; make the decorator's function async def too, with functools.wraps"
        )
    if inspect.isgenerator(result):
        raise NotSerializable(
            f"the step {step.name!r} returned a generator, which nobody runs: a decorator that is no generator function "
            "stands above one; give the generator function itself as the step"
        )
