"""What follows from a run's outcome, as a table over every outcome."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import outcome as outcomes
from piecework.job import ErrorInfo, Fetched, State
from piecework.options import TaskOptions
from piecework.outcome import Again, Cancelled, Complete, Errored, Failed, Outcome, Park, Release, Seal, Settlement
from piecework.retry import exponential, fixed
from piecework.settle import COMPOSE, settle

ERROR = ErrorInfo("ValueError", "bad body")
TWICE = TaskOptions(attempts=2, retry=exponential(60, jitter=0.5))


def run(attempt: int = 0, cursor: str | None = None) -> Fetched:
    return Fetched("j", 7, "t", "mail", 3, attempt, 1, "b", "r", cursor, None, 1.0, "{}")


def end(state: State, attempt: int, **fields: object) -> Settlement:
    return msgspec.structs.replace(Settlement("j", 7, state, attempt, "mail", batch="b"), **fields)


TABLE: list[tuple[str, Fetched, Outcome, Settlement]] = [
    ("complete", run(), Complete('"r"'), end(State.COMPLETED, 1, result='"r"')),
    ("complete_with_nothing", run(), Complete(), end(State.COMPLETED, 1)),
    ("complete_after_failures", run(1), Complete(), end(State.COMPLETED, 2)),
    ("complete_a_compose", run(0, COMPOSE), Complete("1"), end(State.COMPLETED, 1, result="1")),
    ("seal", run(1), Seal(5), end(State.WAITING, 0, cursor=COMPOSE, seal=5)),
    ("seal_nothing", run(), Seal(0), end(State.WAITING, 0, cursor=COMPOSE, seal=0)),
    ("first_error", run(), Errored(ERROR), end(State.AVAILABLE, 1, delay=60.0, error=ERROR, history="retry")),
    ("last_error", run(1), Errored(ERROR), end(State.FAILED, 2, error=ERROR, history="failed")),
    ("one_error_too_many", run(9), Errored(ERROR), end(State.FAILED, 10, error=ERROR, history="failed")),
    ("own_policy", run(), Errored(ERROR, fixed(7)), end(State.AVAILABLE, 1, delay=7.0, error=ERROR, history="retry")),
    ("again", run(), Again(9.0, error=ERROR), end(State.AVAILABLE, 1, delay=9.0, error=ERROR, history="retry")),
    ("again_in_vain", run(1), Again(9.0, error=ERROR), end(State.FAILED, 2, error=ERROR, history="failed")),
    ("snooze", run(1), Again(9.0, "later"), end(State.AVAILABLE, 1, delay=9.0, reason="later", history="snoozed")),
    ("snooze_for_no_time", run(), Again(0.0), end(State.AVAILABLE, 0, delay=0.0, history="snoozed")),
    ("fail", run(), Failed(ERROR), end(State.FAILED, 1, error=ERROR, history="failed")),
    ("cancel", run(1), Cancelled("asked"), end(State.CANCELLED, 1, reason="asked", history="cancelled")),
    ("park", run(1), Park("no task"), end(State.PARKED, 1, reason="no task", history="parked")),
    ("release", run(1), Release("stopping"), end(State.AVAILABLE, 1, reason="stopping", history="released")),
]


@pytest.mark.parametrize(("job", "outcome", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_an_outcome_settles_as_the_table_says(job: Fetched, outcome: Outcome, expected: Settlement) -> None:
    assert settle(job, outcome, TWICE, 0.0) == expected


def test_the_table_has_every_outcome() -> None:
    kinds = {kind for kind in vars(outcomes).values() if isinstance(kind, type) and issubclass(kind, Outcome)}
    of_operations = {outcomes.Stepped, outcomes.Await, outcomes.Undone, outcomes.UndoNext}  # see test_walk.py
    assert kinds - {Outcome} - of_operations == {type(row[2]) for row in TABLE}


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(TypeError, match="not an outcome"):
        settle(run(), Outcome(), TWICE, 0.0)
    with pytest.raises(TypeError, match="not an outcome"):
        settle(run(), None, TWICE, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("cursor", [None, COMPOSE])
@pytest.mark.parametrize("outcome", [Errored(ERROR), Release("stopping"), Park("x"), Cancelled("x"), Failed(ERROR)])
def test_a_compose_that_does_not_complete_stays_a_compose(outcome: Outcome, cursor: str | None) -> None:
    """A store keeps the cursor that a settlement does not speak of; a retry must not run the splitter again."""
    assert settle(run(0, cursor), outcome, TWICE, 0.0).cursor is None


def test_the_draw_decides_the_jitter() -> None:
    assert settle(run(), Errored(ERROR), TWICE, 0.5).delay == 45.0


def test_one_attempt_is_never_retried() -> None:
    assert settle(run(), Errored(ERROR), TaskOptions(attempts=1), 0.0).state is State.FAILED


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_an_error_is_retried_exactly_until_the_attempts_are_spent(attempt: int, attempts: int, draw: float) -> None:
    done = settle(run(attempt), Errored(ERROR), TaskOptions(attempts=attempts, retry=fixed(3)), draw)
    assert done.attempt == attempt + 1
    assert done.state is (State.FAILED if attempt + 1 >= attempts else State.AVAILABLE)
    assert done.delay == (None if done.state is State.FAILED else 3)


@given(st.sampled_from([row[2] for row in TABLE]), st.integers(0, 9), st.floats(0, 1, exclude_max=True))
def test_every_settlement_stays_behind_its_fence(outcome: Outcome, attempt: int, draw: float) -> None:
    """Job, run, queue and batch are those of what was fetched; deciding changes nothing and asks nobody."""
    job = run(attempt)
    done = settle(job, outcome, TWICE, draw)
    assert (done.id, done.run, done.queue, done.batch) == ("j", 7, "mail", "b")
    assert done == settle(job, outcome, TWICE, draw)
    assert done.attempt >= attempt or isinstance(outcome, Seal)
