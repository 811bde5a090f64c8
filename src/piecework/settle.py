"""What follows from a run's outcome: the one place that decides, without doing anything."""

from __future__ import annotations

from piecework.job import ErrorInfo, Fetched, State
from piecework.options import TaskOptions
from piecework.outcome import Again, Cancelled, Complete, Errored, Failed, Outcome, Park, Release, Seal, Settlement

COMPOSE = "compose"  # the cursor of a split whose pieces have all settled


def settle(job: Fetched, outcome: Outcome, options: TaskOptions, draw: float) -> Settlement:
    """The settlement of one run. `draw` is a random number in [0, 1) for the retry's jitter."""
    if isinstance(outcome, Complete):
        return Settlement(
            job.id, job.run, State.COMPLETED, job.attempt + 1, job.queue, result=outcome.result, batch=job.batch
        )
    if isinstance(outcome, Seal):
        return _end(job, State.WAITING, 0, cursor=COMPOSE, seal=outcome.total)
    if isinstance(outcome, Errored):
        policy = outcome.retry or options.retry
        return _after_error(job, outcome.error, options, policy.delay(job.attempt + 1, draw))
    if isinstance(outcome, Again):
        if outcome.error is not None:
            return _after_error(job, outcome.error, options, outcome.delay)
        return _end(job, State.AVAILABLE, job.attempt, delay=outcome.delay, reason=outcome.reason, history="snoozed")
    if isinstance(outcome, Failed):
        return _end(job, State.FAILED, job.attempt + 1, error=outcome.error, history="failed")
    if isinstance(outcome, Cancelled):
        return _end(job, State.CANCELLED, job.attempt, reason=outcome.reason, history="cancelled")
    if isinstance(outcome, Park):
        return _end(job, State.PARKED, job.attempt, reason=outcome.reason, history="parked")
    if isinstance(outcome, Release):
        history = None if outcome.quiet else "released"
        return _end(job, State.AVAILABLE, job.attempt, reason=outcome.reason, history=history)
    raise TypeError(f"{outcome!r} is not an outcome")


def _after_error(job: Fetched, error: ErrorInfo, options: TaskOptions, delay: float) -> Settlement:
    spent = job.attempt + 1
    if spent >= options.attempts:
        return _end(job, State.FAILED, spent, error=error, history="failed")
    return _end(job, State.AVAILABLE, spent, delay=delay, error=error, history="retry")


def _end(
    job: Fetched,
    state: State,
    attempt: int,
    *,
    delay: float | None = None,
    cursor: str | None = None,
    error: ErrorInfo | None = None,
    reason: str | None = None,
    history: str | None = None,
    seal: int | None = None,
) -> Settlement:
    return Settlement(
        job.id,
        job.run,
        state,
        attempt,
        job.queue,
        delay=delay,
        cursor=cursor,
        batch=job.batch,
        error=error,
        reason=reason,
        history=history,
        seal=seal,
    )
