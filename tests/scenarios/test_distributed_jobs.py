"""Distributed jobs as their users see them: parts are fed to a queue, done anywhere, and the last is known as such."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from piecework import DistributedJob, Piecework, distributed
from piecework.errors import (
    AlreadyClosed,
    BadOption,
    BadPart,
    BadSettings,
    BadToken,
    DistributedJobStopped,
    NotSerializable,
    PartNotFound,
    PartsChanged,
    ProducerReplaced,
    TokenNotFound,
    TooLarge,
    UnknownTask,
)
from piecework.parts import DistributedState
from piecework.store import Parts
from piecework.testing import FrozenClock
from piecework.testing.drain import drain

OPEN, CLOSED, FINISHED, FAILED, STOPPED = DistributedState


@pytest.fixture
def app(store_url: str, clock: FrozenClock) -> Iterator[Piecework]:
    app = Piecework(store_url, clock=clock)
    yield app
    app.close()


@pytest.fixture
def job(app: Piecework) -> DistributedJob:
    return app.distributed_job("t")


def declared(app: Piecework) -> Any:
    @app.task
    def report(token: str) -> str:
        record = app.distributed_job(token).record()
        return f"{record.state} {record.done}/{record.total}"

    return report


def run(app: Piecework) -> None:
    """Runs whatever is due."""
    drain(app)


# ── feeding ──────────────────────────────────────────────────────────────────────────────────────


def test_each_item_is_yielded_with_its_part_which_is_open_and_the_last_behind_the_closing(job: DistributedJob) -> None:
    seen = []
    for item, part in job.push_each(["item1", "item2", "item3"]):
        told = job.part(part)
        assert told is not None
        seen.append((item, part, str(told.state), job.closed))
    assert seen == [
        ("item1", "0", "open", False), ("item2", "1", "open", False), ("item3", "2", "open", True),
    ]  # fmt: skip
    assert (job.total, job.count, job.state) == (3, 3, CLOSED)


def test_a_part_is_registered_before_it_is_handed_over_however_many_there_are(job: DistributedJob) -> None:
    fed = 0
    for item, part in job.push_each(range(1700)):
        assert part == str(item)
        if item % 97 == 0:
            assert not job.done(part)
            fed += 1
    assert (job.total, job.count) == (1700, 1700 - fed)


def test_items_are_streamed(job: DistributedJob) -> None:
    """An endless source: what is taken of it ahead is bounded, and a slow one is followed item by item."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for n in range(10**9):
            taken.append(n)
            yield n

    for item, _ in job.push_each(source()):
        assert len(taken) <= item + 1002
        if item == 2000:
            break
    assert job.state is OPEN


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("falsy", [[0, "", None, False, [], 0.0]])
def test_items_that_are_false_are_items(job: DistributedJob, falsy: list[Any]) -> None:
    assert list(job.push_each(falsy)) == [(item, str(n)) for n, item in enumerate(falsy)]


def test_a_function_is_called_with_each_pair(job: DistributedJob) -> None:
    got: list[tuple[str, str]] = []
    assert job.push_each(["a", "b"], lambda item, part: got.append((item, part))) == 2
    assert got == [("a", "0"), ("b", "1")]
    assert job.record().complete


def test_an_empty_job_is_finished_and_its_follow_up_runs_once_and_sees_no_part(app: Piecework) -> None:
    job = app.distributed_job("t", then=declared(app).piece("t"))
    assert list(job.push_each([])) == []
    assert (job.state, job.closed, job.total, job.count) == (FINISHED, True, 0, 0)
    assert job.then_id is not None
    run(app)
    assert app.jobs.get(job.then_id).result(timeout=1) == "finished 0/0"
    assert app.jobs.where(queue="default").count() == 1


def test_an_empty_list_of_names_is_finished_too(job: DistributedJob) -> None:
    assert job.push_all([]) == 0
    assert (job.state, job.total) == (FINISHED, 0)


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_done_is_true_and_no_other(job: DistributedJob) -> None:
    job.push_all(["0", "1", "2"])
    assert [bool(job.done(part)) for part in (1, "0", 2)] == [False, False, True]
    assert (job.finished, job.count, job.total) == (True, 0, 3)


