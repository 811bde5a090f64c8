"""Large calls of distributed jobs break off between two of their bites, and no transaction changes more than one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from piecework import parting
from piecework.distributed import DistributedJob
from piecework.errors import StoreUnavailable
from piecework.job import ErrorInfo, NewJob
from piecework.parts import DistributedState, PartEnd
from piecework.store import Store
from piecework.store.redis.tokens import Tokens

BITE = 3
PARTS = [str(n) for n in range(10)]
ENDS = [PartEnd(part, "one", part) for part in PARTS]
ERROR = ErrorInfo("ValueError", "bad body")

Broken = Callable[[str, int], Any]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "BITE", BITE)


@pytest.fixture
def job(store: Store) -> DistributedJob:
    follow = (NewJob(id=id, task="t", args="{}") for id in ("then", "otherwise"))
    job = DistributedJob(store.parts, "t", then=next(follow), otherwise=next(follow))
    job.push_all(PARTS)
    return job


@pytest.fixture
def breaks_off(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Lets what is decided for a bite raise, once so many bites have been."""

    def breaks_off(decision: str, bites: int) -> None:
        whole, left = getattr(parting, decision), [None] * bites

        def broken(*said: Any) -> Any:
            if not left:
                monkeypatch.setattr(parting, decision, whole)
                raise StoreUnavailable("the store is away")
            left.pop()
            return whole(*said)

        monkeypatch.setattr(parting, decision, broken)

    return breaks_off


def sound(job: DistributedJob) -> tuple[int, int]:
    """How many parts are open and failed by the job, which are those of the parts."""
    states = [part.state.value for part in job.parts()]
    record = job.record()
    assert (len(states), states.count("open"), states.count("failed")) == (record.total, record.open, record.failed)
    return record.open, record.failed


@pytest.mark.parametrize("bites", range(4))
def test_ends_that_break_off_between_two_bites_are_completed_by_the_same_call(
    store: Store, job: DistributedJob, breaks_off: Broken, bites: int
) -> None:
    breaks_off("ended", bites)
    with pytest.raises(StoreUnavailable):
        store.parts.end("t", ENDS)
    assert sound(job) == (10 - bites * BITE, 0)
    assert job.then_id is None
    answers = store.parts.end("t", ENDS)
    assert ([bool(answer) for answer in answers], {answer.counted for answer in answers}) == (
        [False] * 9 + [True],
        {True},
    )
    assert [answer.last for answer in store.parts.end("t", ENDS)] == [False] * 9 + [True]
    assert (job.state, sum(store.counts().values()), dict(job.results())) == ("finished", 1, {p: int(p) for p in PARTS})


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("bites", range(4))
def test_a_resume_that_broke_off_leaves_a_stopped_job_and_goes_on_when_it_is_asked_for_again(
    store: Store, job: DistributedJob, breaks_off: Broken, bites: int, is_stopped: bool
) -> None:
    if is_stopped:
        job.stop("disk full")
    store.parts.end("t", [PartEnd(part, "one", error=ERROR) for part in PARTS])
    breaks_off("resumed", bites)
    with pytest.raises(StoreUnavailable):
        job.resume()
    assert sound(job) == (bites * BITE, 10 - bites * BITE)
    if bites or is_stopped:
        assert (job.stopped, job.record().expires_at) == (True, None)
        assert job.reason == ("disk full" if is_stopped else parting.RESUMING)
        assert not job.stop("again")
    assert job.resume()
    assert (job.state, sound(job), job.reason) == ("closed", (10, 0), None)
    assert [bool(answer) for answer in job.done_many(PARTS)].count(True) == 1
    assert (job.finished, sum(store.counts().values())) == (True, 2)


def test_a_part_that_ends_while_a_job_is_resumed_counts(store: Store, job: DistributedJob, breaks_off: Broken) -> None:
    store.parts.end("t", [PartEnd(part, "one", error=ERROR) for part in PARTS])
    breaks_off("resumed", 2)
    with pytest.raises(StoreUnavailable):
        job.resume()
    assert [answer.counted for answer in job.done_many(["0", "9"])] == [True, True]
    assert job.fail("1", "bad once more").counted
    assert sound(job) == (4, 4)
    assert job.resume()
    assert (job.state, sound(job)) == ("closed", (8, 0))


def test_what_fails_in_an_earlier_bite_has_failed_before_a_later_one_mends_it(
    store: Store, job: DistributedJob
) -> None:
    """A large call is as several small ones: what they bring about follows from each."""
    job.fail("9", "bad body")
    job.done_many(PARTS)
    assert (job.finished, job.then_id is None, job.otherwise_id is None) == (True, False, False)
    assert sum(store.counts().values()) == 2


class TestOnRedis:
    """A script is the whole server's time: what one is told, and what one answers, is bounded."""

    @pytest.fixture
    def shelf(self) -> str:
        return "redis"

    @pytest.fixture
    def told(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """Of each script its title, and how many parts it was told to change."""
        told: list[tuple[str, int]] = []
        run = Tokens.run

        def noted(tokens: Any, shard: Any, title: str, asked: Any, *more: bytes) -> Any:
            change = asked[4] if len(asked) > 4 else None
            told.append((title, 0 if change is None else len(change[4]) + len(change[5])))
            return run(tokens, shard, title, asked, *more)

        monkeypatch.setattr(Tokens, "run", noted)
        return told

    def test_no_script_ends_or_opens_more_than_a_bite(
        self, store: Store, job: DistributedJob, told: list[tuple[str, int]]
    ) -> None:
        store.parts.end("t", [PartEnd(part, "one", error=ERROR) for part in PARTS])
        job.resume()
        job.done_many(PARTS)
        changes = [n for title, n in told if title in ("parts_change", "parts_follow")]
        assert changes == [3, 3, 3, 1] * 3

    def test_ends_with_heavy_results_go_in_smaller_bites(
        self, store: Store, job: DistributedJob, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("piecework.store.redis.parts.HEAVY", 100)
        answers = job.done_many({"0": "x" * 60, "1": "x" * 60, "2": "x" * 500, "3": 1, "4": 2})
        assert [answer.counted for answer in answers] == [True] * 5
        assert [n for title, n in told if title == "parts_change"] == [1, 1, 1, 2]

    def test_a_bite_that_came_too_late_comes_again_with_less(
        self, store: Store, job: DistributedJob, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else those that end one part at a time would always be quicker."""
        write = Tokens._write
        others = iter(["9", "8"])

        def late(tokens: Any, *change: Any) -> None:
            if (other := next(others, None)) is not None:
                DistributedJob(store.parts, "t").done(other)
            write(tokens, *change)

        monkeypatch.setattr(Tokens, "_write", late)
        assert [answer.counted for answer in job.done_many(PARTS)] == [True] * 8 + [False] * 2
        assert (job.state, sound(job)) == (DistributedState.FINISHED, (0, 0))
        assert max(n for _, n in told) == 3
