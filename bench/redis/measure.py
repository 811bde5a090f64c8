"""Piecework through its front door, on Redis, measured one capability at a time. Each store has a prefix of its own."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench import walks, worker
from bench.jobs import Jobs, build
from bench.measure import expect_counts, later_many
from bench.reading import QUEUE, NotExact, Reading
from bench.redis.limit import Weighed, connect, server_cpu
from piecework.job import Filter, Record

PAGE = 1000
_prefixes = itertools.count(1)


class Store:
    """Piecework's keys under a prefix, and the app on them."""

    def __init__(self, port: int, folder: Path) -> None:
        name = f"bench{next(_prefixes)}"
        self.url = f"redis://127.0.0.1:{port}?prefix={name}"
        self.log = folder / f"{name}.log"
        self.server: redis.Redis = connect(port)
        self.jobs: Jobs = build(self.url)
        self.jobs.app.store.migrate()

    def close(self) -> None:
        self.jobs.app.close()
        self.server.close()

    def weigh(self) -> int:
        """Bytes that the server uses for data."""
        return int(self.server.info("memory")["used_memory_dataset"])  # type: ignore[index,unused-ignore]


@contextmanager
def new_store(port: int) -> Iterator[Store]:
    """An empty store on an empty server."""
    with tempfile.TemporaryDirectory(prefix="piecework-bench-") as folder:
        store = Store(port, Path(folder))
        try:
            yield store
        finally:
            store.server.flushall()
            store.close()


# ── adding ───────────────────────────────────────────────────────────────────────────────────────


def bytes_a_job(store: Store, n: int) -> Reading:
    """Bytes of the server's memory for a waiting job whose arguments are a hundred bytes of JSON."""
    before = store.weigh()
    later_many(store, n)
    return Reading((store.weigh() - before) / n)


def logged(con: redis.Redis) -> int:
    """Bytes that the server has written to its log so far."""
    told: Any = con.info("persistence")
    return int(told["aof_current_size"])


# ── draining ─────────────────────────────────────────────────────────────────────────────────────


def drain(store: Store, n: int, *, processes: int, idle_cpu: float = 0.0) -> Weighed:
    """From the first job's start to the last one's end, as the store has them.

    `idle_cpu` is what starting and stopping such a worker costs by itself.
    """
    before = server_cpu(store.server)
    cpu = worker.drain(store.url, store.log, processes=processes) - idle_cpu
    after = server_cpu(store.server)
    expect_counts(store, {(QUEUE, "completed"): n})
    began, ended = _span(store, "noop", n)
    return Weighed(Reading(n / (ended - began), 1e6 * cpu / n), 1e6 * (after - before) / n)


def split(store: Store, n: int, *, idle_cpu: float = 0.0) -> Weighed:
    """From the splitter's first line to the end of the compose, which reads every result."""
    before = server_cpu(store.server)
    job = store.jobs.fan.later(n)
    cpu = worker.drain(store.url, store.log) - idle_cpu
    after = server_cpu(store.server)
    expect_counts(store, {(QUEUE, "completed"): n + 1})
    _span(store, "noop", n)
    fanned = job.result(timeout=5)
    if fanned.results != n:
        raise NotExact(f"the compose read {fanned.results} results of {n} pieces")
    ended = job.record().finished_at
    assert ended is not None
    return Weighed(Reading(n / (ended - fanned.began), 1e6 * cpu / n), 1e6 * (after - before) / n)


def steps(store: Store, operations: int, *, idle_cpu: float = 0.0) -> Weighed:
    reading = walks.steps(store, operations, idle_cpu=idle_cpu, server_cpu=lambda: server_cpu(store.server))
    return Weighed(reading, reading.server or 0.0)


# ── exactness ────────────────────────────────────────────────────────────────────────────────────


def _span(store: Store, task: str, n: int) -> tuple[float, float]:
    """The first start and the last end among a task's jobs, each of which must have completed in its one run."""
    began, ended, once, stored = float("inf"), 0.0, 0, 0
    for job in _all(store, Filter(task=task)):
        stored += 1
        once += job.state == "completed" and job.run == 1
        began, ended = min(began, job.started_at or 0.0), max(ended, job.finished_at or 0.0)
    if once != n or stored != n:
        raise NotExact(f"{once} of {stored} stored {task} jobs completed in one run; there should be {n}")
    return began, ended


def _all(store: Store, which: Filter) -> Iterator[Record]:
    after = None
    while page := store.jobs.app.store.find(which, after=after, limit=PAGE):
        yield from page
        after = page[-1].id