def test_done_again_and_unknown_change_nothing(job: DistributedJob) -> None:
    job.push_all(["0", "1"])
    assert not job.done("0")
    before = job.record()
    again = job.done("0")
    assert (bool(again), again.known, again.counted) == (False, True, False)
    assert (bool(job.done("zz")), job.done("zz").known) == (False, False)
    with pytest.raises(PartNotFound, match="no part 'zz'"):
        job.done("zz", strict=True)
    assert job.record() == before


def test_whoever_died_behind_the_last_done_learns_it_when_it_says_so_again(job: DistributedJob) -> None:
    job.push_all(["0", "1"])
    job.done("0")
    job.done("1")
    again = job.done("1")
    assert (bool(again), again.last, again.finished) == (False, True, True)
    assert not job.done("0").last


def test_work_that_ends_inside_the_loop_finishes_the_job_with_the_last(job: DistributedJob) -> None:
    assert [bool(job.done(part)) for _, part in job.push_each("abc".upper().split() * 3)] == [False, False, True]
    assert job.finished


def test_many_workers_with_repeats_finish_it_once_and_one_follow_up_runs(app: Piecework) -> None:
    job = app.distributed_job("t", then=declared(app).piece("t"))
    names = [str(n) for n in range(80)]
    job.push_all(names)
    told: list[bool] = []

    def work(first: int) -> None:
        mine = names[first::8] + names[first::40]
        told.extend([bool(job.done(part)) for part in mine])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(told), len(told)) == (1, 80 + 16)
    run(app)
    assert app.jobs.where(queue="default").count() == 1
    assert app.jobs.get(job.then_id or "").result(timeout=1) == "finished 80/80"


def test_results_and_errors_are_kept_and_read_in_order(job: DistributedJob) -> None:
    job.push_all(["a", "b", "c"])
    job.done("c", {"n": 1})
    job.done("a", result=None)
    try:
        raise ValueError("bad row 7")
    except ValueError as error:
        job.fail("b", error)
    assert list(job.results()) == [("a", None), ("c", {"n": 1})]
    (failed,) = job.parts("failed")
    assert failed.error is not None
    assert (failed.part, failed.error.type, failed.error.message) == ("b", "ValueError", "bad row 7")
    assert "bad row 7" in failed.error.traceback or "raise ValueError" in failed.error.traceback
    assert (job.state, job.finished) == (FAILED, False)


def test_many_parts_are_ended_by_one_call(job: DistributedJob) -> None:
    job.push_all(range(1000))
    answers = job.done_many({n: n * n for n in range(1000)})
    assert [n for n, answer in enumerate(answers) if answer] == [999]
    assert [result for _, result in job.results()] == [n * n for n in range(1000)]
    assert not any(job.done_many(["1", 2]))


# ── producers that break off ─────────────────────────────────────────────────────────────────────


def test_a_producer_that_broke_off_is_seen_and_goes_on_where_it_was(app: Piecework, job: DistributedJob) -> None:
    handed: list[str] = []

    def enqueue(item: str, part: str) -> None:
        if len(handed) == 1:
            raise ConnectionError("the broker is away")
        handed.append(part)

    with pytest.raises(ConnectionError):
        job.push_each(["a", "b", "c"], enqueue)
    job.done("0")
    error = job.record().push_error
    assert error is not None
    assert (job.state, error.type, error.message) == (OPEN, "ConnectionError", "the broker is away")
    assert [(one.token, one.state, one.push_error is None) for one in app.distributed_jobs()] == [("t", OPEN, False)]
    # Run again: nothing is counted twice, and what is done is not done again.
    assert list(job.push_each(["a", "b", "c"])) == [("b", "1"), ("c", "2")]
    assert (job.total, job.count, job.record().push_error) == (3, 2, None)
    assert [bool(job.done(part)) for part in ("1", "2")] == [False, True]


def test_a_source_that_breaks_off_leaves_its_error_and_an_open_job(job: DistributedJob) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the file ends here")

    pairs = job.push_each(source())
    assert next(pairs) == (1, "0")
    with pytest.raises(OSError, match="the file ends here"):
        next(pairs)
    error = job.record().push_error
    assert error is not None
    assert (job.state, error.message, job.finished) == (OPEN, "the file ends here", False)
    assert [part for _, part in job.push_each([1, 2, 3])] == ["0", "1", "2"]


def test_a_producer_that_died_behind_the_closing_hands_over_the_last(job: DistributedJob) -> None:
    pairs = job.push_each(["a", "b"])
    next(pairs), next(pairs)  # closed, and the producer is gone before its queue has the last part
    assert job.closed
    job.done("0")
    assert list(job.push_each(["a", "b"])) == [("b", "1")]
    assert job.done("1")


