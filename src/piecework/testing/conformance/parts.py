"""Distributed jobs: parts are pushed, end, and what follows is stored with the last."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from piecework import parting
from piecework.errors import (
    AlreadyClosed,
    DistributedJobStopped,
    PartsChanged,
    ProducerReplaced,
    TokenNotFound,
)
from piecework.job import ErrorInfo, Filter, NewJob
from piecework.parts import DistributedRecord, DistributedState, Done, PartEnd, PartState, Push, Resumed
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import BAD_BODY, Conformance, a_job, together

OPEN, DONE, FAILED = PartState
TTL = 60.0
_calls = itertools.count(1)


def push(store: Store, *names: str, token: str = "t", run: str = "p1", **fields: Any) -> list[PartState]:
    """One push, the first of its run unless the test says otherwise."""
    push = Push(**{"token": token, "producer": run, "parts": names, "begins": True, "ttl": TTL, **fields})
    return store.parts.push(push)


def pushed(store: Store, *names: str, token: str = "t", **fields: Any) -> None:
    """A job whose producer has handed over all."""
    push(store, *names, token=token, **{"close": len(set(names)), "complete": True, **fields})


def end(
    store: Store, part: str, *, token: str = "t", call: str | None = None, error: ErrorInfo | None = None, **more: Any
) -> Done:
    """Ends one part by a call of its own."""
    ends = [PartEnd(part, call or f"call {next(_calls)}", more.pop("result", None), error)]
    (answer,) = store.parts.end(token, ends, **more)
    return answer


def fail(store: Store, part: str, **more: Any) -> Done:
    return end(store, part, error=BAD_BODY, **more)


def job(store: Store, token: str = "t") -> DistributedRecord:
    found = store.parts.read(token)
    assert found is not None
    return found


def state(store: Store, token: str = "t") -> DistributedState:
    return job(store, token).state


def numbers(store: Store) -> tuple[int, int, int]:
    """Total, open, failed; they are those of the parts."""
    found = job(store)
    parts = store.parts.parts("t", limit=100_000)
    states = [part.state for part in parts]
    assert (len(parts), states.count(OPEN), states.count(FAILED)) == (found.total, found.open, found.failed)
    return found.total, found.open, found.failed


def names(store: Store, **which: Any) -> list[str]:
    return [part.part for part in store.parts.parts("t", **which)]


def whole(store: Store) -> Any:
    return store.parts.find(), store.parts.parts("t"), store.counts()


class PushConformance(Conformance):
    """Parts come to be known."""

    def test_parts_are_registered_in_their_order_behind_those_that_are_there(self, store: Store) -> None:
        assert push(store, "b", "a") == [OPEN, OPEN]
        assert push(store, "c", begins=False) == [OPEN]
        assert [(part.number, part.part) for part in store.parts.parts("t")] == [(0, "b"), (1, "a"), (2, "c")]
        assert numbers(store) == (3, 3, 0)
        assert state(store) is DistributedState.OPEN

    def test_a_part_that_is_there_stays_as_it_is_and_is_counted_once(self, store: Store) -> None:
        push(store, "a", "b")
        end(store, "a", result="1")
        assert push(store, "a", "b", "c", "c") == [DONE, OPEN, OPEN, OPEN]
        assert numbers(store) == (3, 2, 0)

    def test_a_push_sent_twice_leaves_what_one_leaves(self, store: Store) -> None:
        said: list[dict[str, Any]] = [{}, {"close": 2}, {"close": 2, "complete": True}]
        for fields in said:
            push(store, "a", "b", **fields)
            once = whole(store)
            push(store, "a", "b", **fields)
            assert whole(store) == once

    def test_with_close_no_part_can_follow_and_nothing_of_that_push_is_kept(self, store: Store) -> None:
        push(store, "a", close=1)
        assert state(store) is DistributedState.CLOSED
        with pytest.raises(AlreadyClosed, match="closed with 1 parts, and this push offers 1 more"):
            push(store, "a", "b", begins=False)
        assert numbers(store) == (1, 1, 0)

    def test_closed_with_all_parts_ended_a_job_has_ended(self, store: Store) -> None:
        push(store, "a")
        assert not end(store, "a")
        push(store, close=1, begins=False)
        assert state(store) is DistributedState.FINISHED
        assert job(store).last is None

    def test_an_empty_job_is_finished_by_being_closed_and_its_follow_up_is_stored(self, store: Store) -> None:
        pushed(store, then=a_job("then"), otherwise=a_job("otherwise"))
        assert (state(store), numbers(store)) == (DistributedState.FINISHED, (0, 0, 0))
        assert [found.id for found in store.get(["then", "otherwise"])] == ["then"]

    def test_another_run_may_not_push_once_all_was_handed_over(self, store: Store) -> None:
        pushed(store, "a")
        with pytest.raises(AlreadyClosed, match="all of its 1 parts"):
            push(store, "a", run="p2")

    def test_another_run_takes_over_what_was_closed_and_not_handed_over(self, store: Store) -> None:
        push(store, "a", "b", close=2)
        end(store, "a")
        assert push(store, "a", "b", run="p2", close=2) == [DONE, OPEN]
        assert numbers(store) == (2, 1, 0)

    def test_the_run_before_is_refused_once_another_took_over(self, store: Store) -> None:
        push(store, "a")
        push(store, "a", run="p2")
        with pytest.raises(ProducerReplaced):
            push(store, "b", run="p1", begins=False)
        assert push(store, "b", run="p2", begins=False) == [OPEN]
        assert names(store) == ["a", "b"]

    def test_a_stopped_job_takes_no_parts(self, store: Store) -> None:
        push(store, "a")
        store.parts.stop("t", "disk full")
        with pytest.raises(DistributedJobStopped, match="disk full"):
            push(store, "b", begins=False)
        assert names(store) == ["a"]

    def test_a_close_with_another_number_is_refused(self, store: Store) -> None:
        push(store, "a", "b", "c")
        with pytest.raises(PartsChanged, match="3 parts, and its producer came to its end with 2"):
            push(store, "a", "b", run="p2", close=2, complete=True)
        assert (state(store), job(store).producer) == (DistributedState.OPEN, "p1")

    def test_a_later_push_of_a_run_finds_no_job_that_was_deleted_meanwhile(self, store: Store) -> None:
        push(store, "a")
        store.parts.forget(["t"])
        with pytest.raises(TokenNotFound):
            push(store, "b", begins=False)
        assert store.parts.read("t") is None

    def test_the_follow_ups_that_were_stored_first_stay(self, store: Store) -> None:
        push(store, "a", then=a_job("first"))
        push(store, "a", run="p2", then=a_job("second"), otherwise=a_job("third"))
        found = job(store)
        assert (found.then and found.then.id, found.otherwise and found.otherwise.id) == ("first", "third")

    def test_what_the_producer_expects_and_its_ttl_are_kept(self, store: Store) -> None:
        push(store, "a", expected=10, ttl=5.0)
        push(store, "b", begins=False, ttl=None)
        assert (job(store).expected, job(store).ttl) == (10, 5.0)

    def test_two_that_begin_at_one_moment_make_one_job(self, store: Store) -> None:
        many = [f"{n}" for n in range(50)]
        together(*(lambda run=run: push(store, *many, run=run) for run in ("p1", "p2", "p3")))
        assert numbers(store) == (50, 50, 0)
        assert len(store.parts.find()) == 1


class LeaveConformance(Conformance):
    """Producers come to their end."""

    def test_an_error_is_kept_until_the_next_run_pushes(self, store: Store) -> None:
        push(store, "a")
        store.parts.leave("t", "p1", BAD_BODY)
        assert job(store).push_error == BAD_BODY
        push(store, "a", run="p2")
        assert job(store).push_error is None

    def test_all_handed_over_is_noted_of_a_closed_job_and_what_comes_then_does_not_count(self, store: Store) -> None:
        push(store, "a")
        store.parts.leave("t", "p1")
        assert not job(store).complete
        push(store, close=1, begins=False)
        for _ in range(2):
            store.parts.leave("t", "p1")
        store.parts.leave("t", "p1", BAD_BODY)
        assert (job(store).complete, job(store).push_error) == (True, None)

    def test_a_run_that_was_replaced_says_nothing(self, store: Store) -> None:
        push(store, "a", close=1)
        push(store, "a", run="p2")
        store.parts.leave("t", "p1", BAD_BODY)
        store.parts.leave("t", "p1")
        assert (job(store).complete, job(store).push_error) == (False, None)

    def test_nothing_is_noted_where_there_is_no_job(self, store: Store) -> None:
        store.parts.leave("t", "p1", BAD_BODY)
        assert store.parts.read("t") is None


class EndConformance(Conformance):
    """Parts end, and the job with the last of them."""

    def test_the_last_part_of_a_closed_job_finishes_it_whatever_the_order(self, store: Store) -> None:
        pushed(store, "a", "b", "c")
        assert [bool(end(store, part)) for part in ("b", "a", "c")] == [False, False, True]
        assert (state(store), numbers(store), job(store).last) == (DistributedState.FINISHED, (3, 0, 0), "c")

    def test_the_last_part_of_an_open_job_does_not(self, store: Store) -> None:
        push(store, "a")
        assert end(store, "a") == Done(True, True, False, False, False)
        assert state(store) is DistributedState.OPEN

    def test_a_result_and_the_moment_are_kept(self, store: Store, clock: FrozenClock) -> None:
        push(store, "a")
        end(store, "a", result='{"n": "é"}')
        part = store.parts.part("t", "a")
        assert part is not None
        assert (part.state, part.result, part.error, part.ended_at) == (DONE, '{"n": "é"}', None, clock.now())

    def test_a_part_that_is_done_stays_as_it_is(self, store: Store) -> None:
        pushed(store, "a", "b")
        end(store, "a", result="1")
        before = whole(store)
        assert end(store, "a", result="2") == Done(True, False, False, False, False)
        assert fail(store, "a") == Done(True, False, False, False, False)
        assert whole(store) == before

    def test_the_same_call_sent_again_gets_the_same_answer(self, store: Store) -> None:
        pushed(store, "a")
        first = end(store, "a", call="one")
        once = whole(store)
        assert end(store, "a", call="one") == first == Done(True, True, True, True, False)
        assert whole(store) == once

    def test_another_call_learns_that_its_part_was_the_last_and_is_not_the_one(self, store: Store) -> None:
        pushed(store, "a", "b")
        end(store, "a")
        end(store, "b")
        assert end(store, "b") == Done(True, False, True, True, False)
        assert end(store, "a") == Done(True, False, False, True, False)
        assert not end(store, "b")

    def test_an_unknown_part_changes_nothing(self, store: Store) -> None:
        pushed(store, "a")
        before = whole(store)
        assert end(store, "zz") == Done(False, False, False, False, False)
        assert whole(store) == before

    def test_an_unknown_token_is_told(self, store: Store) -> None:
        for call in (
            lambda: end(store, "a"),
            lambda: store.parts.stop("t", "why"),
            lambda: store.parts.resume("t"),
        ):
            with pytest.raises(TokenNotFound, match="no distributed job 't'"):
                call()
        assert store.parts.find() == []

    def test_many_parts_end_in_one_call_and_each_has_its_answer(self, store: Store) -> None:
        pushed(store, *(f"{n}" for n in range(500)))
        ends = [PartEnd(f"{n}", "one", str(n)) for n in [*range(500), 7, 1000]]
        answers = store.parts.end("t", ends)
        assert [n for n, answer in enumerate(answers) if answer] == [499]
        assert (answers[500].counted, answers[501].known) == (True, False)
        assert numbers(store) == (500, 0, 0)
        assert [part.result for part in store.parts.parts("t")] == [str(n) for n in range(500)]

    def test_a_failed_part_has_ended_and_lets_the_job_fail(self, store: Store) -> None:
        pushed(store, "a", "b")
        assert fail(store, "a") == Done(True, True, False, False, False)
        end(store, "b")
        assert (state(store), numbers(store)) == (DistributedState.FAILED, (2, 0, 1))
        part = store.parts.part("t", "a")
        assert part is not None
        assert (part.state, part.error, part.failures) == (FAILED, BAD_BODY, 1)

    def test_a_failed_part_may_be_done_after_all_and_that_finishes_the_job(self, store: Store) -> None:
        pushed(store, "a", "b", then=a_job("then"), otherwise=a_job("otherwise"))
        end(store, "b")
        fail(store, "a")
        assert [found.id for found in store.get(["then", "otherwise"])] == ["otherwise"]
        assert end(store, "a")
        assert (state(store), numbers(store)) == (DistributedState.FINISHED, (2, 0, 0))
        assert [found.id for found in store.get(["then", "otherwise"])] == ["then", "otherwise"]

    def test_a_part_that_fails_again_keeps_its_first_error(self, store: Store) -> None:
        push(store, "a")
        fail(store, "a")
        assert not end(store, "a", error=ErrorInfo("E", "second")).counted
        part = store.parts.part("t", "a")
        assert part is not None
        assert (part.error, part.failures) == (BAD_BODY, 1)

    def test_follow_ups_are_stored_once_as_they_were_given(self, store: Store, clock: FrozenClock) -> None:
        how = {"delay": 5.0, "options": '{"timeout":3}', "identity": "7", "tags": ("nightly",)}
        then = a_job("then", task="report", args='[1,"x"]', queue="reports", priority=-3, **how)
        pushed(store, "a", then=then)
        assert store.get(["then"]) == []
        end(store, "a")
        end(store, "a")
        (stored,) = store.get(["then"])
        assert (stored.task, stored.args, stored.queue, stored.priority) == ("report", '[1,"x"]', "reports", -3)
        assert (stored.run_at, stored.options) == (clock.now() + 5.0, '{"timeout":3}')
        for which in (Filter(tags=("nightly",)), Filter(identity="7")):
            assert store.find(which) == [stored]
        assert sum(store.counts().values()) == 1

    def test_one_call_of_many_finishes_a_job(self, store: Store) -> None:
        parts = [f"{n}" for n in range(40)]
        pushed(store, *parts, then=a_job("then"))

        def work(mine: list[str]) -> int:
            return sum(bool(end(store, part)) for part in mine)

        told = together(*(lambda n=n: work(parts[n:] + parts[:n]) for n in (0, 10, 20, 30)))
        assert sum(told) == 1
        assert (state(store), sum(store.counts().values())) == (DistributedState.FINISHED, 1)


class StopConformance(Conformance):
    """Jobs are stopped, and go on."""

    def test_a_stopped_job_keeps_why_who_and_when(self, store: Store, clock: FrozenClock) -> None:
        push(store, "a")
        assert store.parts.stop("t", "disk full", by="ann")
        found = job(store)
        assert (found.state, found.reason, found.stopped_by, found.stopped_at) == (
            DistributedState.STOPPED, "disk full", "ann", clock.now(),
        )  # fmt: skip

    def test_stopped_again_it_stays_as_it_is(self, store: Store) -> None:
        push(store, "a")
        store.parts.stop("t", "first")
        before = whole(store)
        assert not store.parts.stop("t", "second", by="bob")
        assert whole(store) == before

    def test_one_that_has_ended_is_not_stopped(self, store: Store) -> None:
        pushed(store, "a")
        end(store, "a")
        assert not store.parts.stop("t", "late")
        assert state(store) is DistributedState.FINISHED

    def test_parts_of_a_stopped_job_end_and_the_job_does_not(self, store: Store) -> None:
        pushed(store, "a", then=a_job("then"), otherwise=a_job("otherwise"))
        store.parts.stop("t", "why")
        assert end(store, "a") == Done(True, True, False, False, True)
        assert (state(store), numbers(store)) == (DistributedState.STOPPED, (1, 0, 0))
        assert [found.id for found in store.get(["then", "otherwise"])] == ["otherwise"]

    def test_what_follows_a_stop_is_stored_once(self, store: Store) -> None:
        pushed(store, "a", otherwise=a_job("otherwise"))
        for _ in range(2):
            assert store.parts.stop("t", "why")
            assert store.parts.resume("t")
        fail(store, "a")
        assert sum(store.counts().values()) == 1

    def test_resumed_it_goes_on_with_its_open_parts(self, store: Store) -> None:
        pushed(store, "a", "b")
        end(store, "a")
        store.parts.stop("t", "why")
        assert store.parts.resume("t")
        assert not store.parts.resume("t")
        assert (state(store), names(store, state=OPEN), job(store).reason) == (DistributedState.CLOSED, ["b"], None)
        assert end(store, "b")

    def test_resumed_with_all_parts_done_it_is_finished(self, store: Store) -> None:
        pushed(store, "a", then=a_job("then"))
        store.parts.stop("t", "why")
        end(store, "a")
        store.parts.resume("t")
        assert state(store) is DistributedState.FINISHED
        assert len(store.get(["then"])) == 1

    def test_resumed_parts_that_failed_are_open_again(self, store: Store) -> None:
        pushed(store, "a", "b")
        end(store, "a", result="1")
        fail(store, "b")
        assert state(store) is DistributedState.FAILED
        assert store.parts.resume("t")
        assert (state(store), numbers(store)) == (DistributedState.CLOSED, (2, 1, 0))
        part = store.parts.part("t", "b")
        assert part is not None
        assert (part.state, part.error, part.failures) == (OPEN, None, 1)
        assert end(store, "b")

    def test_the_one_that_resumes_a_job_without_open_parts_learns_that_it_is_finished(self, store: Store) -> None:
        pushed(store, "a", then=a_job("then"))
        store.parts.stop("t", "why")
        end(store, "a", call="one")
        assert store.parts.resume("t", call="r") == Resumed(True, finished=True)
        once = whole(store)
        assert store.parts.resume("t", call="r") == Resumed(True, finished=True)
        assert store.parts.resume("t", call="another") == Resumed(False)
        for call in ("one", "two"):  # no `done` says so beside it
            assert not end(store, "a", call=call).last
        assert whole(store) == once
        assert len(store.get(["then"])) == 1

    def test_a_stop_and_a_resume_sent_again_answer_what_they_answered_and_change_nothing(self, store: Store) -> None:
        pushed(store, "a", "b")
        fail(store, "a")
        for call in (lambda: store.parts.stop("t", "why", call="s"), lambda: store.parts.resume("t", call="r")):
            assert call()
            once = whole(store)
            assert call()
            assert whole(store) == once
        assert numbers(store) == (2, 2, 0)

    def test_sent_again_late_they_do_not_undo_what_somebody_has_said_meanwhile(self, store: Store) -> None:
        pushed(store, "a")
        assert store.parts.stop("t", "first", call="s1")
        assert store.parts.resume("t", call="r1")
        assert store.parts.stop("t", "first", call="s1")
        assert state(store) is DistributedState.CLOSED
        assert store.parts.stop("t", "second", call="s2")
        assert store.parts.resume("t", call="r1")
        assert (state(store), job(store).reason) == (DistributedState.STOPPED, "second")
        assert not store.parts.stop("t", "third", call="s3")

    def test_who_was_refused_is_refused_again(self, store: Store) -> None:
        pushed(store, "a")
        for _ in range(2):
            assert not store.parts.resume("t", call="r")
        end(store, "a")
        for _ in range(2):
            assert not store.parts.stop("t", "late", call="s")

    def test_what_is_kept_of_calls_does_not_grow(self, store: Store) -> None:
        push(store, "a")
        for n in range(20):
            store.parts.stop("t", "why", call=f"s{n}")
            store.parts.resume("t", call=f"r{n}")
        assert len(job(store).calls) < 10

    def test_what_runs_or_is_finished_is_not_resumed(self, store: Store) -> None:
        pushed(store, "a")
        assert not store.parts.resume("t")
        end(store, "a")
        assert not store.parts.resume("t")
        assert state(store) is DistributedState.FINISHED


class LargeConformance(Conformance):
    """A large call goes in bites, which nobody sees behind it."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parting, "BITE", 4)

    def test_parts_that_end_in_several_bites_are_answered_as_one(self, store: Store) -> None:
        pushed(store, *(f"{n}" for n in range(18)), then=a_job("then"))
        ends = [PartEnd(f"{n}", "one", str(n)) for n in [*range(18), 3, 100]]
        answers = store.parts.end("t", ends)
        last = Done(True, True, True, True, False)
        assert answers == [
            *[Done(True, True, False, True, False)] * 17,
            last,
            answers[0],
            Done(False, False, False, True, False),
        ]
        assert (state(store), numbers(store), sum(store.counts().values())) == (
            DistributedState.FINISHED,
            (18, 0, 0),
            1,
        )
        once = whole(store)
        assert store.parts.end("t", ends) == answers
        assert whole(store) == once

    def test_what_was_done_before_a_call_broke_off_is_its_own_when_it_is_sent_again(self, store: Store) -> None:
        pushed(store, *(f"{n}" for n in range(10)), then=a_job("then"))
        ends = [PartEnd(f"{n}", "one") for n in range(10)]
        store.parts.end("t", ends[:8])
        assert (state(store), numbers(store)) == (DistributedState.CLOSED, (10, 2, 0))
        answers = store.parts.end("t", ends)
        assert [answer.counted for answer in answers] == [True] * 10
        assert [n for n, answer in enumerate(answers) if answer] == [9]
        assert sum(store.counts().values()) == 1

    def test_calls_that_end_the_same_parts_at_one_moment_share_them(self, store: Store) -> None:
        parts = [f"{n}" for n in range(30)]
        pushed(store, *parts, then=a_job("then"))

        def call(name: str) -> int:
            answers = store.parts.end("t", [PartEnd(part, name) for part in parts])
            assert all(answer.known and answer.finished for answer in answers)
            return sum(bool(answer) for answer in answers)

        assert sum(together(*(lambda name=name: call(name) for name in "xyz"))) == 1
        assert (numbers(store), sum(store.counts().values())) == ((30, 0, 0), 1)

    @pytest.mark.parametrize("is_stopped", [False, True])
    def test_many_parts_that_failed_are_open_again(self, store: Store, is_stopped: bool) -> None:
        pushed(store, *(f"{n}" for n in range(18)), otherwise=a_job("otherwise"))
        if is_stopped:
            store.parts.stop("t", "why")
        store.parts.end("t", [PartEnd(f"{n}", "one", error=BAD_BODY) for n in range(17)])
        end(store, "17")
        assert store.parts.resume("t")
        assert (state(store), numbers(store), job(store).reason) == (DistributedState.CLOSED, (18, 17, 0), None)
        assert (job(store).base_ended, job(store).expires_at) == (1, None)
        assert not store.parts.resume("t")
        assert sum(store.counts().values()) == 1
        answers = store.parts.end("t", [PartEnd(f"{n}", "two") for n in range(17)])
        assert [n for n, answer in enumerate(answers) if answer] == [16]


