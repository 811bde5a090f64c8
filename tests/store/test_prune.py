"""How the SQLite shelf prunes: it looks without the writer's lock, remembers where it stands, and holds up nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import locked_file, opened

from piecework.config import DAY
from piecework.ids import new_id
from piecework.job import Filter, NewBatch
from piecework.store.sql import prune
from piecework.store.sqlite.store import SqliteStore
from piecework.store.sqlite.transaction import Transaction
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    a_job,
    at_work,
    completed,
    everything,
    failed,
    fetch,
    retried,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path, clock: FrozenClock) -> Iterator[SqliteStore]:
    with at_work(SqliteStore(f"sqlite:///{path}", clock=clock)) as store:
        yield store


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small pages; and how many jobs each look of a walk read."""
    monkeypatch.setattr(prune, "PAGE", 10)
    monkeypatch.setattr(prune, "FEW", 15)
    read: list[int] = []
    look = prune._look

    def counted(*args: object) -> tuple[int, int, int, list[object]]:
        found = look(*args)  # type: ignore[arg-type]
        read.append(found[0])
        return found

    monkeypatch.setattr(prune, "_look", counted)
    return read


@pytest.fixture
def glances(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many young jobs a walk read ahead, a page each."""
    read: list[int] = []
    row = Transaction.row

    def counted(tx: Transaction, title: str, **params: object) -> tuple[int, ...]:
        found: tuple[int, ...] = row(tx, title, **params)
        if title == "prune_ahead":
            read.append(found[0])
        return found

    monkeypatch.setattr(Transaction, "row", counted)
    return read


@pytest.fixture
def ahead(store: SqliteStore, clock: FrozenClock) -> Iterator[SqliteStore]:
    """The same store on a machine whose clock is 400 days ahead."""
    ahead = SqliteStore(store.url, clock=FrozenClock(clock.now() + 400 * DAY))
    yield ahead
    ahead.close()


def finish(store: SqliteStore, n: int) -> list[str]:
    """Jobs that completed just now."""
    store.add([a_job() for _ in range(n)])
    runs = fetch(store, n)
    store.settle([completed(run) for run in runs])
    return [run.id for run in runs]


def fail(store: SqliteStore, n: int) -> None:
    """Jobs that are kept until somebody decides."""
    store.add([a_job() for _ in range(n)])
    store.settle([failed(run) for run in fetch(store, n)])


def drained(store: SqliteStore, clock: FrozenClock, limit: int = 7) -> int:
    """Prunes as a keeper does, until a bite is not full."""
    total = 0
    while (n := store.prune(before=clock.now(), limit=limit)) == limit:
        total += n
    return total + n


def test_a_walk_over_many_pages_finds_everything(store: SqliteStore, clock: FrozenClock, pages: list[int]) -> None:
    for _ in range(5):
        finish(store, 13)
        fail(store, 9)
    clock.advance(100)
    assert drained(store, clock) == 65
    assert {job.state for job in everything(store)} == {"failed"}


def test_nobody_is_held_up_by_looking(store: SqliteStore, clock: FrozenClock, path: Path, pages: list[int]) -> None:
    """While somebody else writes, a walk over jobs that are all kept goes its way: it never asks for the lock."""
    fail(store, 35)
    store.add([a_job(run_at=clock.now() + 1e9) for _ in range(20)])
    clock.advance(100)
    with locked_file(path):
        assert store.prune(before=clock.now()) == 0
    assert sum(pages) == 55


def test_what_is_kept_is_not_walked_over_again_and_again(
    store: SqliteStore, clock: FrozenClock, pages: list[int]
) -> None:
    fail(store, 60)
    clock.advance(100)
    assert store.prune(before=clock.now()) == 0
    assert sum(pages) == 60
    pages.clear()
    finish(store, 3)
    clock.advance(0.01)
    assert store.prune(before=clock.now()) == 3  # what became old since is found behind what is kept …
    assert sum(pages) < 30
    pages.clear()
    assert store.prune(before=clock.now()) == 0  # … and where nothing did, a look at the last page is all
    assert sum(pages) <= 10


def test_what_was_kept_is_looked_at_again_after_a_rest(
    store: SqliteStore, clock: FrozenClock, pages: list[int]
) -> None:
    store.add([a_job() for _ in range(60)])
    runs = fetch(store, 60)
    clock.advance(100)
    assert store.prune(before=clock.now()) == 0
    store.settle([completed(run) for run in runs])
    clock.advance(60 * prune.REST + 0.01)
    assert drained(store, clock) == 60


def test_a_call_looks_at_a_bounded_number_of_jobs(
    store: SqliteStore, clock: FrozenClock, pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "PAGES", 3)
    fail(store, 50)
    finish(store, 4)
    clock.advance(100)
    assert store.prune(before=clock.now()) == 0
    assert sum(pages) == 30
    assert store.prune(before=clock.now()) == 4  # it went on from there


def test_a_job_that_seems_young_does_not_end_the_walk(
    store: SqliteStore, clock: FrozenClock, path: Path, pages: list[int]
) -> None:
    """It may have been stored while a machine's clock was ahead."""
    finish(store, 15)
    fail(store, 5)
    finish(store, 15)
    with opened(path) as con:
        con.execute("UPDATE piecework_job SET created_at = created_at + 1e9 WHERE state = 'failed'")
    clock.advance(100)
    assert drained(store, clock) == 30


def test_old_jobs_behind_many_that_seem_young_are_found(
    store: SqliteStore, ahead: SqliteStore, clock: FrozenClock
) -> None:
    """A clock was 400 days ahead for more jobs than a page holds; they stay, and what came after them goes in time."""
    finish(store, 20)
    fail(ahead, 12_000)
    finish(store, 1000)
    clock.advance(30 * DAY)
    finish(store, 50)
    bites = [store.prune(before=clock.now() - 7 * DAY, limit=500) for _ in range(5)]
    assert sum(bites) == 1020
    assert sum(store.counts().values()) == 12_050


def test_what_seems_young_is_passed_over_a_bounded_number_at_a_time_and_then_left_in_peace(
    store: SqliteStore,
    ahead: SqliteStore,
    clock: FrozenClock,
    pages: list[int],
    glances: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prune, "PAGES", 4)
    fail(ahead, 100)
    finish(store, 3)
    clock.advance(30 * DAY)
    finish(store, 25)
    before = clock.now() - 7 * DAY
    found = []
    for _ in range(5):
        pages.clear()
        glances.clear()
        found.append(store.prune(before=before))
        assert len(pages) + len(glances) <= 4
    assert sum(found) == 3
    for _ in range(3):
        pages.clear()
        glances.clear()
        assert store.prune(before=before) == 0
        assert (len(pages), glances) == (1, []), "a look at the next page is all, until the rest is over"
    clock.advance(125 * prune.REST + 1)
    assert store.prune(before=before) == 0
    assert sum(glances) > 0


def test_what_ends_late_behind_many_that_seem_young_is_found_by_a_later_walk(
    store: SqliteStore, ahead: SqliteStore, clock: FrozenClock, pages: list[int]
) -> None:
    store.add([a_job() for _ in range(4)])
    runs = fetch(store, 4)
    fail(ahead, 45)
    store.add([a_job() for _ in range(6)])
    runs += fetch(store, 6)
    clock.advance(30 * DAY)
    finish(store, 15)
    assert store.prune(before=clock.now() - 7 * DAY) == 0
    store.settle([completed(run) for run in runs])
    clock.advance(8 * DAY)
    assert drained(store, clock) == 25


def test_young_jobs_are_not_walked_over(store: SqliteStore, clock: FrozenClock, pages: list[int]) -> None:
    finish(store, 10)
    clock.advance(100)
    finish(store, 80)
    assert store.prune(before=clock.now() - 50) == 10
    assert sum(pages) <= 20


def test_a_job_that_was_retried_after_it_was_found_is_kept(store: SqliteStore, clock: FrozenClock) -> None:
    store.add([a_job(), a_job()])
    first, second = everything(store)
    store.cancel(Filter(), reason="no")
    clock.advance(100)
    store.prune(before=clock.now(), limit=1)
    assert store.retry(Filter(ids=(second.id,))) == 1
    assert store.prune(before=clock.now() + 100) == 0
    assert [(job.id, job.state) for job in everything(store)] == [(second.id, "available")]
    assert first.id != second.id


def test_two_that_prune_at_once_delete_each_job_once(store: SqliteStore, clock: FrozenClock, pages: list[int]) -> None:
    finish(store, 100)
    clock.advance(100)
    other = SqliteStore(store.url, clock=clock)
    total = 0
    for _ in range(60):
        total += store.prune(before=clock.now(), limit=5) + other.prune(before=clock.now(), limit=5)
    other.close()
    assert total == 100
    assert everything(store) == []


def test_one_that_meets_another_at_the_same_jobs_leaves_them_to_it(store: SqliteStore, clock: FrozenClock) -> None:
    """So that however many keepers there are, one prunes at a time."""
    finish(store, 100)
    clock.advance(100)
    other = SqliteStore(store.url, clock=clock)
    assert store.prune(before=clock.now(), limit=10) == 10
    assert other.prune(before=clock.now(), limit=10) == 10
    assert store.prune(before=clock.now(), limit=10) == 0  # less than it asked for: its keeper stops for a minute
    assert other.prune(before=clock.now(), limit=10) == 10
    other.close()


def test_room_that_was_pruned_is_used_again(store: SqliteStore, clock: FrozenClock, path: Path) -> None:
    def size() -> int:
        with opened(path) as con:
            return int(con.execute("PRAGMA page_count").fetchone()[0])

    finish(store, 2000)
    full = size()
    for _ in range(3):
        clock.advance(100)
        assert drained(store, clock, limit=500) == 2000
        finish(store, 2000)
    assert size() <= full * 1.2


def test_the_history_goes_along(store: SqliteStore, clock: FrozenClock, path: Path) -> None:
    store.add([a_job() for _ in range(20)])
    store.settle([retried(run) for run in fetch(store, 20)])
    store.settle([completed(run) for run in fetch(store, 20)])
    store.add([a_job()])
    store.cancel(Filter(state="available"), reason="no")  # type: ignore[arg-type]
    clock.advance(100)
    assert drained(store, clock) == 21
    with opened(path) as con:
        assert con.execute("SELECT count(*) FROM piecework_attempt").fetchone() == (0,)


def test_batches_without_a_continuation_are_looked_at_a_page_at_a_time(
    store: SqliteStore, clock: FrozenClock, path: Path, pages: list[int]
) -> None:
    """All end in one moment, and more than a page of them keep a failed piece."""
    ids = [new_id() for _ in range(40)]
    for id in ids:
        store.add([a_job(batch=id, ordinal=0)], batch=NewBatch(id=id))
        store.seal(id)
    runs = fetch(store, 40)
    store.settle([failed(run) if run.batch in ids[:12] else completed(run) for run in runs])
    clock.advance(100)
    for n in range(12):
        store.prune(before=clock.now() + n)
    assert [id for id in ids if store.batch(id) is not None] == ids[:12]