def test_all_done_before_the_producer_came_to_its_end_the_second_run_finishes_it(app: Piecework) -> None:
    job = app.distributed_job("t", then=declared(app).piece("t"))
    pairs = job.push_each(["a", "b", "c"])
    job.done(next(pairs)[1])
    assert list(job.push_each(["a"] * 3)) == [("a", "1"), ("a", "2")]
    job.done_many([1, 2])
    assert job.then_id is not None


@pytest.mark.parametrize("good", [0, 1])
def test_items_that_fail_before_any_part_is_handed_over_leave_their_error(job: DistributedJob, good: int) -> None:
    def source() -> Iterator[int]:
        yield from range(good)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="gone"):
        list(job.push_each(source()))
    record = job.record()
    assert record.push_error is not None
    assert (record.state, record.total, record.push_error.message) == (OPEN, 0, "the file is gone")
    assert len(list(job.push_each(range(2)))) == 2
    assert (job.state, job.record().push_error) == (CLOSED, None)


def test_the_job_is_there_before_the_first_item_is_asked_for(job: DistributedJob) -> None:
    def source() -> Iterator[int]:
        assert (job.state, job.total, job.record().complete) == (OPEN, 0, False)
        yield 7

    pairs = job.push_each(source())
    assert not job.exists
    assert list(pairs) == [(7, "0")]


def test_fewer_items_than_before_are_told_and_nothing_is_closed(job: DistributedJob) -> None:
    pairs = job.push_each(range(10))
    for _ in range(5):
        next(pairs)
    with pytest.raises(PartsChanged, match="must offer the same parts"):
        list(job.push_each(range(2)))
    assert not job.closed


def test_of_two_producers_the_later_goes_on_and_the_earlier_is_told(job: DistributedJob) -> None:
    first, second = job.push_each(iter(range(100))), job.push_each(iter(range(100)))
    next(first), next(second)
    with pytest.raises(ProducerReplaced):
        list(first)
    assert len(list(second)) == 99
    assert (job.total, job.closed) == (100, True)


# ── names and tokens ─────────────────────────────────────────────────────────────────────────────


def test_a_name_that_comes_twice_is_one_part_and_a_number_is_its_text(job: DistributedJob) -> None:
    assert job.push_all(["a", "b", "b"]) == 2
    assert job.total == 2
    other = DistributedJob(job._parts, "u")
    assert other.push_all([1, "1", 0]) == 2
    assert [bool(other.done(part)) for part in ("1", 0)] == [False, True]


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize(
    "name", [None, "", 1.0, b"a", True, ("a",), "x" * 501, "a\0b", "\ud800", 10**500, pytest.param(10**6000, id="huge")]
)
def test_what_cannot_name_a_part_is_refused_and_nothing_is_stored(app: Piecework, name: Any) -> None:
    job = app.distributed_job("t")
    for call in (
        lambda: job.push_all(["a", name]),
        lambda: job.done(name),
        lambda: job.fail(name, "why"),
        lambda: job.part(name),
        lambda: job.done_many([name]) if name != ("a",) else job.done(name),
    ):
        with pytest.raises(BadPart, match="part"):
            call()
    assert not job.exists


def test_the_largest_number_that_names_a_part_is_the_same_part_as_its_text(job: DistributedJob) -> None:
    number = -(10**498)
    job.push_all([number])
    assert job.done(str(number))


def test_more_items_than_a_length_can_tell_are_an_unknown_number(job: DistributedJob) -> None:
    assert next(job.push_each(range(10**30))) == (0, "0")
    assert job.progress.total is None


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("items", ["abc", b"abc", 5, None, ""])
def test_what_cannot_be_iterated_and_a_bare_string_are_refused_at_the_call(job: DistributedJob, items: Any) -> None:
    for call in (job.push_each, job.push_all, job.done_many, lambda items: job.push_each(items, print)):
        with pytest.raises(BadPart, match="must be an iterable and not a bare string"):
            call(items)
    assert not job.exists


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("token", [None, "", 7, b"t", "x" * 201, "a\0"])
def test_what_cannot_be_a_token_is_refused(app: Piecework, token: Any) -> None:
    with pytest.raises(BadToken, match="a token is text of 1 to 200 characters"):
        app.distributed_job(token)