class ForgetConformance(Conformance):
    """Jobs are forgotten when their time is over, and not before."""

    def test_a_job_is_kept_while_parts_are_open_and_forgotten_its_time_after_its_end(
        self, store: Store, clock: FrozenClock
    ) -> None:
        pushed(store, "a", ttl=1.0)
        clock.advance(1000)
        end(store, "a")
        clock.advance(0.9)
        assert state(store) is DistributedState.FINISHED
        clock.advance(0.2)
        assert store.parts.read("t") is None
        assert (store.parts.find(), store.parts.parts("t"), store.parts.part("t", "a")) == ([], [], None)
        with pytest.raises(TokenNotFound):
            end(store, "a")

    def test_a_stopped_job_stays_stopped(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, "a", ttl=1.0)
        end(store, "a")
        pushed(store, "a", token="u", ttl=1.0)
        store.parts.stop("u", "why")
        end(store, "a", token="u")
        clock.advance(1000)
        store.parts.prune()
        assert state(store, "u") is DistributedState.STOPPED

    def test_each_change_counts_its_time_anew_and_what_changes_nothing_does_not(
        self, store: Store, clock: FrozenClock
    ) -> None:
        pushed(store, "a", "b", ttl=10.0)
        end(store, "a")
        fail(store, "b")
        clock.advance(8)
        end(store, "a")
        assert job(store).expires_at == clock.now() + 2.0
        end(store, "b")
        assert job(store).expires_at == clock.now() + 10.0

    def test_who_ends_a_part_may_say_for_how_long_the_job_is_kept(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, "a", ttl=10.0)
        end(store, "a", ttl=3.0)
        assert (job(store).ttl, job(store).expires_at) == (3.0, clock.now() + 3.0)

    def test_who_stops_a_job_may_say_that_too(self, store: Store) -> None:
        push(store, "a", ttl=10.0)
        store.parts.stop("t", "why", ttl=3.0)
        assert job(store).ttl == 3.0

    def test_a_token_whose_time_is_over_begins_anew(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, "a", "b", ttl=1.0)
        store.parts.end("t", [PartEnd("a", "x"), PartEnd("b", "x")])
        clock.advance(2)
        assert push(store, "b", "c", run="p2") == [OPEN, OPEN]
        assert numbers(store) == (2, 2, 0)

    def test_forgotten_by_hand_a_job_is_gone_whatever_its_state(self, store: Store) -> None:
        push(store, "a")
        push(store, "a", token="u")
        assert store.parts.forget(["t", "v"]) == 1
        assert store.parts.forget(["t"]) == 0
        assert [found.token for found in store.parts.find()] == ["u"]
        assert push(store, "b", run="p2") == [OPEN]
        assert names(store) == ["b"]

    def test_forgotten_again_by_the_same_call_the_answer_is_the_same(self, store: Store) -> None:
        push(store, "a")
        push(store, "a", token="u")
        for _ in range(2):
            assert store.parts.forget(["t", "u", "v"], call="f") == 2
        assert store.parts.forget(["t", "u"], call="g") == 0
        assert store.parts.find() == []

    def test_a_call_that_forgot_a_job_leaves_the_next_one_of_its_token_alone(self, store: Store) -> None:
        push(store, "a")
        assert store.parts.forget(["t"], call="f") == 1
        push(store, "b", run="p2")
        assert store.parts.forget(["t"], call="f") == 1
        assert names(store) == ["b"]
        assert store.parts.forget(["t"], call="g") == 1

    def test_who_forgot_a_job_is_known_for_a_minute_and_no_longer(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, "a", "b")
        for _ in range(2):
            assert store.parts.forget(["t"], call="f") == 1
            clock.advance(30)
            store.parts.prune()
        clock.advance(1)
        store.parts.prune()
        assert store.parts.prune() == 0
        assert store.parts.forget(["t"], call="f") == 0

    def test_prune_deletes_what_is_past_its_time_and_nothing_else(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, *(f"{n}" for n in range(30)), token="u", ttl=1.0)
        store.parts.end("u", [PartEnd(f"{n}", "x") for n in range(30)])
        push(store, "a")
        assert store.parts.prune() == 0
        clock.advance(2)
        rows = 0
        while n := store.parts.prune(limit=10):
            rows += n
        assert rows == 31
        assert numbers(store) == (1, 1, 0)

    def test_the_pruning_of_jobs_takes_them_along(self, store: Store, clock: FrozenClock) -> None:
        pushed(store, ttl=1.0)
        clock.advance(2)
        assert store.prune(before=0.0) == 0
        assert store.parts.prune() == 0

    def test_each_push_clears_more_than_it_adds(self, store: Store, clock: FrozenClock) -> None:
        for n in range(3):
            pushed(store, *(f"{n}" for n in range(20)), token=f"{n}", ttl=1.0)
            store.parts.forget([f"{n}"])
        pushed(store, "a")
        assert store.parts.prune() == 0


