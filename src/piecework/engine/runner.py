"""Runs one job and returns what it came to.

Never raises, and does no store I/O but a split's or a transaction's own.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from piecework.clock import Clock
from piecework.codec import MAX_PAYLOAD, ResultCodec
from piecework.engine import splitter
from piecework.engine.absence import given_back
from piecework.engine.binding import Unbound, call_with_rows, with_rows
from piecework.engine.context import Running, running
from piecework.engine.effects import Effects
from piecework.engine.spots import Spot, Spots
from piecework.engine.undoing import next_undo
from piecework.engine.walker import Walker
from piecework.errors import (
    BadArguments,
    JobCancelled,
    JobTimeout,
    LeaseLost,
    NotSerializable,
    OtherPlan,
    OtherState,
    SplitChanged,
    StoreUnavailable,
    TooLarge,
    TransactionEnded,
    UnknownTask,
)
from piecework.errortext import describe
from piecework.failpoints import failpoint
from piecework.job import CRASH_LIMIT, Fetched, Record
from piecework.labels import status_text
from piecework.options import TaskOptions, effective
from piecework.outcome import Again, Cancelled, Complete, Errored, Failed, Outcome, Park, Release
from piecework.plan import Undoing
from piecework.registry import Registry, TaskSpec
from piecework.settle import COMPOSE, settle
from piecework.verdicts import Cancel, Fail, Retry, Snooze, Verdict

if TYPE_CHECKING:
    from piecework.store.protocol import Store

_NOTHING = Complete()
TOO_LATE = "its worker had not reached the store for longer than its lease"


class Runner:
    """Binds a fetched job to its task, calls it, and tells the outcome."""

    def __init__(self, registry: Registry, store: Store, clock: Clock, *, max_payload: int = MAX_PAYLOAD) -> None:
        self._registry = registry
        self._store = store
        self.clock = clock
        self._max_payload = max_payload
        self._spots = Spots(store)
        self._walker = Walker(registry, store, clock, max_payload, self._belated)
        self.has_processes = True  # whether jobs of pool="process" can be run here
        self.begin_until = math.inf  # after this moment of the monotonic clock nothing is begun: see Worker

    def prepare(self, job: Fetched, plan: str | None = None) -> Running | Outcome:
        """The job with its task and options, or what it comes to where it cannot run here.

        `plan` is that of an operation, where it is known to be another than the code's.
        """
        spec = self._registry.get(job.task)
        if spec is None:
            return Park(f"unknown task {job.task!r}: no task of this worker's app has that name")
        try:
            if spec.operation is None and job.operation is None:
                return Running(job, spec, effective(spec.options, job.options), keep_status=self._keep_status)
            spot = self._spots.spot(job, spec, plan)
        except ValueError as error:
            return Park(f"the job's options cannot be read: {error}")
        return (
            Running(job, spec, spot.options, spot=spot, keep_status=self._keep_status)
            if isinstance(spot, Spot)
            else spot
        )

    def could_run(self, record: Record) -> bool:
        """Whether a job that was parked would not be parked by this worker."""
        spec = self._registry.get(record.task)
        if spec is None or record.crashes >= CRASH_LIMIT:
            return False
        try:
            if spec.operation is not None:
                spot = self._spots.could_run(record, spec)
                return spot is not None and self._has_pool(spot.options) and self._could_undo(record, spot)
            options = effective(spec.options, record.options)
            return record.cursor in (None, COMPOSE) and self._has_pool(options) and spec.signature.reads(record.args)
        except ValueError:
            return False

    def _could_undo(self, record: Record, spot: Spot) -> bool:
        """An operation that looks for what to undo would be parked anew where that cannot be found.

        Raises `ValueError`.
        """
        if not isinstance(spot.place, Undoing) or spot.place.over:
            return True
        try:
            next_undo(self._store, spot.operation, spot.plan, record.id, spot.place)
        except BadArguments:
            return False
        return True

    def _has_pool(self, options: TaskOptions) -> bool:
        return self.has_processes or options.pool != "process"

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def run(self, now: Running) -> Outcome:
        """Runs a synchronous task, a splitter or a compose, in a context of its own."""
        try:
            return contextvars.Context().run(self._run, now)
        except (
            BaseException
        ) as error:  # not of the function itself: its arguments', or of an error that bites who looks at it
            return Errored(describe(error))

    def _run(self, now: Running) -> Outcome:
        running.set(now)
        spec, job = now.spec, now.job
        assert spec is not None
        try:
            if now.stopping:
                return Cancelled("it was cancelled before it started")
            if (belated := self._belated()) is not None:
                return belated
            self._set_deadline(now)
            if now.spot is not None:
                return self._walk(now)
            unit = spec.signature.unit()
            if unit is None:
                args, kwargs = spec.signature.decode(job.args)
        except BadArguments as error:
            return Park(str(error))
        try:
            if unit is not None:
                with closing(unit):
                    args, kwargs = with_rows(now, spec, unit)
                    return self._call(now, spec, args, kwargs)
            return self._call(now, spec, args, kwargs)
        except Unbound as error:
            return error.outcome
        except BaseException as error:
            return self._outcome_of(error, now)

    def _walk(self, now: Running) -> Outcome:
        """A run of an operation."""
        try:
            return self._said(self._walker.run(now), now)
        except Unbound as error:
            return error.outcome
        except BaseException as error:
            return self._outcome_of(error, now)

    def _said(self, said: Outcome | Verdict, now: Running) -> Outcome:
        return self._verdict(said, now) if isinstance(said, Verdict) else said

    def _completed(self, result: Any, codec: ResultCodec, now: Running) -> Outcome:
        """What a returned value comes to: a verdict is taken at its word, anything else is the result."""
        if result is None:
            return _NOTHING
        if isinstance(result, Verdict):
            return self._verdict(result, now)
        return Complete(codec.encode(result, self._max_payload))

    def _call(self, now: Running, spec: TaskSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        if spec.is_split:
            return self._run_split(now, spec, args, kwargs)
        failpoint("runner.running")
        if now.options is not None and now.options.transaction:
            return self._call_in_transaction(now, spec, args, kwargs)
        return self._completed(spec.function(*args, **kwargs), spec.result, now)

    def _call_in_transaction(
        self, now: Running, spec: TaskSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome:
        """Ends the run in the task's own transaction; the worker's settlement is then answered with `already`.

        Whatever is no completion leaves the transaction unsettled, which rolls it back.
        """
        assert now.options is not None
        with Effects(self._store) as effects:
            now.effects = effects
            try:
                outcome = self._completed(spec.function(*args, **kwargs), spec.result, now)
            finally:
                now.effects = None
            if isinstance(outcome, Complete) and not now.abandoned:
                effects.settle(settle(now.job, outcome, now.options, 0.0))
        return outcome

    def _keep_status(self, now: Running, status: Any) -> None:
        """What a job says of itself, behind the fence of its run. Raises `LeaseLost`."""
        text, fence = status_text(status, self._max_payload), now.job.fence
        if now.effects is not None and now.effects.set_status(fence, text):
            return
        if not self._store.set_status(fence, text):
            raise LeaseLost(f"run {fence.run} of job {fence.id} does not own its job any more")

    def _run_split(self, now: Running, spec: TaskSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        if now.job.cursor != COMPOSE:
            return splitter.split(now, spec, self._registry, self._store, self.clock, args, kwargs)
        if spec.compose is None:
            return _NOTHING
        failpoint("compose.running")
        pieces = splitter.stored_pieces(self._store, self._registry, now.job.id)
        if (belated := self._belated()) is not None:  # the store took its time, or this process stood still meanwhile
            return belated
        return self._completed(spec.compose.function(pieces, *args, **kwargs), spec.compose.result, now)

    def _belated(self) -> Outcome | None:
        """What a run comes to that may be somebody else's by now; None where it may begin."""
        return Release(TOO_LATE) if self.clock.monotonic() > self.begin_until else None

    def _set_deadline(self, now: Running) -> None:
        if now.options is not None and now.options.timeout is not None:
            now.monotonic = self.clock.monotonic
            now.deadline = self.clock.monotonic() + now.options.timeout

    # ── on the loop ──────────────────────────────────────────────────────────────────────────────

    async def run_async(self, now: Running) -> Outcome:
        """Runs an `async def` task; its timeout and its cancellation really end it."""
        try:
            return await self._run_async(now)
        except BaseException as error:  # as in `run`
            return Errored(describe(error))

    async def _run_async(self, now: Running) -> Outcome:
        running.set(now)
        spec = now.spec
        assert spec is not None
        assert now.options is not None
        try:
            if now.stopping:
                return Cancelled("it was cancelled before it started")
            if (belated := self._belated()) is not None:
                return belated
            self._set_deadline(now)
            unit = None if now.spot is not None else spec.signature.unit()
            if unit is None and now.spot is None:
                args, kwargs = spec.signature.decode(now.job.args)
        except BadArguments as error:
            return Park(str(error))
        try:
            async with asyncio.timeout(now.options.timeout) as limit:
                if now.spot is not None:
                    return self._said(await self._walker.run_async(now), now)
                if unit is None:
                    result = await spec.function(*args, **kwargs)
                else:
                    result = await call_with_rows(spec.function, partial(with_rows, now, spec, unit), unit)
            return self._completed(result, spec.result, now)
        except Unbound as error:
            return error.outcome
        except TimeoutError as error:
            if limit.expired():
                waited = error.__cause__ or error  # the cancellation tells where the coroutine was
                error = too_late(now).with_traceback(waited.__traceback__)
            return self._outcome_of(error, now)
        except BaseException as error:
            return self._outcome_of(error, now)

    # ── what it came to ──────────────────────────────────────────────────────────────────────────

    def _outcome_of(self, error: BaseException, now: Running) -> Outcome:
        # By its true class: isinstance would ask the error's own __class__, which may raise.
        kind = type(error)
        if issubclass(kind, Verdict):
            return self._verdict(cast(Verdict, error), now)
        if issubclass(kind, StoreUnavailable) and _leaves_nothing(now):
            return given_back(self._store, now.job, error) or _errored(error, now)
        return outcome_of(error, now)

    def _verdict(self, verdict: Verdict, now: Running) -> Outcome:
        """What the task itself said of its run."""
        if isinstance(verdict, Snooze):
            return Again(verdict.delay(self.clock.now()), reason=verdict.reason or "it asked to be run later")
        if isinstance(verdict, Cancel) and now.undoes:
            return Failed(describe(BadArguments("an undo cannot cancel its operation; let it return, or raise Fail")))
        if isinstance(verdict, Cancel):
            return Cancelled(verdict.reason or "the task cancelled itself")
        error = describe(verdict)
        if isinstance(verdict, Retry):
            return Errored(error) if verdict.after is None else Again(verdict.after, error=error)
        if isinstance(verdict, Fail):
            return Failed(error)
        return outcome_of(verdict, now)


