"""The shortcuts of the PostgreSQL shelf: one job in one statement, very many by COPY, the remembered front of a line, and
who was woken for nothing. Each must come to the same as the long way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from tests.servers import Postgres

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.job import Answer, Claim, Fence, Filter, NewJob, OnFailure, Record
from piecework.store.postgres import bulk, front
from piecework.store.postgres.ear import FRUITFUL, FRUITLESS, Ear
from piecework.store.postgres.front import START, Front, Place
from piecework.store.postgres.store import PostgresStore
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    LEAVES,
    a_claim,
    a_job,
    add,
    at_work,
    batch,
    completed,
    everything,
    failed,
    fetch,
    offer,
    pieces_of,
    record,
    settle,
    splitting,
    tally,
    waiting,
)

_names = itertools.count(1)
ODD = '{"text":"a\\\\b\\tc\\n \\\\N \\\\. é 100% \\"quoted\\""}'  # everything that COPY reads in its own way
MANY = bulk.MANY


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(postgres: Postgres, clock: FrozenClock) -> Iterator[PostgresStore]:
    with at_work(PostgresStore(f"{postgres.url}?schema=short_{next(_names)}", clock=clock)) as store:
        yield store


def many(n: int = MANY, **fields: object) -> list[NewJob]:
    return [a_job(**fields) for _ in range(n)]


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


def test_very_many_are_stored_as_one_by_one(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"args": ODD, "task": "a\tb\\c\r\n", "queue": "\\N", "options": '{"retries":"\\\\"}', "priority": -3}
    copied = many(**fields) + many(1, **fields, delay=5.5) + many(1, **fields, run_at=store.now() - 7.25)
    assert bulk.plain(copied)
    store.add(copied)
    monkeypatch.setattr(bulk, "MANY", 1_000_000)
    inserted = many(**fields) + many(1, **fields, delay=5.5) + many(1, **fields, run_at=store.now() - 7.25)
    assert not bulk.plain(inserted)
    store.add(inserted)

    found = everything(store)
    assert [job.id for job in found] == [job.id for job in copied + inserted]
    unlike = {"id", "seq"}
    told = [{name: getattr(job, name) for name in job.__struct_fields__ if name not in unlike} for job in found]
    assert told[: len(copied)] == told[len(copied) :]
    assert store.next_due() == 5.5


def test_jobs_that_come_after_very_many_are_due_as_they_say(store: PostgresStore, clock: FrozenClock) -> None:
    store.add(many(MANY - 1, delay=60.0) + many(1))
    assert len(fetch(store, MANY)) == 1
    clock.advance(60)
    assert len(fetch(store, MANY)) == MANY - 1


def test_very_many_that_are_sent_again_are_stored_once(store: PostgresStore) -> None:
    jobs = many()
    ids = [job.id for job in jobs]
    assert store.add(jobs) == ids
    assert store.add(jobs) == ids
    more = many()
    assert store.add(jobs[:10] + more) == ids[:10] + [job.id for job in more]
    assert [job.id for job in everything(store)] == ids + [job.id for job in more]


def test_of_very_many_with_a_bad_one_none_is_stored(store: PostgresStore) -> None:
    with pytest.raises(UsageError, match="NUL"):
        store.add(many() + many(1, queue="a\0b"))
    assert everything(store) == []
    assert store.counts() == {}


def test_what_others_count_or_look_for_does_not_go_by_copy() -> None:
    for fields in (
        {"key": "k"}, {"batch": "b", "ordinal": 1}, {"expires": 1.0}, {"expires_at": 1.0}, {"identity": "7"}, {"tags": ("x",)},
    ):  # fmt: skip
        assert not bulk.plain([*many(), a_job(**fields)])
    for fields in (
        {"key": "k"}, {"batch": "c"}, {"ordinal": None}, {"expires": 1.0}, {"expires_at": 1.0}, {"identity": "7"}, {"tags": ("x",)},
    ):  # fmt: skip
        assert not bulk.pieces([a_job(**{"batch": "b", "ordinal": 1, **fields}), *many(batch="b", ordinal=2)], None)
    assert not bulk.plain(many(MANY - 1))
    assert not bulk.pieces(many(MANY - 1, batch="b", ordinal=2), None)
    assert bulk.pieces(many(batch="b", ordinal=2), Fence("a", 1))
    assert not bulk.pieces(many(batch="b", ordinal=2), Fence("a", 2))  # its pieces may be there


def test_very_many_pieces_are_stored_as_one_by_one(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for some in (MANY, 1_000_000):
        monkeypatch.setattr(bulk, "MANY", some)
        run = splitting(store)
        keys = [f"{ODD}{n}" for n in range(MANY)]
        pieces = pieces_of(run, keys, args=ODD, priority=2) + pieces_of(run, 3, first=MANY, delay=5.5)
        other_root = [replace(piece, root="the root") for piece in pieces_of(run, 3, first=MANY + 3)]
        assert bool(bulk.pieces(pieces, run.fence)) is (some == MANY)
        assert offer(store, run, pieces + other_root) == [piece.id for piece in pieces + other_root]
        assert settle(store, waiting(run, len(pieces) + 3)) is Answer.OK
        assert batch(store, run.id).open == MANY + 6
        told.append([_likened(record(store, piece.id), run.id) for piece in pieces + other_root])
    assert told[0] == told[1]


def _likened(found: Record, batch: str) -> dict[str, object]:
    """What is told of a piece, without what is each one's own."""
    unlike = {"id", "seq"}
    told = {name: getattr(found, name) for name in found.__struct_fields__ if name not in unlike}
    return {name: "its batch" if value == batch else value for name, value in told.items()}


