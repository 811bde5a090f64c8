"""The shortcuts of the PostgreSQL shelf: one job in one statement, very many by COPY, the remembered front of a line, and
who was woken for nothing. Each must come to the same as the long way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.servers import Postgres

from piecework.errors import UsageError
from piecework.job import Claim, Filter, NewJob
from piecework.store.postgres import bulk, front
from piecework.store.postgres.ear import FRUITFUL, FRUITLESS, Ear
from piecework.store.postgres.front import START, Front, Place
from piecework.store.postgres.store import PostgresStore
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    SESSIONS,
    a_claim,
    a_job,
    a_session,
    add,
    assert_sound,
    completed,
    everything,
    fetch,
    settle,
)

_names = itertools.count(1)
ODD = '{"text":"a\\\\b\\tc\\n \\\\N \\\\. é 100% \\"quoted\\""}'  # everything that COPY reads in its own way
MANY = bulk.MANY


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(postgres: Postgres, clock: FrozenClock) -> Iterator[PostgresStore]:
    store = PostgresStore(f"{postgres.url}?schema=short_{next(_names)}", clock=clock)
    store.migrate()
    for session in SESSIONS:
        store.enlist(a_session(session))
    yield store
    assert_sound(store)
    store.close()


def many(n: int = MANY, **fields: object) -> list[NewJob]:
    return [a_job(**fields) for _ in range(n)]


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


def test_very_many_are_stored_as_one_by_one(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"args": ODD, "task": "a\tb\\c\r\n", "queue": "\\N", "options": '{"retries":"\\\\"}', "priority": -3}
    copied = many(**fields) + many(1, **fields, delay=5.5) + many(1, **fields, run_at=store.now() - 7.25)
    assert bulk.suits(copied)
    store.add(copied)
    monkeypatch.setattr(bulk, "MANY", 1_000_000)
    inserted = many(**fields) + many(1, **fields, delay=5.5) + many(1, **fields, run_at=store.now() - 7.25)
    assert not bulk.suits(inserted)
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
        assert not bulk.suits([*many(), a_job(**fields)])
    assert not bulk.suits(many(MANY - 1))


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
