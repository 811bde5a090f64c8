"""``python -m bench.shop``: six purchases a second of seven seconds each, on five worker processes, in real time.

6 × 7 are 42 in flight: with 42 places nobody waits for long, however long it goes on; with 40 the line grows, and says so.
`--scale 10` runs the same ten times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import shop_jobs, worker
from piecework import Piecework
from piecework.job import Filter, Record, State

ARRIVALS, LASTS, PROCESSES = 6.0, 7.0, 5
APP = "bench.shop_jobs:app"


@dataclass
class Seen:
    """What was looked at while it went on, and what every purchase came to."""

    line: list[int] = field(default_factory=list)  # how many waited, each time that somebody looked
    flight: list[int] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # of each purchase, in order of arrival: seconds from due to begun
    workers: set[str] = field(default_factory=set)
    ends: dict[str, int] = field(default_factory=dict)
    runs: int = 0

    def steady(self) -> bool:
        """Whether the last quarter of the purchases waited no longer than the second one, give or take half a second."""
        quarter = max(1, len(self.waits) // 4)
        second, last = self.waits[quarter : 2 * quarter], self.waits[-quarter:]
        return statistics.median(last) <= statistics.median(second or last) + 0.5


def main() -> int:
    """The bench as a command; 0 where every purchase came to its end, once."""
    options = _options()
    fine = True
    for name in options.stores:
        with _store(name) as url, tempfile.TemporaryDirectory() as folder:
            print(f"\n{name}: {options.seconds:g} s, {options.slots} places on {PROCESSES} processes", flush=True)
            seen = run(url, Path(folder), options.slots, options.seconds, options.scale)
            tell(seen)
            fine = fine and set(seen.ends) == {State.COMPLETED.value} and seen.runs == len(seen.waits)
    return 0 if fine else 1


def run(url: str, folder: Path, slots: int, seconds: float, scale: float = 1.0) -> Seen:
    """Lets the shop run, waits until all is done, and returns what was seen."""
    app, seen = Piecework(url), Seen()
    purchase = app.task(name=shop_jobs.purchase.name, queue="shop", attempts=1)(shop_jobs.purchase.__wrapped__)
    app.store.migrate()
    with ExitStack() as stack:
        for n, (processes, concurrency) in enumerate(trees(slots)):
            log = folder / f"worker-{n}.log"
            places = "--processes", str(processes), "--concurrency", str(concurrency)
            stack.enter_context(worker.resident(url, log, *places, app=APP))
        _open(app, folder, slots)
        begun, looked, sent = time.monotonic(), time.monotonic(), 0
        while (gone := time.monotonic() - begun) < seconds:
            due = int(gone * ARRIVALS * scale) + 1
            if due > sent:
                purchase.later_many([(n, LASTS / scale) for n in range(sent, due)])
                sent = due
            if time.monotonic() >= looked:
                _look(app, seen, gone)
                looked += min(5.0, seconds / 12)
            time.sleep(max(0.0, min((sent / (ARRIVALS * scale)) - (time.monotonic() - begun), 1.0)))
        while app.jobs.where(queue="shop", state="available").count() + app.jobs.where(state="running").count():
            time.sleep(0.05)
    _judge(app, seen)
    app.close()
    return seen


def trees(slots: int) -> Iterator[tuple[int, int]]:
    """Workers to start, as (processes, places each): five processes that have `slots` places together."""
    each, more = divmod(slots, PROCESSES)
    if more:
        yield more, each + 1
    yield PROCESSES - more, each


def _open(app: Piecework, folder: Path, slots: int) -> None:
    """Waits until every process is there: each place is taken by a job that waits for all the others."""
    wait = app.task(name=shop_jobs.wait_for.name, queue="doors")(shop_jobs.wait_for.__wrapped__)
    jobs = wait.later_many([(str(folder / "open"),)] * slots)
    end = time.monotonic() + 120
    while app.jobs.counts().get(("doors", "running"), 0) < slots:
        if time.monotonic() > end:
            raise SystemExit("the workers did not start within two minutes")
        time.sleep(0.02)
    (folder / "open").touch()
    for job in jobs:
        job.result(timeout=60)


def _look(app: Piecework, seen: Seen, gone: float) -> None:
    counts = app.jobs.counts()
    seen.line.append(counts.get(("shop", "available"), 0))
    seen.flight.append(counts.get(("shop", "running"), 0))
    seen.oldest.append(app.store.oldest_due().get("shop", 0.0))
    print(
        f"  {gone:6.1f} s  in flight {seen.flight[-1]:3}  waiting {seen.line[-1]:3}  the oldest for {seen.oldest[-1]:.2f} s",
        flush=True,
    )


def _judge(app: Piecework, seen: Seen) -> None:
    """Reads what became of every purchase."""
    after: str | None = None
    while page := app.store.find(Filter(queue="shop"), after=after, limit=1000):
        for record in page:
            _count(seen, record)
        after = page[-1].id


def _count(seen: Seen, record: Record) -> None:
    seen.ends[record.state.value] = seen.ends.get(record.state.value, 0) + 1
    seen.runs += record.run
    seen.waits.append((record.started_at or record.run_at) - record.run_at)
    if record.worker is not None:
        seen.workers.add(record.worker)


def tell(seen: Seen) -> None:
    """Prints what it came to."""
    quarter = max(1, len(seen.waits) // 4)
    for name, waits in (("second quarter", seen.waits[quarter : 2 * quarter]), ("last quarter", seen.waits[-quarter:])):
        ordered = sorted(waits or seen.waits)
        print(
            f"  {name:15} waited {statistics.median(ordered) * 1000:7.0f} ms (median), "
            f"{ordered[int(len(ordered) * 0.99)] * 1000:7.0f} ms (99 of 100)"
        )
    verdict = "holds steady" if seen.steady() else "does not hold: the line grows"
    ends = ", ".join(f"{n:,} {state}" for state, n in sorted(seen.ends.items()))
    print(f"  {ends}, {seen.runs:,} runs on {len(seen.workers)} processes; it {verdict}", flush=True)


@contextmanager
def _store(name: str) -> Iterator[str]:
    """A fresh store by its name, or the one of a URL."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/shop.db"
    elif name in ("postgres", "redis"):
        from tests.redis_servers import Redis
        from tests.servers import Postgres

        server = Postgres() if name == "postgres" else Redis()
        try:
            yield server.start().url
        finally:
            server.stop()
    else:
        yield name


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.shop", description=__doc__)
    parser.add_argument("stores", nargs="*", default=["sqlite", "postgres", "redis"], metavar="STORE",
                        help="sqlite, postgres, redis (servers are started), or an empty store's URL; default: all three")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60.0, help="how long purchases arrive (60)")
    parser.add_argument("--slots", type=int, default=42, help="places on the five processes together (42)")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as fast (1)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
