"""What the store promises of what jobs are known by outside: identities, tags, times, and the status they set."""

from __future__ import annotations

from typing import Any

import pytest

from piecework.ids import new_id
from piecework.job import Answer, Fence, Fetched, Filter, Standing, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    LEAVES,
    Conformance,
    a_job,
    a_session,
    a_worker,
    add,
    cancelled,
    completed,
    failed,
    fetch,
    fetch_one,
    offer,
    parked,
    pieces_of,
    record,
    released,
    retried,
    running,
    settle,
    snapshot,
    split,
    splitting,
)

SEVEN = '{"success": false, "errors": ["Credit expire date not given"]}'


def ids(store: Store, *, newest: bool = False, **fields: Any) -> list[str]:
    """The jobs that match, and that `count` agrees."""
    which = Filter(**fields)
    found = [job.id for job in store.find(which, newest=newest)]
    assert store.count(which) == len(found)
    return found


class LabelConformance(Conformance):
    """Identities and tags: kept with jobs, which are found by them."""

    def test_they_are_kept(self, store: Store) -> None:
        """`identity` and `tags` are kept."""
        bare, known, empty, tagged = store.add(
            [
                a_job(),
                a_job(identity="7", tags=("import", "acme")),
                a_job(identity=""),
                a_job(tags=("import",)),
            ]
        )
        shown = [(job.identity, job.tags) for job in store.get([bare, known, empty, tagged])]
        assert shown == [(None, ()), ("7", ("import", "acme")), ("", ()), (None, ("import",))]
        found = {job.id: job for job in store.find(Filter())}
        assert [found[id] for id in (bare, known, empty, tagged)] == store.get([bare, known, empty, tagged])

    def test_they_stay_whatever_becomes_of_the_job(self, store: Store) -> None:
        """They are the same in every state."""
        id = add(store, identity="7", tags=("a", "b"))
        for end in (retried, released, failed):
            settle(store, end(fetch_one(store)))
            assert (record(store, id).identity, record(store, id).tags) == ("7", ("a", "b"))
            assert ids(store, identity="7") == ids(store, tags=("b", "a")) == [id]
        store.retry(Filter(identity="7"))
        settle(store, completed(fetch_one(store)))
        assert ids(store, identity="7", tags=("a",), state=State.COMPLETED) == [id]

    def test_jobs_are_found_by_their_identity(self, store: Store) -> None:
        """In the order of their arrival, or the reverse, and page by page."""
        mine = [add(store, identity="7", task="ab"[n % 2]) for n in range(6)]
        add(store, identity="8")
        add(store, identity="77")
        add(store)
        assert ids(store, identity="7") == mine
        assert ids(store, identity="7", newest=True) == mine[::-1]
        assert ids(store, identity="7", task="a") == mine[::2]
        assert ids(store, identity="7", task="a", newest=True) == mine[::2][::-1]
        assert ids(store, identity="9") == []
        assert [job.id for job in store.find(Filter(identity="7"), after=mine[1], limit=2)] == mine[2:4]
        assert [job.id for job in store.find(Filter(identity="7"), after=mine[4], limit=2, newest=True)] == mine[2:4][
            ::-1
        ]
        assert [job.id for job in store.find(Filter(identity="7", task="b"), after=mine[0], limit=2)] == mine[1::2][:2]

    def test_jobs_are_found_by_all_of_their_tags(self, store: Store) -> None:
        """It has all of these; no tags are no condition."""
        both, one, other, bare = store.add(
            [a_job(tags=("x", "y")), a_job(tags=("x",)), a_job(tags=("y", "z")), a_job()]
        )
        assert ids(store, tags=("x",)) == [both, one]
        assert ids(store, tags=("x",), newest=True) == [one, both]
        assert ids(store, tags=("y",)) == [both, other]
        assert ids(store, tags=("y", "x")) == [both]
        assert ids(store, tags=("x", "y", "z")) == []
        assert ids(store, tags=("xy",)) == ids(store, tags=("X",)) == []
        assert ids(store, tags=()) == [both, one, other, bare]
        assert [job.id for job in store.find(Filter(tags=("y",)), after=both)] == [other]
        assert [job.id for job in store.find(Filter(tags=("y",)), after=other, newest=True)] == [both]

    def test_every_label_must_match(self, store: Store) -> None:
        """Every field that is set must match, these among them."""
        wanted = add(store, identity="7", tags=("x",), queue="q", task="t")
        for other in ({"identity": "8"}, {"tags": ("y",)}, {"queue": "p"}, {"task": "u"}, {"identity": None}):
            add(store, **{"identity": "7", "tags": ("x",), "queue": "q", "task": "t", **other})
        which: dict[str, Any] = {"identity": "7", "tags": ("x",), "queue": "q", "task": "t"}
        assert ids(store, **which, state=State.AVAILABLE) == [wanted]
        assert ids(store, **which, ids=(wanted,)) == [wanted]
        assert ids(store, **which, state=State.FAILED) == ids(store, **which, ids=(new_id(),)) == []

    def test_labels_that_differ_within_one_call(self, store: Store) -> None:
        """Jobs of one call are not alike: each keeps its own."""
        jobs = [a_job(identity=str(n % 3) if n % 4 else None, tags=("even",) if n % 2 == 0 else ()) for n in range(12)]
        added = store.add(jobs)
        assert [(job.identity, job.tags) for job in store.get(added)] == [(job.identity, job.tags) for job in jobs]
        assert ids(store, tags=("even",)) == added[::2]
        assert ids(store, identity="1") == [id for id, job in zip(added, jobs, strict=True) if job.identity == "1"]

    def test_sent_twice(self, store: Store) -> None:
        """A job whose id is already stored is left as it is, with its labels; so is one that carries the unique key."""
        job = a_job(identity="7", tags=("x",), key="k")
        store.add([job])
        before = snapshot(store)
        assert store.add([job]) == [job.id]
        assert store.add([a_job(id=job.id, identity="8", tags=("y",))]) == [job.id]
        assert store.add([a_job(identity="8", tags=("y",), key="k")]) == [job.id]
        assert snapshot(store) == before
        assert ids(store, identity="8") == ids(store, tags=("y",)) == []
        assert (ids(store, identity="7"), ids(store, tags=("x",))) == ([job.id], [job.id])

    def test_pieces_have_labels_too(self, store: Store) -> None:
        """A piece is found by its own, and keeps them when its splitter offers it again."""
        run = splitting(store, identity="whole")
        pieces = pieces_of(run, ["a", "b"], identity="part", tags=("x",))
        first = offer(store, run, pieces)
        settle(store, released(run))
        run = fetch_one(store, queue="splits")
        assert offer(store, run, pieces_of(run, ["a", "b", "c"], identity="part", tags=("x",)))[:2] == first
        assert ids(store, identity="whole") == [run.id]
        assert ids(store, identity="part")[:2] == first
        assert len(ids(store, tags=("x",))) == len(ids(store, tags=("x",), batch=run.id)) == 3

    def test_operators_act_on_what_is_found(self, store: Store) -> None:
        """`cancel`, `retry` and `delete` take the same conditions."""
        mine, tagged, other = store.add([a_job(identity="7"), a_job(tags=("x", "y")), a_job(identity="8", tags=("y",))])
        assert store.cancel(Filter(identity="7"), reason="r") == store.cancel(Filter(tags=("y", "x")), reason="r") == 1
        assert [job.state for job in store.get([mine, tagged, other])] == [
            State.CANCELLED,
            State.CANCELLED,
            State.AVAILABLE,
        ]
        assert store.retry(Filter(tags=("x",))) == store.retry(Filter(identity="7", task="demo")) == 1
        assert store.cancel(Filter(tags=("y",)), reason="r") == 2
        assert (store.delete(Filter(tags=("x",))), store.delete(Filter(identity="7"))) == (1, 0)
        assert store.cancel(Filter(identity="7"), reason="r") == store.delete(Filter(identity="7")) == 1
        assert ids(store) == [other]

    def test_what_is_deleted_is_found_no_more(self, store: Store, clock: FrozenClock) -> None:
        """Pruned and deleted, a job leaves no label behind."""
        for word in ("pruned", "deleted"):
            run = running(store, identity=word, tags=(word, "both"))
            store.set_status(run.fence, "{}")
            settle(store, completed(run))
        clock.advance(10)
        stays = add(store, identity="stays", tags=("both",))
        assert store.delete(Filter(tags=("deleted",))) == 1
        assert store.prune(before=clock.now() - 5) == 1
        for word in ("pruned", "deleted"):
            assert ids(store, identity=word) == ids(store, tags=(word,)) == []
            assert store.standing(["demo"], word) is None
        assert ids(store, tags=("both",)) == [stays]

    def test_a_tree_that_is_deleted_takes_its_labels(self, store: Store) -> None:
        """The pieces below are found no more."""
        id, _ = split(store, 2, tags=("x",))
        store.cancel(Filter(ids=(id,)), reason="r")
        fetch(store, 5)  # what is below a cancelled split ends with it
        assert store.delete(Filter(tags=("x",))) == 3
        assert ids(store) == ids(store, tags=("x",)) == []

    @pytest.mark.parametrize("label", ["ö ✓", "a'b", 'a"b', "a\\b", "%_*", "{x}", '["a",1]', "0", "x" * 300, " "])
    def test_any_text(self, store: Store, label: str) -> None:
        """Labels are text, which no store reads."""
        id = add(store, identity=label, tags=(label, "t"))
        other = add(store, identity=label + "?", tags=(label + "?",))
        assert (record(store, id).identity, record(store, id).tags) == (label, (label, "t"))
        assert ids(store, identity=label) == ids(store, tags=(label,)) == [id]
        assert ids(store, identity=label + "?") == [other]


