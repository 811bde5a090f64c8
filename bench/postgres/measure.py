"""What is asked of PostgreSQL alone: connections, listeners, and what the server takes for a job."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.synchronize import Event
from typing import Any

from bench import measure, worker
from bench.postgres import limit
from bench.postgres.server import Server, ServerStore
from bench.reading import NAME, USER, NotExact, Reading, Watch
from piecework.store import open_store

GENERIC = "?options=-c%20plan_cache_mode%3Dforce_generic_plan"
SETTLING = 1.5  # seconds until a worker that has just started is quiet
TURN = 100  # jobs added one by one before it is the other side's turn
ADDING = 300  # jobs that add jobs, to see how many connections that takes
POLL = 1.0  # seconds between the looks of a listener, as an idle worker's


def filled(server: Server, store: ServerStore, n: int) -> Reading:
    """`later_many`; then the statistics are made, as autovacuum does it a minute later."""
    before = server.cpu()
    reading = measure.later_many(store, n).served(server.cpu() - before, n)
    store.analyze()
    return reading


def drain(server: Server, store: ServerStore, n: int, *, processes: int, idle_cpu: float) -> Reading:
    before = server.cpu()
    reading = measure.drain(store, n, processes=processes, idle_cpu=idle_cpu)
    return reading.served(server.cpu() - before, n)


def split(server: Server, store: ServerStore, n: int, *, idle_cpu: float) -> Reading:
    before = server.cpu()
    return measure.split(store, n, idle_cpu=idle_cpu).served(server.cpu() - before, n)


# ── adding one by one ────────────────────────────────────────────────────────────────────────────


def singly(server: Server, n: int) -> dict[str, Reading]:
    """A bare INSERT that commits against `later`, in turns."""
    bare, ours = Side(server), Side(server)
    with server.database() as url, limit.singles(url) as con, server.store() as store:
        measure.later_one_by_one(store, 10)
        for _ in range(n // TURN):
            with bare:
                limit.insert_one_by_one(con, TURN)
            with ours:
                measure.later_one_by_one(store, TURN)
        measure.expect_waiting(store, 10 + n // TURN * TURN)
    return {"insert": bare.reading(n), "later": ours.reading(n)}


class Side(Watch):
    """A watch that looks at the server, too."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._its, self._server = 0.0, server

    def __enter__(self) -> Side:
        self._its -= self._server.cpu()
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._its += self._server.cpu()

    def reading(self, n: int) -> Reading:
        return super().reading(n).served(self._its, n)


# ── listeners ────────────────────────────────────────────────────────────────────────────────────


def listening(server: Server, n: int, listeners: int) -> dict[str, Reading]:
    """`later` on two stores in turns: one to which nobody listens, and one with idle listeners."""
    alone, heard = Side(server), Side(server)
    with server.store() as quiet, server.store() as watched, _listeners(watched.url, listeners):
        time.sleep(SETTLING)
        for store in (quiet, watched):
            measure.later_one_by_one(store, 10)
        for _ in range(n // TURN):
            with alone:
                measure.later_one_by_one(quiet, TURN)
            with heard:
                measure.later_one_by_one(watched, TURN)
    return {"later_unheard": alone.reading(n), "later_heard": heard.reading(n)}


@contextmanager
def _listeners(url: str, n: int) -> Iterator[None]:
    """A process whose threads listen as idle workers do, each with a store of its own; nothing is fetched."""
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    process = context.Process(target=_listen, args=(url, n, over), daemon=True)
    process.start()
    try:
        yield
    finally:
        over.set()
        process.join(10)


def _listen(url: str, n: int, over: Event) -> None:
    with ExitStack() as stack:
        for _ in range(n):
            store = open_store(url)
            thread = threading.Thread(target=_listen_on, args=(store, over), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(store.close)
        over.wait()


def _listen_on(store: Any, over: Event) -> None:
    while not over.is_set():
        store.wait(POLL)


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def connections(store: ServerStore, concurrency: int) -> Reading:
    """The most that a supervisor and one worker process hold while jobs that add jobs run, `concurrency` at a time."""
    own = _connected(store)
    most = 0
    with worker.resident(store.url, store.log, "--concurrency", str(concurrency)):
        jobs = store.jobs.adding.later_many([(USER, NAME)] * ADDING)
        end = time.monotonic() + worker.PATIENCE
        while not jobs[-1].state.finished:
            most = max(most, _connected(store) - own)
            if time.monotonic() > end:
                raise NotExact("jobs that add jobs did not end")
    return Reading(float(most))


def _connected(store: ServerStore) -> int:
    (n,) = store.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'piecework'"
    )
    return int(n)