@pytest.mark.elsewhere(shelf=())
class SafeText(str):
    """As templates and web frameworks have it."""


def test_text_of_a_class_of_its_own_names_a_token_and_a_part(app: Piecework) -> None:
    job = app.distributed_job(SafeText("t"))
    job.push_all([SafeText("a"), "b"])
    assert job.done(SafeText("a")).counted
    assert not job.done("a").counted
    assert (app.distributed_job("t").count, [part.part for part in job.parts()]) == (1, ["a", "b"])


async def sends(item: int, part: str) -> None:
    raise AssertionError


@pytest.mark.parametrize("each", [5, "send", sends, functools.partial(sends, 1)])
def test_what_cannot_be_called_with_a_pair_or_would_do_nothing_is_refused_and_nothing_is_stored(
    job: DistributedJob, each: Any
) -> None:
    with pytest.raises(BadOption, match="push_each: each is"):
        job.push_each([1, 2], each)
    assert not job.exists


def test_what_can_be_no_part_is_told_by_every_call(job: DistributedJob) -> None:
    job.push_all(["a"])
    part: Any = ["a"]
    for call in (job.done, job.part, lambda part: job.fail(part, "x"), lambda part: job.done_many([part])):
        with pytest.raises(BadPart, match="named by text or a whole number"):
            call(part)
    assert job.count == 1


def test_an_app_is_no_url(app: Piecework) -> None:
    url: Any = app
    with pytest.raises(BadSettings, match=r"must be text, not Piecework.*app.distributed_job\(token\)"):
        distributed.distributed_job(url, "t")


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "day", True, 1e12, 10**400])
def test_what_cannot_be_a_ttl_is_refused(app: Piecework, ttl: Any) -> None:
    with pytest.raises(BadOption, match="ttl must be"):
        app.distributed_job("t", ttl=ttl)


@pytest.mark.elsewhere(shelf=())
def test_what_cannot_follow_is_refused(app: Piecework) -> None:
    report = declared(app)
    other = Piecework("sqlite://:memory:")

    @other.task
    def elsewhere() -> None: ...

    for then, said in (
        (report, "yield|give it"),
        (report.using(key="k").piece("t"), "key= and expires="),
        (report.using(expires=3).piece("t"), "key= and expires="),
    ):
        with pytest.raises((BadOption, TypeError), match=said):
            app.distributed_job("t", then=then)
    with pytest.raises(UnknownTask):
        app.distributed_job("t", otherwise=elsewhere.piece())


def test_a_result_that_cannot_travel_is_refused_and_the_part_stays_open(job: DistributedJob) -> None:
    job.push_all(["a"])
    with pytest.raises(NotSerializable):
        job.done("a", object())
    with pytest.raises(NotSerializable):
        job.done("a", float("nan"))
    with pytest.raises(TooLarge):
        job.done("a", "x" * 2_000_000)
    with pytest.raises(BadOption):
        job.fail("a", 7)  # type: ignore[arg-type]
    with pytest.raises(BadOption):
        job.stop(7)  # type: ignore[arg-type]
    assert (job.count, job.stopped) == (1, False)