class TimeConformance(Conformance):
    """Jobs by when they came and when they ended."""

    def test_by_when_they_came(self, store: Store, clock: FrozenClock) -> None:
        """A moment `…_from` is the first one that matches, and `…_before` the first one that does not."""
        begin = clock.now()
        added: list[str] = []
        for _ in range(4):
            added.append(add(store, queue="ab"[len(added) % 2]))
            clock.advance(10)
        assert ids(store, created_from=begin) == ids(store, created_before=begin + 31) == added
        assert ids(store, created_from=begin + 10) == ids(store, created_from=begin + 0.5) == added[1:]
        assert ids(store, created_before=begin + 10) == added[:1]
        assert ids(store, created_from=begin + 10, created_before=begin + 30) == added[1:3]
        assert ids(store, created_from=begin + 10, newest=True) == added[:0:-1]
        assert ids(store, created_from=begin + 40) == ids(store, created_before=begin) == []
        assert ids(store, created_from=begin + 10, queue="b", state=State.AVAILABLE) == added[1::2]
        assert [job.id for job in store.find(Filter(created_from=begin + 10), after=added[1], limit=1)] == added[2:3]

    def test_by_when_they_ended(self, store: Store, clock: FrozenClock) -> None:
        """Only jobs that have ended, whatever they came to."""
        begin, ends = clock.now(), (completed, failed, cancelled)
        added = store.add([a_job() for _ in range(5)])
        for end in ends:
            settle(store, end(fetch_one(store)))
            clock.advance(10)
        settle(store, retried(fetch_one(store), 60))
        fetch_one(store)
        assert ids(store, finished_from=begin) == ids(store, finished_before=begin + 100) == added[:3]
        assert ids(store, finished_from=begin + 10) == added[1:3]
        assert ids(store, finished_before=begin + 10) == added[:1]
        assert ids(store, finished_from=begin + 10, finished_before=begin + 20) == added[1:2]
        assert ids(store, finished_from=begin, state=State.FAILED) == added[1:2]
        assert ids(store, finished_from=begin, newest=True) == added[2::-1]
        assert ids(store, finished_from=begin + 30) == []

    def test_one_that_is_retried_has_not_ended(self, store: Store, clock: FrozenClock) -> None:
        """Its end is forgotten, and comes again."""
        begin, run = clock.now(), running(store)
        settle(store, failed(run))
        assert ids(store, finished_from=begin) == [run.id]
        store.retry(Filter(ids=(run.id,)))
        assert ids(store, finished_from=begin) == []
        clock.advance(10)
        settle(store, completed(fetch_one(store)))
        assert ids(store, finished_from=begin + 10) == [run.id]

    def test_with_other_labels(self, store: Store, clock: FrozenClock) -> None:
        """Every field that is set must match."""
        old = add(store, identity="7", tags=("x",))
        clock.advance(10)
        new = add(store, identity="7", tags=("x",))
        assert (
            ids(store, identity="7", created_from=clock.now())
            == ids(store, tags=("x",), created_from=clock.now())
            == [new]
        )
        assert (
            ids(store, identity="7", created_before=clock.now())
            == ids(store, tags=("x",), created_before=clock.now())
            == [old]
        )


