"""A store with a long past and a long future against an empty one: the same verbs in turns, on both.

Turns are short and alternate, so that both sides see the same weather; a number is the median over the turns.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench import measure, worker
from bench.reading import NAME, QUEUE, USER, NotExact, Reading
from piecework.clock import SystemClock
from piecework.engine.keeper import Keeper
from piecework.ids import short_token
from piecework.job import Claim, Fetched, SessionRecord
from piecework.options import TaskOptions
from piecework.outcome import Complete, Settlement
from piecework.settle import settle
from piecework.store import open_store

SINGLES, MANY, CLAIM = 50, 2000, 100  # jobs in one turn
OPTIONS = TaskOptions()
KEEP = 7 * 86400.0


class Side:
    """One of the two stores, with a session of its own and what its turns took."""

    def __init__(self, store: measure.Store) -> None:
        self._weighed = store
        self.jobs = store.jobs
        self.store = store.jobs.app.store
        self.took: dict[str, list[float]] = {}  # verb → seconds for each job
        self.cpu: dict[str, list[float]] = {}  # … and of CPU
        self.served: dict[str, list[float]] = {}  # … and of the CPU of a database's server, where there is one
        now = time.time()
        session = SessionRecord(
            id=short_token(), beat=0, started_at=now, seen_at=now, name="bench", host="bench", pid=1
        )
        self.store.enlist(session)
        self._worker = f"{session.id}.1"
        self._claims = itertools.count(1)

    def claim(self, limit: int) -> Claim:
        return Claim(self._worker, next(self._claims), limit, None)

    def turn(self) -> None:
        """Every verb once or several times; nothing that is due is left."""
        noop, calls = self.jobs.noop, [(USER, NAME)] * MANY
        for _ in range(SINGLES):
            with self._timed("later", 1):
                noop.later(USER, NAME)
        with self._timed("later_many", MANY):
            noop.later_many(calls)
        for _ in range(5):
            settlements = ends(self._fetch())
            with self._timed("settle", CLAIM):
                self.store.settle(settlements)
        self._exchange()
        while jobs := self.store.fetch(self._claim(1000)):
            self.store.settle(ends(jobs))

    def _fetch(self) -> list[Fetched]:
        claim = self._claim(CLAIM)
        with self._timed("fetch", CLAIM):
            jobs = self.store.fetch(claim)
        return _whole(jobs)

    def _exchange(self) -> None:
        """As a worker does: what ended, for what is next, in one transaction."""
        jobs = self._fetch()
        for _ in range(10):
            settlements, claim = ends(jobs), self._claim(CLAIM)
            with self._timed("exchange", CLAIM):
                _, jobs = self.store.exchange(settlements, claim)
            _whole(jobs)
        self.store.settle(ends(jobs))

    def _claim(self, limit: int) -> Claim:
        return Claim(self._worker, next(self._claims), limit, None)

    @contextmanager
    def _timed(self, verb: str, n: int) -> Iterator[None]:
        served, began, worked = self._weighed.served(), time.perf_counter(), time.process_time()
        yield
        self.cpu.setdefault(verb, []).append((time.process_time() - worked) / n)
        self.took.setdefault(verb, []).append((time.perf_counter() - began) / n)
        if served is not None:
            self.served.setdefault(verb, []).append(((self._weighed.served() or served) - served) / n)


def _whole(jobs: list[Fetched]) -> list[Fetched]:
    if len(jobs) != CLAIM:
        raise NotExact(f"a claim of {CLAIM} got {len(jobs)} jobs")
    return jobs


def ends(jobs: Sequence[Fetched]) -> list[Settlement]:
    return [settle(job, Complete(), OPTIONS, 0.5) for job in jobs]


def compare(empty: measure.Store, full: measure.Store, turns: int) -> dict[str, Reading]:
    """The verbs on both, and on the full one while a keeper prunes what is past its keep."""
    found: dict[str, Reading] = {}
    bare, laden = Side(empty), Side(full)
    _in_turns(turns, bare, laden)
    _note(found, "empty", bare)
    _note(found, "full", laden)
    for side in (bare, laden):
        side.took, side.cpu, side.served = {}, {}, {}
    with _pruner(full) as pruned:
        _in_turns(turns, bare, laden)
        if not pruned():
            raise NotExact("nothing was pruned while it was measured")
    _note(found, "unpruned", bare)
    _note(found, "pruned", laden)
    return found


def _in_turns(turns: int, *sides: Side) -> None:
    for number in range(turns):
        for side in sides if number % 2 else reversed(sides):
            side.turn()


def _note(found: dict[str, Reading], kind: str, side: Side) -> None:
    for verb, took in side.took.items():
        found[f"{verb}_{kind}"] = Reading(
            1 / statistics.median(took),
            1e6 * statistics.median(side.cpu[verb]),
            1e6 * statistics.median(side.served[verb]) if side.served else None,
        )
    found[f"claim_p99_{kind}"] = Reading(1000 * CLAIM * statistics.quantiles(side.took["exchange"], n=100)[98])


@contextmanager
def _pruner(store: measure.Store) -> Iterator[Callable[[], bool]]:
    """A keeper in a process of its own; yields a function that says whether it has deleted something by now."""
    before = _completed(store)
    process = multiprocessing.get_context("spawn").Process(target=keep, args=(store.url,), daemon=True)
    process.start()
    while _completed(store) == before and process.is_alive():
        time.sleep(0.01)
    began = _completed(store)
    try:
        yield lambda: process.is_alive() and _completed(store) < began
    finally:
        process.kill()
        process.join()


def _completed(store: measure.Store) -> int:
    """Of the past: jobs that ended before anything was measured are in queues of their own."""
    counts = store.jobs.app.jobs.counts()
    return sum(n for (queue, state), n in counts.items() if queue != QUEUE and state == "completed")


def keep(url: str) -> None:
    """A supervisor's housekeeping and nothing else, begun at once instead of within a minute."""
    clock = SystemClock()
    keeper = Keeper(open_store(url), clock, name="bench", keep_completed=KEEP, draw=lambda: 0.0)
    keeper.enlist()
    while keeper.turn():
        time.sleep(keeper.next_turn())


def drain(store: measure.Store, n: int) -> Reading:
    """A real worker on `n` jobs: the rate from the first start to the last end."""
    (last,) = store.ask("SELECT coalesce(max(seq), 0) FROM piecework_job")
    store.jobs.noop.later_many([(USER, NAME)] * n)
    worker.drain(store.url, store.log)
    once, began, ended = store.ask(
        "SELECT count(*) FILTER (WHERE state = 'completed' AND run = 1), min(started_at), max(finished_at) "
        f"FROM piecework_job WHERE seq > {last}"
    )
    if once != n:
        raise NotExact(f"{once} of {n} jobs completed in one run")
    return Reading(n / (ended - began))