def test_an_unknown_token_is_told_from_an_empty_job(app: Piecework, job: DistributedJob) -> None:
    reads: list[Callable[[], Any]] = [
        lambda: job.count, lambda: job.total, lambda: job.finished, lambda: job.stopped, lambda: job.closed,
        lambda: job.state, lambda: job.progress, lambda: job.done("0"), lambda: job.fail("0", "why"),
        lambda: job.stop("why"), job.resume, lambda: list(job.open_parts()), lambda: job.part("0"),
        lambda: list(job.results()),
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(TokenNotFound, match="no distributed job 't'"):
            read()
    assert not job.exists
    job.push_all([])
    assert (job.exists, job.count, job.total) == (True, 0, 0)


def test_a_second_push_on_a_closed_job_is_refused(job: DistributedJob) -> None:
    list(job.push_each(["a"]))
    for push in (lambda: list(job.push_each(["a"])), lambda: job.push_all(["0"]), lambda: list(job.push_each([]))):
        with pytest.raises(AlreadyClosed, match="all of its 1 parts were pushed"):
            push()
    assert job.total == 1


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────


def test_a_stopped_job_begins_nothing_does_not_finish_and_goes_on_with_its_open_parts(app: Piecework) -> None:
    report = declared(app)
    job = app.distributed_job("t", then=report.piece("t"), otherwise=report.using(queue="bad").piece("t"))
    begun: list[str] = []

    def worker(part: str) -> None:
        if not job.stopped:
            begun.append(part)
            job.done(part)

    job.push_all(["a", "b", "c"])
    worker("a")
    assert job.stop("disk full", by="ann")
    assert not job.stop("again")
    for part in ("b", "c"):
        worker(part)
    assert (begun, job.state, job.reason, job.finished) == (["a"], STOPPED, "disk full", False)
    job.done("b")  # it was under way
    assert (job.then_id, job.otherwise_id is not None) == (None, True)
    assert job.resume()
    assert list(job.open_parts()) == ["c"]
    worker("c")
    assert job.finished
    run(app)
    assert [app.jobs.where(queue=queue, state="completed").count() for queue in ("default", "bad")] == [1, 1]


def test_the_last_part_of_a_stopped_job_does_not_trigger_what_follows(app: Piecework) -> None:
    job = app.distributed_job("t", then=declared(app).piece("t"))
    job.push_all(["a"])
    job.stop("why")
    answer = job.done("a")
    assert (bool(answer), answer.counted, answer.stopped, answer.finished) == (False, True, True, False)
    assert (job.finished, job.then_id) == (False, None)
    back = job.resume()
    assert (bool(back), back.finished) == (True, True)
    assert not job.resume()
    assert not job.done("a").last  # one party learns it
    assert job.then_id is not None
    run(app)
    assert app.jobs.get(job.then_id).result(timeout=1) == "finished 1/1"
    assert app.jobs.where().count() == 1


def test_a_producer_learns_that_its_job_was_stopped(job: DistributedJob) -> None:
    pairs = job.push_each(iter(range(5000)))
    next(pairs)
    job.stop("disk full")
    with pytest.raises(DistributedJobStopped, match="disk full"):
        list(pairs)
    assert not job.closed


# ── age ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_kept_while_parts_are_open_and_forgotten_a_second_after_its_end(
    app: Piecework, clock: FrozenClock
) -> None:
    job = app.distributed_job("t", ttl=timedelta(seconds=1))
    job.push_all(["a", "b"])
    for part in ("a", "b"):
        clock.advance(100)
        assert job.count
        job.done(part)
    clock.advance(0.5)
    assert job.finished
    clock.advance(0.6)
    assert not job.exists
    assert list(app.distributed_jobs()) == []


def test_pushed_again_by_the_same_handle_once_it_is_forgotten_a_job_has_a_follow_up_of_its_own(
    app: Piecework, clock: FrozenClock
) -> None:
    job = app.distributed_job("nightly", then=declared(app).piece("nightly"), ttl=60)
    for _ in range(3):
        job.push_all(["a"])
        assert job.done("a")
        run(app)
        clock.advance(86_400)
    assert app.jobs.where(state="completed").count() == 3


def test_stopped_stays_stopped_whatever_its_age(app: Piecework, clock: FrozenClock) -> None:
    job = app.distributed_job("t", ttl=1)
    job.push_all(["a"])
    job.stop("why")
    clock.advance(10_000)
    app.store.prune(before=clock.now())
    assert (job.stopped, job.ttl) == (True, 1.0)
    assert job.forget()
    assert not job.forget()
    assert not job.exists


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def test_progress_tells_what_is_known_and_how_long_the_rest_will_take(app: Piecework, clock: FrozenClock) -> None:
    job = app.distributed_job("t")
    pairs = job.push_each(iter(range(100)))
    job.done(next(pairs)[1])
    clock.advance(10)
    open_ended = job.progress
    assert (open_ended.done, open_ended.total, open_ended.share, open_ended.eta) == (1, None, None, None)
    assert open_ended.per_second == pytest.approx(0.1)
    list(pairs)
    job.done_many(range(1, 20))
    clock.advance(10)
    told = job.progress
    assert (told.done, told.total, told.share) == (20, 100, 0.2)
    assert (told.per_second, told.eta) == (pytest.approx(1.0), pytest.approx(80.0))
    job.stop("night")
    assert job.progress.eta is None
    clock.advance(1000)
    job.resume()
    clock.advance(10)
    job.done_many(range(20, 60))
    assert job.progress.eta == pytest.approx(10.0)
    job.done_many(range(60, 100))
    assert (job.progress.share, job.progress.eta) == (1.0, 0.0)


