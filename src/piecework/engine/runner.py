"""Runs one job and returns what it came to. Never raises, and does no store I/O but a split's own."""

from __future__ import annotations

import asyncio
import contextvars
import math
from typing import TYPE_CHECKING, Any

from piecework.clock import Clock
from piecework.codec import MAX_PAYLOAD
from piecework.engine import splitter
from piecework.engine.context import Running, running
from piecework.errors import (
    BadArguments,
    JobCancelled,
    JobTimeout,
    LeaseLost,
    NotSerializable,
    SplitChanged,
    StoreUnavailable,
    TooLarge,
    UnknownTask,
)
from piecework.errortext import describe
from piecework.failpoints import failpoint
from piecework.job import Fetched
from piecework.options import effective
from piecework.outcome import Cancel, Complete, Errored, Fail, Outcome, Park, Release
from piecework.registry import Registry, TaskSpec
from piecework.settle import COMPOSE

if TYPE_CHECKING:
    from piecework.store.protocol import Store

_NOTHING = Complete()
_TOO_LATE = "its worker had not reached the store for longer than its lease"


class Runner:
    """Binds a fetched job to its task, calls it, and tells the outcome."""

    def __init__(self, registry: Registry, store: Store, clock: Clock, *, max_payload: int = MAX_PAYLOAD) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._max_payload = max_payload
        self.begin_until = math.inf  # after this moment of the monotonic clock nothing is begun: see Worker

    def prepare(self, job: Fetched) -> Running | Park:
        """The job with its task and options, or why it cannot run here."""
        spec = self._registry.get(job.task)
        if spec is None:
            return Park(f"unknown task {job.task!r}: no task of this worker's app has that name")
        try:
            return Running(job, spec, effective(spec.options, job.options))
        except ValueError as error:
            return Park(f"the job's options cannot be read: {error}")

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def run(self, now: Running) -> Outcome:
        """Runs a synchronous task, a splitter or a compose, in a context of its own."""
        return contextvars.Context().run(self._run, now)

    def _run(self, now: Running) -> Outcome:
        running.set(now)
        spec, job = now.spec, now.job
        assert spec is not None
        try:
            if now.stopping:
                return Cancel("it was cancelled before it started")
            if self._clock.monotonic() > self.begin_until:
                return Release(_TOO_LATE)
            self._set_deadline(now)
            args, kwargs = spec.signature.decode(job.args)
        except BadArguments as error:
            return Park(str(error))
        try:
            if spec.is_split:
                return self._run_split(now, spec, args, kwargs)
            failpoint("runner.running")
            result = spec.function(*args, **kwargs)
            return _NOTHING if result is None else Complete(spec.result.encode(result, self._max_payload))
        except BaseException as error:
            return outcome_of(error, now)

    def _run_split(self, now: Running, spec: TaskSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        if now.job.cursor != COMPOSE:
            return splitter.split(now, spec, self._registry, self._store, self._clock, args, kwargs)
        if spec.compose is None:
            return _NOTHING
        failpoint("compose.running")
        pieces = splitter.stored_pieces(self._store, self._registry, now.job.id)
        if self._clock.monotonic() > self.begin_until:  # the store took its time, or this process stood still meanwhile
            return Release(_TOO_LATE)
        return Complete(spec.compose.result.encode(spec.compose.function(pieces, *args, **kwargs), self._max_payload))

    def _set_deadline(self, now: Running) -> None:
        if now.options is not None and now.options.timeout is not None:
            now.monotonic = self._clock.monotonic
            now.deadline = self._clock.monotonic() + now.options.timeout

    # ── on the loop ──────────────────────────────────────────────────────────────────────────────

    async def run_async(self, now: Running) -> Outcome:
        """Runs an `async def` task; its timeout and its cancellation really end it."""
        running.set(now)
        spec = now.spec
        assert spec is not None
        assert now.options is not None
        try:
            if now.stopping:
                return Cancel("it was cancelled before it started")
            if self._clock.monotonic() > self.begin_until:
                return Release(_TOO_LATE)
            self._set_deadline(now)
            args, kwargs = spec.signature.decode(now.job.args)
        except BadArguments as error:
            return Park(str(error))
        try:
            async with asyncio.timeout(now.options.timeout) as limit:
                result = await spec.function(*args, **kwargs)
            return _NOTHING if result is None else Complete(spec.result.encode(result, self._max_payload))
        except TimeoutError as error:
            if limit.expired():
                late = JobTimeout(f"job {now.job.id} ran longer than its timeout of {now.options.timeout:g} s")
                waited = error.__cause__ or error  # the cancellation tells where the coroutine was
                return Errored(describe(late.with_traceback(waited.__traceback__)), JobTimeout)
            return outcome_of(error, now)
        except BaseException as error:
            return outcome_of(error, now)


def outcome_of(error: BaseException, now: Running) -> Outcome:
    """What an exception means for the job that raised it."""
    if now.stopping and isinstance(error, JobCancelled | asyncio.CancelledError):
        return Cancel("it was asked to stop")
    if isinstance(error, splitter.BatchEnded):
        return Cancel(str(error))
    if isinstance(error, LeaseLost) or (isinstance(error, StoreUnavailable) and now.spec and now.spec.is_split):
        return Release(str(error))  # nothing that the job did: no attempt is spent
    if isinstance(error, NotSerializable | TooLarge | SplitChanged | UnknownTask):
        # Running it again would do the same work and end at the same place.
        return Fail(describe(error))
    return Errored(describe(error), type(error))