def test_very_many_pieces_that_are_sent_again_are_stored_once(store: PostgresStore) -> None:
    run = splitting(store)
    pieces = pieces_of(run, MANY)
    ids = [piece.id for piece in pieces]
    assert [offer(store, run, pieces), offer(store, run, pieces)] == [ids, ids]
    assert tally(store, run.id)[0] == MANY
    more = pieces_of(run, MANY, first=MANY)
    assert offer(store, run, pieces[:10] + more) == ids[:10] + [piece.id for piece in more]
    assert settle(store, waiting(run, 2 * MANY)) is Answer.OK
    assert store.add(pieces) == ids  # its batch is sealed, and they are known
    with pytest.raises(UsageError, match="sealed"):
        store.add(pieces_of(run, MANY, first=5 * MANY))


def test_of_very_many_pieces_with_a_key_twice_none_is_stored(store: PostgresStore) -> None:
    run = splitting(store)
    with pytest.raises(SplitChanged, match="offered twice"):
        offer(store, run, pieces_of(run, [*map(str, range(MANY)), "7"]))
    assert store.batch(run.id) is None
    assert [job.id for job in everything(store)] == [run.id]


def test_very_many_pieces_are_refused_as_few_are(store: PostgresStore) -> None:
    run = splitting(store)
    with pytest.raises(LeaseLost):
        offer(store, replace(run, run=run.run + 1), pieces_of(run, MANY))
    with pytest.raises(UsageError, match="there is no batch"):
        store.add(many(batch="nowhere", ordinal=1))
    offer(store, run, pieces_of(run, 1), OnFailure.FAIL_FAST)
    (leaf,) = fetch(store, queue=LEAVES)
    assert settle(store, failed(leaf)) is Answer.OK
    with pytest.raises(JobCancelled, match="takes no further pieces"):
        offer(store, run, pieces_of(run, MANY, first=1))


def test_the_shortcuts_know_every_field_of_a_job() -> None:
    """Whoever adds one has to say whether a job that has it is still a plain one."""
    written = {"id", "task", "args", "queue", "priority", "run_at", "delay", "options"}
    keeps_from_it = {"key", "batch", "state", "expires", "expires_at", "operation", "identity", "tags"}
    goes_with_a_batch = {"root", "ordinal", "piece"}
    assert written | keeps_from_it | goes_with_a_batch == set(NewJob.__struct_fields__)


