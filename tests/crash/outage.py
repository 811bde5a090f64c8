"""A server that is away while thousands of jobs are in flight: nothing is lost, and nothing runs a second time.

    python -m tests.crash.outage --jobs 10000 --seconds 30

The workers' side is in this process: one worker whose coroutines are all begun, half of which end while the server cannot
be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.proxy import Proxy
from tests.servers import Postgres
from tests.support import books, until

from piecework import Piecework

AWAY, BACK = "the store is not available, trying again until it is", "the store is available again"


class Came(NamedTuple):
    """What an outage came to."""

    wrong: list[str]  # everything that breaks a promise, one sentence each
    tries: int  # connections that were tried while the server was away
    seconds: float  # from the server's return to the last settlement


class Said(logging.Handler):
    """What was said of the store's absence."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def times(self, words: str) -> int:
        return sum(words in line for line in self.lines)


@contextmanager
def listening() -> Iterator[Said]:
    said, log = Said(), logging.getLogger("piecework")
    before = log.level
    log.addHandler(said)
    log.setLevel(logging.INFO)
    try:
        yield said
    finally:
        log.removeHandler(said)
        log.setLevel(before)


def play(server: Postgres, schema: str, *, jobs: int, seconds: float, lease: float = 20.0) -> Came:
    """One outage of so many seconds, with so many jobs in flight."""
    direct = f"{server.url}?schema={schema}"
    with Proxy(server.port) as proxy, listening() as said:
        app = Piecework(direct.replace(f":{server.port}/", f":{proxy.port}/"), lease=lease)
        runs: Counter[int] = Counter()
        ends: dict[str, asyncio.Event] = {}

        @app.task(name="flies", retry=0)
        async def flies(n: int, when: str) -> int:
            runs[n] += 1
            await ends.setdefault(when, asyncio.Event()).wait()
            return n

        def let_go(when: str) -> None:
            event = ends[when]
            event._loop.call_soon_threadsafe(event.set)  # type: ignore[attr-defined]

        kept = flies.later_many([(n, "meanwhile" if n % 2 else "afterwards") for n in range(jobs)])
        with app.worker(concurrency=jobs):
            until(lambda: len(runs) == jobs, lambda: f"{len(runs)} of {jobs} are in flight", within=120)
            before = proxy.accepted
            proxy.slam()
            began = time.monotonic()
            let_go("meanwhile")
            until(lambda: time.monotonic() - began >= seconds, within=2 * seconds)
            tries = proxy.accepted - before
            proxy.serve()
            back = time.monotonic()
            let_go("afterwards")
            until(lambda: app.jobs.where(state="completed").count() == jobs, "all have completed", within=120)
            took = time.monotonic() - back
            until(lambda: said.times(BACK), "each loop of the worker has reached the store again")
        wrong = [f"job {n} ran {times} times" for n, times in runs.items() if times != 1]
        # Some may have been handed back before they were begun, and fetched again; what counts is what was begun.
        wrong += [f"{job.id}: {job.attempts()[-1].outcome}" for job in kept[::50] if job.record().attempt != 1]
        wrong += [f"“{words}” was said {said.times(words)} times" for words in (AWAY, BACK) if said.times(words) != 1]
        wrong += books(direct)
        app.close()
        return Came(wrong, tries, took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    server = Postgres()
    try:
        came = play(server.start(), "outage", jobs=asked.jobs, seconds=asked.seconds)
    finally:
        server.stop()
    print(
        f"{asked.jobs} jobs in flight, {asked.seconds:g} s without a server: {came.tries} tries to reach it, "
        f"all settled {came.seconds:.1f} s after its return"
    )
    print("\n".join(came.wrong) or "nothing was lost, and nothing ran twice")
    return 1 if came.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
