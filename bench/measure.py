"""Piecework through its front door, measured one capability at a time. Each store is a new one."""

from __future__ import annotations

import gc
import random
import sqlite3
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench import worker
from bench.jobs import Jobs, build
from bench.reading import NAME, QUEUE, USER, NotExact, Reading, Watch

IDLE_SECONDS = 10.0


class Measured(Protocol):
    """A store with piecework's tables or keys, the app on it, and the file that its workers write to."""

    url: str
    log: Path
    jobs: Jobs


class Store(ABC):
    """A new store with piecework's tables, and the app on it."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log  # of its workers
        self.jobs: Jobs = build(url)
        self.jobs.app.store.migrate()

    @abstractmethod
    def ask(self, text: str) -> Any:
        """The first row of a statement about piecework's tables, asked beside piecework."""

    def served(self) -> float | None:
        """CPU seconds so far of whoever serves this process on a database's server; None where there is none."""
        return None

    def close(self) -> None:
        self.jobs.app.close()


class FileStore(Store):
    """One SQLite file."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.path = path
        super().__init__(f"sqlite:///{path}?synchronous={synchronous.lower()}", path.with_suffix(".log"))

    def ask(self, text: str) -> Any:
        with closing(sqlite3.connect(self.path)) as con:
            return con.execute(text).fetchone()


@contextmanager
def new_store(folder: Path, name: str, synchronous: str) -> Iterator[FileStore]:
    store = FileStore(folder / f"{name}.db", synchronous)
    try:
        yield store
    finally:
        store.close()


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


def later_one_by_one(store: Measured, n: int) -> None:
    """`later`, `n` times: each is a transaction of its own."""
    noop = store.jobs.noop
    for _ in range(n):
        noop.later(USER, NAME)


def later_many(store: Measured, n: int) -> Reading:
    """`later_many` of `n` calls; they stay in the store for `drain`."""
    calls = [(USER, NAME)] * n
    gc.collect()
    with Watch() as watch:
        store.jobs.noop.later_many(calls)
    expect_waiting(store, n)
    return watch.reading(n)


# ── draining ─────────────────────────────────────────────────────────────────────────────────────


def drain(store: Store, n: int, *, processes: int, idle_cpu: float) -> Reading:
    """From the first job's start to the last one's end, as the store has them; nobody looks while they run.

    Both are the beginnings of transactions, so that the last of some hundreds is not in the time.
    `idle_cpu` is what starting and stopping such a worker costs by itself.
    """
    cpu = worker.drain(store.url, store.log, processes=processes) - idle_cpu
    expect_counts(store, {(QUEUE, "completed"): n})
    began, ended = _span(store, "noop", n)
    return Reading(n / (ended - began), max(0.0, 1e6 * cpu / n))


def split(store: Store, n: int, *, idle_cpu: float) -> Reading:
    """From the splitter's first line to the end of the compose, which reads every result."""
    job = store.jobs.fan.later(n)
    cpu = worker.drain(store.url, store.log) - idle_cpu
    expect_counts(store, {(QUEUE, "completed"): n + 1})
    _span(store, "noop", n)
    fanned = job.result(timeout=5)
    if fanned.results != n:
        raise NotExact(f"the compose read {fanned.results} results of {n} pieces")
    ended = job.record().finished_at
    assert ended is not None
    return Reading(n / (ended - fanned.began), max(0.0, 1e6 * cpu / n))


def starting(store: Measured, *, processes: int) -> float:
    """CPU seconds of a worker that finds nothing to do and ends: the least of three, the first of which may compile."""
    return min(worker.drain(store.url, store.log, processes=processes) for _ in range(3))


# ── waiting ──────────────────────────────────────────────────────────────────────────────────────


def latency(store: Measured, samples: int) -> dict[str, Reading]:
    """Milliseconds from the call of `later` here to the first line of the job in an idle worker process."""
    moment = store.jobs.moment
    with worker.resident(store.url, store.log):
        moment.later().result(timeout=30)
        time.sleep(0.5)
        sent = []
        for _ in range(samples):
            called = time.time()
            sent.append((called, moment.later()))
            time.sleep(random.uniform(0.02, 0.06))  # never in step with anybody's polling
        waits = [1000 * (job.result(timeout=30) - called) for called, job in sent]
    expect_counts(store, {(QUEUE, "completed"): samples + 1})
    return {
        "latency": Reading(statistics.median(waits)),
        "latency_p95": Reading(statistics.quantiles(waits, n=20)[-1]),
    }


def idle(store: Store, seconds: float = IDLE_SECONDS) -> dict[str, Reading]:
    """Percent of one core that a worker takes while there is nothing to do; empty where it cannot be told."""
    with worker.resident(store.url, store.log) as pid:
        store.jobs.moment.later().result(timeout=30)
        time.sleep(2)
        before, began = worker.cpu_of_tree(pid), time.perf_counter()
        time.sleep(seconds)
        after, took = worker.cpu_of_tree(pid), time.perf_counter() - began
    if before is None or after is None:
        return {}
    share = {name: 100 * (after[name] - before[name]) / took for name in after}
    return {
        "idle": Reading(sum(share.values())),
        "idle_supervisor": Reading(share["supervisor"]),
        "idle_child": Reading(share["child"]),
    }


# ── exactness ────────────────────────────────────────────────────────────────────────────────────


def expect_waiting(store: Measured, n: int) -> None:
    """Raises `NotExact` unless the store holds `n` jobs that may run."""
    expect_counts(store, {(QUEUE, "available"): n})


def expect_counts(store: Measured, expected: dict[tuple[str, str], int]) -> None:
    """Raises `NotExact` unless the store counts exactly these jobs, by queue and state."""
    found = {key: n for key, n in store.jobs.app.jobs.counts().items() if n}
    if found != expected:
        raise NotExact(f"the store's counters say {found}, and not {expected}")


def _span(store: Store, task: str, n: int) -> tuple[float, float]:
    """The first start and the last end among a task's jobs, each of which must have completed in its one run."""
    once, stored, began, ended = store.ask(
        "SELECT count(*) FILTER (WHERE state = 'completed' AND run = 1), count(*), min(started_at), max(finished_at) "
        f"FROM piecework_job WHERE task = '{task}'"
    )
    if once != n or stored != n:
        raise NotExact(f"{once} of {stored} stored {task} jobs completed in one run; there should be {n}")
    return began, ended
