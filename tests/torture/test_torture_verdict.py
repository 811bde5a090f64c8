"""The verdict on records written by hand: what a kill cuts off, who may go on, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from torturekit import words

from piecework.job import State
from piecework.torture.books import Fact
from piecework.torture.faults import Faults
from piecework.torture.ledger import NOBODY, Entry, Kind, packed
from piecework.torture.report import BROKEN, SOUND, UNTESTED, Report, judge_speed, make, spread
from piecework.torture.verdict import Verdict, Word, quantile

ID = "01900000-0000-7000-8000-000000000001"
JOB = packed(ID)
A, B = 100, 200  # process ids


def at(seconds: float, kind: Kind, run: int = 1, pid: int = A, job: bytes = JOB) -> Entry:
    return Entry(kind, run, pid, job, seconds)


def fault(seconds: float, kind: Kind, pid: int = A) -> Entry:
    return at(seconds, kind, 0, pid, NOBODY)


def plain(run: int = 1, state: State = State.COMPLETED, **more: Any) -> Fact:
    return Fact(ID, "some.task", state, run, history=tuple(range(1, run)), **more)


def judged(fact: Fact | None, entries: Sequence[Entry], faults: Sequence[Entry] = (), **more: Any) -> Verdict:
    known = Faults(**more)
    for entry in faults:
        known.add(entry)
    verdict = Verdict(known)
    verdict.job(JOB, fact, entries)
    verdict.finish()
    return verdict


ONE_RUN = [at(0, Kind.ACKNOWLEDGED), at(1, Kind.START), at(2, Kind.END), at(3, Kind.RECORDED)]


def test_an_ordinary_run_is_in_order() -> None:
    verdict = judged(plain(), ONE_RUN)
    assert words(verdict) == set()
    assert (verdict.starts, verdict.started_jobs, verdict.in_flight) == (1, 1, 0)


def test_a_repeated_start_is_no_violation() -> None:
    entries = [at(1, Kind.START), at(2, Kind.START, 2, B), at(3, Kind.END, 2, B), at(4, Kind.RECORDED, 2, B)]
    assert words(judged(plain(2), entries, [fault(1.5, Kind.KILLED_CHILD)])) == set()


def test_an_acknowledged_job_that_the_store_does_not_have_is_lost() -> None:
    verdict = judged(None, [at(0, Kind.ACKNOWLEDGED)])
    assert words(verdict) == {Word.LOST}
    assert ID in verdict.told[Word.LOST][0]


@pytest.mark.parametrize("state", [State.AVAILABLE, State.RUNNING, State.WAITING])
def test_a_job_that_has_not_ended_is_stuck(state: State) -> None:
    assert words(judged(Fact(ID, "some.task", state, 1), ONE_RUN[:2])) == {Word.STUCK}


def test_one_run_that_begins_twice() -> None:
    assert words(judged(plain(), [at(0.5, Kind.START, pid=B), *ONE_RUN])) == {Word.AGAIN}


def test_a_run_that_the_store_does_not_know() -> None:
    assert words(judged(plain(), [*ONE_RUN[:2], at(1.5, Kind.START, 2), *ONE_RUN[2:]])) == {Word.AGAIN}


def test_an_older_run_that_begins_after_the_completion() -> None:
    """A worker that was made to stand still may; anybody else may not."""
    entries = [
        at(1, Kind.START, 2, B), at(2, Kind.END, 2, B), at(3, Kind.RECORDED, 2, B), at(4, Kind.START, 1, A)
    ]  # fmt: skip
    awake = judged(plain(2), entries)
    assert words(awake) == {Word.AGAIN}
    woken = judged(plain(2), entries, [fault(0.5, Kind.STOPPED, A)])
    assert words(woken) == set()
    assert woken.zombie_starts == 1
    stopped_later = judged(plain(2), entries, [fault(5, Kind.STOPPED, A)])
    assert words(stopped_later) == {Word.AGAIN}


def test_two_recorded_completions() -> None:
    entries = [*ONE_RUN, at(0.5, Kind.START, 2, B), at(0.6, Kind.END, 2, B), at(0.7, Kind.RECORDED, 2, B)]
    fact = Fact(ID, "some.task", State.COMPLETED, 2)
    verdict = judged(fact, sorted(entries, key=lambda e: e.at))
    assert Word.TWICE in words(verdict)


def test_a_run_that_was_handed_back_before_it_began_may_have_no_line() -> None:
    fact = Fact(ID, "some.task", State.COMPLETED, 3)
    ran = [at(1, Kind.START, 3), at(2, Kind.END, 3), at(3, Kind.RECORDED, 3)]
    assert words(judged(fact, ran)) == set()
    assert words(judged(fact, [at(0.5, Kind.START, 2), *ran])) == {Word.TWICE}


def test_an_accepted_forgery() -> None:
    assert words(judged(plain(), [*ONE_RUN, at(4, Kind.FORGED_OK)])) == {Word.ACCEPTED}
    assert words(judged(plain(), [*ONE_RUN, at(4, Kind.FORGED_STALE), at(5, Kind.FORGED_ALREADY)])) == set()


def split(run: int, history: tuple[int, ...] = ()) -> Fact:
    return Fact(ID, "some.split", State.COMPLETED, run, is_split=True, history=history)


SPLIT = [at(1, Kind.SPLIT_START), at(2, Kind.SPLIT_END)]


def composed(run: int, after: float = 3) -> list[Entry]:
    return [at(after, Kind.COMPOSE_START, run), at(after + 0.1, Kind.COMPOSE_END, run)]


def test_a_split_composes_once_however_often_it_began() -> None:
    assert words(judged(split(2), [*SPLIT, *composed(2)])) == set()
    cut_off = [*SPLIT, at(2.5, Kind.COMPOSE_START, 2), *composed(3)]
    assert words(judged(split(3, history=(2,)), cut_off)) == set()


def test_a_split_that_composed_twice_or_never() -> None:
    assert words(judged(split(3), [*SPLIT, *composed(2), *composed(3, after=4)])) == {Word.COMPOSE}
    assert words(judged(split(2), SPLIT)) == {Word.COMPOSE}
    assert words(judged(split(1), SPLIT)) == {Word.COMPOSE}


def test_a_compose_that_began_before_its_last_piece_had_ended() -> None:
    other = "01900000-0000-7000-8000-000000000002"
    piece = Fact(other, "some.leaf", State.COMPLETED, 1, batch=ID)
    for end, expected in ((2.9, set()), (3.05, {Word.COMPOSE})):
        verdict = Verdict(Faults())
        leaf = packed(other)
        verdict.job(leaf, piece, [at(1, Kind.START, job=leaf), at(end, Kind.END, job=leaf)])
        verdict.job(JOB, split(2), [*SPLIT, *composed(2)])
        verdict.finish()
        assert words(verdict) == expected


# ── how long a killed job waits ──────────────────────────────────────────────────────────────────

TWO_RUNS = [at(1, Kind.START), at(2.5, Kind.START, 2, B), at(3, Kind.END, 2, B), at(4, Kind.RECORDED, 2, B)]


def test_a_job_in_its_body_at_a_kill_is_counted_with_its_wait() -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD)])
    assert verdict.in_flight == 1
    assert list(verdict.after_child) == [0.5]
    assert list(verdict.after_tree) == []


def test_a_body_that_had_ended_was_not_in_flight() -> None:
    verdict = judged(plain(), ONE_RUN, [fault(2.5, Kind.KILLED_CHILD)])
    assert verdict.in_flight == 0


def test_a_kill_of_an_earlier_process_with_the_same_id_is_not_meant() -> None:
    assert judged(plain(2), TWO_RUNS, [fault(0.5, Kind.KILLED_CHILD)]).in_flight == 0


@pytest.mark.parametrize("kind", [Kind.KILLED_CHILD, Kind.KILLED_BELOW])
def test_a_process_of_single_jobs_is_timed_like_a_worker(kind: Kind) -> None:
    assert list(judged(plain(2), TWO_RUNS, [fault(2, kind)]).after_child) == [0.5]


def test_what_the_machine_slept_is_taken_off() -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD)], stalls=[(1.0, 2.1), (2.3, 2.4), (9.0, 10.0)])
    assert list(verdict.after_child) == [pytest.approx(0.3)]


def test_a_tree_is_timed_by_its_own_limit() -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_TREE)])
    assert (list(verdict.after_child), list(verdict.after_tree)) == ([], [0.5])


def test_every_process_of_a_killed_tree_is_one_fault() -> None:
    tree = [fault(2, Kind.KILLED_TREE), fault(2.001, Kind.KILLED_TREE, B)]
    assert list(judged(plain(2), TWO_RUNS, tree).after_tree) == [0.5]


@pytest.mark.parametrize("first", [Kind.KILLED_CHILD, Kind.KILLED_TREE])
@pytest.mark.parametrize("second", [Kind.KILLED_TREE, Kind.STOPPED, Kind.RELEASED_LOCK])
def test_a_wait_in_which_another_tree_was_met_is_filed_apart(first: Kind, second: Kind) -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, first), fault(2.2, second, B)])
    assert (list(verdict.after_child), list(verdict.after_tree), list(verdict.after_several)) == ([], [], [0.5])


def test_what_happens_to_a_tree_afterwards_changes_nothing() -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD), fault(2.6, Kind.STOPPED, B)])
    assert list(verdict.after_child) == [0.5]


def test_a_job_that_was_hit_again_before_it_began_is_filed_apart() -> None:
    entries = [at(1, Kind.START), at(2.5, Kind.START, 3, B), at(3, Kind.END, 3, B)]
    verdict = judged(plain(3), entries, [fault(2, Kind.KILLED_CHILD)])
    assert (list(verdict.after_child), list(verdict.after_several)) == ([], [0.5])


def test_a_parked_job_waits_for_somebody_and_is_not_timed() -> None:
    entries = [TWO_RUNS[0], at(2.2, Kind.DECIDED, 0), *TWO_RUNS[1:]]
    verdict = judged(plain(2), entries, [fault(2, Kind.KILLED_CHILD)])
    assert (verdict.in_flight, list(verdict.after_child)) == (1, [])


@pytest.mark.parametrize(
    ("child", "tree", "expected"),
    [([0.5], [6.9], set()), ([1.0], [], {Word.SLOW}), ([], [7.1], {Word.SLOW}), ([0.2] * 200 + [3.0], [], set())],
)
def test_the_limits_of_taking_over(child: list[float], tree: list[float], expected: set[Word]) -> None:
    verdict = Verdict(Faults())
    verdict.after_child.extend(child)
    verdict.after_tree.extend(tree)
    judge_speed(verdict, lease=2.0)
    assert words(verdict) == expected


def test_quantiles() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(range(1, 101), 0.99) == 100
    assert spread([]).n == 0


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────

EVERY_FAULT = dict.fromkeys((Kind.KILLED_CHILD, Kind.CONTINUED, Kind.LOST_REQUEST, Kind.LOST_REPLY, Kind.REFUSED, Kind.REPLAYED), 1)  # fmt: skip


def report(verdict: Verdict, kinds: dict[Kind, int], trees: int = 1) -> Report:
    return make(
        verdict, kinds, trees=trees, url="model:", queue="q", seed=0, lease=2, seconds=1, stalls=0, load=1, folder=None
    )  # fmt: skip


def test_a_run_that_met_every_fault_and_broke_nothing_is_sound() -> None:
    found = report(judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD)]), EVERY_FAULT)
    assert found.untested == []
    assert found.code == SOUND
    assert "every job ended as it should" in found.sentence


@pytest.mark.parametrize("missing", EVERY_FAULT, ids=lambda kind: kind.name)
def test_a_run_that_missed_a_fault_tested_nothing(missing: Kind) -> None:
    verdict = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD)])
    found = report(verdict, {kind: n for kind, n in EVERY_FAULT.items() if kind is not missing})
    assert len(found.untested) == 1
    assert found.code == UNTESTED
    assert "tested nothing" in found.sentence


def test_a_run_without_a_job_at_a_kill_or_a_killed_tree_tested_nothing() -> None:
    assert report(judged(plain(), ONE_RUN), EVERY_FAULT).untested == ["jobs in their bodies at a kill"]
    cut = judged(plain(2), TWO_RUNS, [fault(2, Kind.KILLED_CHILD)])
    assert report(cut, EVERY_FAULT, trees=0).untested == ["whole trees killed"]


def test_a_broken_promise_counts_more_than_an_untested_one() -> None:
    found = report(judged(None, [at(0, Kind.ACKNOWLEDGED)]), {})
    assert found.code == BROKEN
    assert found.sentence == "The store broke its promises: lost (1)."