def test_one_that_is_sent_again_is_stored_and_counted_once(store: PostgresStore) -> None:
    job = a_job(args=ODD, queue="q\\")
    assert [store.add([job]), store.add([job])] == [[job.id], [job.id]]
    assert store.counts() == {("q\\", "available"): 1}
    (run,) = fetch(store)
    assert (run.args, run.queue) == (ODD, "q\\")


# ── the front of a line ──────────────────────────────────────────────────────────────────────────


def test_a_claim_of_many_begins_where_the_one_before_ended(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(front, "time", type("Time", (), {"monotonic": staticmethod(lambda: now)}))
    ids = store.add(many(4 * front.MANY))
    assert [run.id for run in fetch(store, front.MANY)] == ids[: front.MANY]
    urgent = add(store, priority=-1)
    taken = [run.id for run in fetch(store, front.MANY)]
    assert taken == ids[front.MANY : 2 * front.MANY]
    now += front.LONGEST + 1
    assert next(run.id for run in fetch(store, front.MANY)) == urgent


def test_a_claim_of_few_always_takes_the_best(store: PostgresStore) -> None:
    store.add(many(2 * front.MANY))
    assert len(fetch(store, front.MANY)) == front.MANY
    urgent = add(store, priority=-1)
    assert next(run.id for run in fetch(store, front.MANY - 1)) == urgent


def test_where_nothing_is_behind_the_place_the_whole_line_is_looked_at(store: PostgresStore) -> None:
    store.add(many(front.MANY))
    runs = fetch(store, front.MANY)
    urgent = add(store, priority=-1)
    _answers, more = store.exchange([completed(run) for run in runs], a_claim("w.1", front.MANY))
    assert [run.id for run in more] == [urgent]
    other = add(store, queue="other", priority=-2)
    assert [run.id for run in fetch(store, front.MANY)] == [other]


def test_a_place_is_kept_for_a_moment_and_for_the_queues_that_were_asked_for() -> None:
    kept, place = Front(), Place("q", 0, 1.0, 7)
    claim = Claim("w.1", 1, front.MANY, ("q",))
    assert kept.place(claim) is None
    kept.taken(claim, place, 0.0, whole=True)
    assert kept.place(claim) == place
    assert kept.place(Claim("w.1", 1, front.MANY, None)) is None
    assert kept.place(Claim("w.1", 1, front.MANY - 1, ("q",))) is None
    kept.taken(claim, None, 0.0, whole=False)
    assert kept.place(claim) is None
    assert Place("", -(1 << 31), -1e300, 0) > START


# ── who sleeps ───────────────────────────────────────────────────────────────────────────────────


def woken(ear: Ear, clock: FrozenClock, *, after: float, found: bool) -> float:
    """Lies, is woken, and says for how long it will be awake; then it found something, or not."""
    ear._lying, ear._lain_at = True, clock.monotonic()
    clock.advance(after)
    ear._get_up()
    if found:
        ear.found()
    return ear._awake_for


def test_who_is_woken_for_nothing_again_and_again_lies_down_later(
    store: PostgresStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.store.postgres.ear.time", clock)
    ear = store._ear
    first = woken(ear, clock, after=0.001, found=False)
    grown = [woken(ear, clock, after=0.001, found=False) for _ in range(10)]
    assert first == FRUITFUL
    assert grown == sorted(grown)
    assert grown[-1] == FRUITLESS
    woken(ear, clock, after=0.001, found=True)
    assert woken(ear, clock, after=0.001, found=False) == FRUITFUL
    for _ in range(10):
        woken(ear, clock, after=0.001, found=False)
    assert woken(ear, clock, after=2 * FRUITLESS, found=False) == FRUITFUL


def test_a_fetch_that_finds_something_is_told_to_who_sleeps(store: PostgresStore) -> None:
    store._ear._fruitful = False
    assert fetch(store) == []
    assert not store._ear._fruitful
    add(store)
    settle(store, completed(fetch(store)[0]))
    assert store._ear._fruitful
    assert store.find(Filter(), limit=1)[0].state == "completed"