class PartsReadConformance(Conformance):
    """Jobs and parts are listed."""

    def test_parts_are_read_page_by_page(self, store: Store) -> None:
        push(store, "a", "b", "c", "d")
        end(store, "b")
        fail(store, "c")
        assert names(store, limit=2) == ["a", "b"]
        assert names(store, after=1, limit=2) == ["c", "d"]
        assert [names(store, state=wanted) for wanted in (OPEN, DONE, FAILED)] == [["a", "d"], ["b"], ["c"]]
        assert names(store, state=OPEN, after=0) == ["d"]

    def test_parts_of_another_job_are_not_mixed_in(self, store: Store) -> None:
        push(store, "a")
        push(store, "a", "b", token="u")
        end(store, "a", token="u", result="1")
        part = store.parts.part("t", "a")
        assert part is not None
        assert (part.state, names(store), store.parts.part("t", "b")) == (OPEN, ["a"], None)

    def test_names_are_any_text(self, store: Store) -> None:
        odd = ("ä", "a b", "'; --", "0", "-1", "{}", "x" * 500, "\n", "A", "ａ")
        push(store, *odd)
        assert tuple(names(store)) == odd
        assert [end(store, name).counted for name in odd] == [True] * len(odd)

    def test_jobs_are_listed_page_by_page_and_by_state(self, store: Store) -> None:
        for n in range(4):
            push(store, "a", token=f"{n}")
        store.parts.stop("1", "why")
        found = store.parts.find
        assert [one.token for one in found()] == ["3", "2", "1", "0"]
        assert [one.token for one in found(limit=2)] == ["3", "2"]
        assert [one.token for one in found(after="2", limit=2)] == ["1", "0"]
        assert [one.token for one in found(newest=False, after="0", limit=2)] == ["1", "2"]
        assert [one.token for one in found(DistributedState.STOPPED)] == ["1"]
        assert [one.token for one in found(DistributedState.OPEN, newest=False)] == ["0", "2", "3"]
        assert found(after="gone") == []
        assert store.parts.read("3") == found(limit=1)[0]

    def test_a_record_holds_its_follow_up_as_it_was_given(self, store: Store) -> None:
        then = NewJob(id="then", task="t", args='["é"]', queue="q", priority=2, delay=1.5)
        push(store, "a", then=then)
        assert job(store).then == then

    def test_the_time_is_the_stores(self, store: Store, clock: FrozenClock) -> None:
        push(store, "a")
        assert store.parts.now() == job(store).created_at == clock.now()


class PartsConformance(
    PushConformance,
    LeaveConformance,
    EndConformance,
    StopConformance,
    LargeConformance,
    ForgetConformance,
    PartsReadConformance,
):
    """The whole contract of distributed jobs."""