class StatusConformance(Conformance):
    """What a run says of its job."""

    def test_it_is_seen_at_once(self, store: Store, clock: FrozenClock) -> None:
        """It is seen by the next read, with the moment at which it was said."""
        run = running(store)
        assert (record(store, run.id).status, record(store, run.id).status_at) == (None, None)
        clock.advance(3)
        assert store.set_status(run.fence, SEVEN) is True
        assert (record(store, run.id).status, record(store, run.id).status_at) == (SEVEN, clock.now())
        assert record(store, run.id).state is State.RUNNING

    def test_it_replaces_what_was_said_before(self, store: Store, clock: FrozenClock) -> None:
        """Wholly; sent again it leaves the same."""
        run = running(store)
        store.set_status(run.fence, SEVEN)
        clock.advance(3)
        assert store.set_status(run.fence, '{"n":2}') is True
        before = snapshot(store)
        assert store.set_status(run.fence, '{"n":2}') is True
        assert snapshot(store) == before
        assert record(store, run.id).status == '{"n":2}'

    @pytest.mark.parametrize("end", [completed, failed, cancelled, retried, released, parked])
    def test_it_stays_whatever_becomes_of_the_job(self, store: Store, end: Any) -> None:
        """Until it is replaced."""
        run = running(store)
        store.set_status(run.fence, SEVEN)
        settle(store, end(run))
        assert record(store, run.id).status == SEVEN
        store.retry(Filter(ids=(run.id,)))
        for again in fetch(store):
            assert record(store, run.id).status == SEVEN
            assert store.set_status(again.fence, "{}") is True
            assert record(store, run.id).status == "{}"

    def test_only_the_run_that_owns_the_job_is_heard(self, store: Store) -> None:
        """It says whether that run still owns it; else nothing is changed."""
        run = running(store)
        store.set_status(run.fence, SEVEN)
        store.reap("w.1")
        assert store.set_status(run.fence, "{}") is False
        second = fetch_one(store, worker="w.2")
        before = snapshot(store)
        assert store.set_status(run.fence, "{}") is False
        assert store.set_status(Fence(run.id, second.run + 1), "{}") is False
        assert store.set_status(Fence(new_id(), 1), "{}") is False
        assert snapshot(store) == before
        settle(store, completed(second))
        assert store.set_status(second.fence, "{}") is False
        assert record(store, run.id).status == SEVEN

    def test_large_and_strange_ones(self, store: Store) -> None:
        """Status is text, and the store does not read it."""
        run = running(store)
        for text in ('{"a":"' + "x" * 300_000 + '"}', '{"ö":"\\u0000"}', "null", "[1,2]"):
            assert store.set_status(run.fence, text) is True
            assert record(store, run.id).status == text