def too_late(now: Running) -> JobTimeout:
    """The error of a job that ran past its timeout."""
    assert now.options is not None
    return JobTimeout(f"job {now.job.id} ran longer than its timeout of {now.options.timeout:g} s")


def _leaves_nothing(now: Running) -> bool:
    """Whether a run that the store failed can begin again: a split knows its pieces, a transaction was rolled back."""
    return now.splits or (now.options is not None and now.options.transaction)


def outcome_of(error: BaseException, now: Running) -> Outcome:
    """What an exception means for the job that raised it."""
    kind = type(error)
    if now.stopping and issubclass(kind, JobCancelled | asyncio.CancelledError):
        return Cancelled("it was asked to stop")
    if issubclass(kind, splitter.BatchEnded):
        return Cancelled(str(error))
    if issubclass(kind, LeaseLost):
        return Release(str(error))  # nothing that the job did: no attempt is spent
    if issubclass(kind, OtherPlan | OtherState):
        return Park(str(error))
    if issubclass(kind, NotSerializable | TooLarge | SplitChanged | UnknownTask | TransactionEnded):
        # Running it again would do the same work and end at the same place.
        return Failed(describe(error))
    return _errored(error, now)


def _errored(error: BaseException, now: Running) -> Outcome:
    """An attempt is spent, as the task's rule for such an error says."""
    assert now.options is not None
    rule = now.options.rule(type(error))
    return Failed(describe(error)) if rule is None else Errored(describe(error), rule.retry)