def test_before_it_is_closed_the_total_is_what_the_producer_can_tell(job: DistributedJob) -> None:
    next(job.push_each(range(40)))
    assert (job.progress.total, job.progress.share) == (40, 0.0)


def test_jobs_are_listed_newest_first_and_by_state(app: Piecework) -> None:
    for token in ("a", "b", "c"):
        app.distributed_job(token).push_all(["0"])
    app.distributed_job("b").done("0")
    assert [one.token for one in app.distributed_jobs()] == ["c", "b", "a"]
    assert [one.token for one in app.distributed_jobs("finished")] == ["b"]
    assert [one.token for one in app.distributed_jobs(newest=False)] == ["a", "b", "c"]
    with pytest.raises(BadOption, match="state must be one of open, closed, finished, failed, stopped"):
        app.distributed_jobs("done")


def test_open_parts_are_read_page_by_page_while_they_are_done(job: DistributedJob) -> None:
    job.push_all(range(1200))
    seen, done = [], 0
    for part in job.open_parts():
        seen.append(part)
        if len(seen) % 400 == 1:  # the one before, and some that were not read yet
            done += sum(end.counted for end in job.done_many([part, int(part) + 200, int(part) + 300]))
    assert 1200 - done <= len(seen) <= 1200
    assert (seen == sorted(seen, key=int), job.count) == (True, 1200 - done)


def test_a_job_that_is_forgotten_while_its_parts_are_read_is_told(job: DistributedJob) -> None:
    job.push_all(range(500))
    assert len(list(job.parts())) == 500  # a whole page, and nothing behind it
    job.forget()
    job.push_all(range(501))
    parts = job.parts()
    next(parts)
    job.forget()
    with pytest.raises(TokenNotFound):
        list(parts)


def test_the_same_token_is_the_same_job(app: Piecework, store_url: str) -> None:
    one, two = app.distributed_job("t"), app.distributed_job("t")
    assert (one, hash(one), repr(one)) == (two, hash(two), "<distributed job t>")
    assert one != app.distributed_job("u")
    one.push_all(["a"])
    assert two.done("a")


def test_nobody_waits_for_a_thread_that_opens_the_store_and_all_share_one(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is forked just then has a copy of that thread's moment, and not of the thread."""
    opens, goes_on = threading.Event(), threading.Event()
    open_parts = distributed.open_parts

    def slow(url: str) -> Parts:
        opens.set()
        assert goes_on.wait(60)
        return open_parts(url)

    monkeypatch.setattr(distributed, "_opened", {})
    monkeypatch.setattr(distributed, "open_parts", slow)
    found: list[DistributedJob] = []
    thread = threading.Thread(target=lambda: found.append(distributed.distributed_job(store_url, "t")))
    thread.start()
    assert opens.wait(60)
    monkeypatch.setattr(distributed, "open_parts", open_parts)
    found.append(distributed.distributed_job(store_url, "t"))
    goes_on.set()
    thread.join()
    found.append(distributed.distributed_job(store_url, "t"))
    assert found[0] == found[1] == found[2]


def test_a_follow_up_is_found_by_its_tags_and_its_identity(app: Piecework) -> None:
    @app.task(tags="nightly", identity="day")
    def report(day: int) -> int:
        return day

    follows = report.using(tags="x").piece(7)
    job = app.distributed_job("t", then=follows, otherwise=follows)
    job.push_all(["a"])
    job.stop()
    assert job.resume()
    assert job.done("a")
    assert {found.id for found in app.jobs.where(tags=["nightly", "x"])} == {job.otherwise_id, job.then_id}
    assert {found.id for found in app.jobs.where(identity=7)} == {job.otherwise_id, job.then_id}
    assert report.in_progress(7)


def test_a_follow_up_may_be_an_operation(app: Piecework) -> None:
    def note(step: Any) -> None:
        step["noted"] = step["token"]

    fulfil = app.operation("fulfil", main=[note])
    job = app.distributed_job("t", then=fulfil.piece(token="t"))
    job.push_all(["a"])
    assert job.done("a")
    run(app)
    (operation,) = fulfil.where()
    assert (operation.state, operation.globals["noted"]) == ("completed", "t")
    assert json.loads(json.dumps(operation.globals))["token"] == "t"