class StandingConformance(Conformance):
    """How it stands with an identity."""

    def standing(self, store: Store, identity: str = "7", tasks: tuple[str, ...] = ("demo",)) -> Standing:
        found = store.standing(tasks, identity)
        assert found is not None
        return found

    def test_of_nobody(self, store: Store) -> None:
        """None without a job of it."""
        add(store, identity="7", task="other")
        add(store, identity="8")
        add(store)
        assert store.standing(["demo"], "7") is None
        assert store.standing(["demo"], "") is None
        assert store.standing([], "7") is None

    def test_the_newest_job(self, store: Store, clock: FrozenClock) -> None:
        """`id` and `state` are those of the job that arrived last, whatever the others do."""
        first, second = add(store, identity="7"), add(store, identity="7", delay=60)
        assert (self.standing(store).id, self.standing(store).state) == (second, State.AVAILABLE)
        settle(store, failed(fetch_one(store)))
        assert (self.standing(store).id, self.standing(store).state) == (second, State.AVAILABLE)
        clock.advance(60)
        run = fetch_one(store)
        assert (self.standing(store).id, self.standing(store).state) == (second, State.RUNNING)
        settle(store, completed(run))
        store.retry(Filter(ids=(first,)))
        assert (self.standing(store).id, self.standing(store).state) == (second, State.COMPLETED)

    def test_it_is_busy_from_the_call_to_the_end(self, store: Store) -> None:
        """`busy` while any of its jobs is waiting, available or running."""
        add(store, identity="7")
        assert self.standing(store).busy
        run = fetch_one(store)
        assert self.standing(store).busy
        settle(store, retried(run, 0))
        assert self.standing(store).busy
        settle(store, completed(fetch_one(store)))
        assert not self.standing(store).busy
        add(store, identity="7", delay=60)
        assert self.standing(store).busy
        store.cancel(Filter(identity="7"), reason="r")
        assert not self.standing(store).busy
        store.retry(Filter(identity="7", state=State.CANCELLED))
        assert self.standing(store).busy

    def test_an_earlier_job_keeps_it_busy(self, store: Store) -> None:
        """Any of its jobs: not only the newest."""
        first = running(store, identity="7")
        second = running(store, identity="7")
        settle(store, completed(second))
        assert (self.standing(store).id, self.standing(store).busy) == (second.id, True)
        settle(store, failed(first))
        assert not self.standing(store).busy

    def test_what_is_parked_is_not_busy(self, store: Store) -> None:
        """Nothing will happen to it by itself."""
        settle(store, parked(running(store, identity="7")))
        assert (self.standing(store).busy, self.standing(store).state) == (False, State.PARKED)
        store.retry(Filter(identity="7"))
        assert self.standing(store).busy
        for _ in range(3):
            worker = a_worker()
            fetch_one(store, worker=worker)
            store.reap(worker, crashed=[self.standing(store).id])
        assert (self.standing(store).busy, self.standing(store).state) == (False, State.PARKED)

    def test_a_split_is_busy_while_it_waits(self, store: Store) -> None:
        """Waiting for its pieces, it has not ended."""
        id, _ = split(store, 2, identity="7")
        assert (self.standing(store, tasks=("split",)).busy, record(store, id).state) == (True, State.WAITING)

    def test_a_worker_that_dies_leaves_the_truth(self, store: Store) -> None:
        """What it ran is available again, or parked; nobody's word is needed."""
        store.enlist(a_session("d"))
        run = running(store, identity="7", worker="d.1")
        store.set_status(run.fence, SEVEN)
        assert store.bury("d") == 1
        assert (self.standing(store).busy, self.standing(store).state, self.standing(store).status) == (
            True,
            State.AVAILABLE,
            SEVEN,
        )

    def test_what_was_said_last(self, store: Store, clock: FrozenClock) -> None:
        """`status` is what was set last, by whichever of its jobs."""
        first = running(store, identity="7")
        assert (self.standing(store).status, self.standing(store).status_by) == (None, None)
        store.set_status(first.fence, '{"n":1}')
        assert (self.standing(store).status, self.standing(store).status_by) == ('{"n":1}', first.id)
        second = running(store, identity="7")
        assert (self.standing(store).status, self.standing(store).id) == ('{"n":1}', second.id)
        clock.advance(1)
        store.set_status(second.fence, '{"n":2}')
        assert (self.standing(store).status, self.standing(store).status_at) == ('{"n":2}', clock.now())
        clock.advance(1)
        store.set_status(first.fence, '{"n":3}')
        assert (self.standing(store).status, self.standing(store).status_by) == ('{"n":3}', first.id)
        assert self.standing(store).id == second.id

    def test_said_at_one_moment(self, store: Store) -> None:
        """Of several that were set at one moment, that of the job that arrived last."""
        first, second = running(store, identity="7"), running(store, identity="7")
        store.set_status(second.fence, '{"n":2}')
        store.set_status(first.fence, '{"n":1}')
        assert (self.standing(store).status, self.standing(store).status_by) == ('{"n":2}', second.id)

    def test_it_outlives_the_job_and_not_its_keep(self, store: Store, clock: FrozenClock) -> None:
        """An earlier one's until a later one sets one; gone with the job that set it."""
        run = running(store, identity="7")
        store.set_status(run.fence, SEVEN)
        settle(store, completed(run))
        clock.advance(100)
        assert (self.standing(store).status, self.standing(store).busy) == (SEVEN, False)
        new = add(store, identity="7")
        assert (self.standing(store).status, self.standing(store).busy) == (SEVEN, True)
        assert store.prune(before=clock.now() - 50) == 1
        assert self.standing(store) == Standing(id=new, state=State.AVAILABLE, busy=True)

    def test_by_the_names_that_a_task_has_had(self, store: Store, clock: FrozenClock) -> None:
        """Of these tasks, together."""
        old = running(store, identity="7", task="old")
        store.set_status(old.fence, SEVEN)
        settle(store, failed(old, BAD_BODY))
        new = add(store, identity="7", task="new")
        assert (self.standing(store, tasks=("new",)).status, self.standing(store, tasks=("old",)).busy) == (None, False)
        both = self.standing(store, tasks=("new", "old"))
        assert (both.id, both.busy, both.status, both.status_by) == (new, True, SEVEN, old.id)

    def test_pieces_carry_identities(self, store: Store) -> None:
        """A piece's status is asked for like any other's."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1, identity="7"))
        piece: Fetched = fetch_one(store, queue=LEAVES)
        assert store.set_status(piece.fence, SEVEN) is True
        assert settle(store, completed(piece)) is Answer.OK
        found = self.standing(store, tasks=("leaf",))
        assert (found.id, found.state, found.busy, found.status) == (piece.id, State.COMPLETED, False, SEVEN)
