"""Piecework on its stores, side by side in one run: ``python -m bench.stores``. What a store costs, and not what a limit is.

Each is as durable as it is delivered: SQLite and PostgreSQL wait for the disk at each commit, Redis every second; and Redis
again with ``appendfsync always``, which is the same promise as theirs. Servers are started here, on this machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from tests.redis_servers import Redis

from bench import machine, measure
from bench.postgres.server import Server, running
from bench.reading import Reading, Watch
from bench.redis import measure as redis_measure

TURN = 50  # jobs added one by one before it is the next store's turn
WHAT = {
    "one by one": "`later`, one by one, jobs/s",
    "many": "`later_many`, jobs/s",
    "drain": "drained by one worker process, jobs/s",
    "cpu": "… the worker's CPU, µs a job",
    "latency": "`later` → start in an idle worker, ms",
    "latency_p95": "… of which 95 % are below, ms",
}
COARSE = {"one by one", "many", "drain"}  # told in whole jobs
Found = dict[str, dict[str, list[float]]]  # what -> store -> a value for each round


class Shelf(ABC):
    """A store by its name, and how to get an empty one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.idle_cpu = 0.0  # seconds that a worker takes to start and to stop

    def warm(self) -> None:
        """Learns what a worker costs that finds nothing to do."""
        with self.empty() as store:
            self.idle_cpu = measure.starting(store, processes=1)

    @abstractmethod
    def empty(self) -> AbstractContextManager[Any]:
        """Piecework's app on an empty store."""

    def many(self, store: Any, n: int) -> Reading:
        return measure.later_many(store, n)

    def drain(self, store: Any, n: int) -> Reading:
        """`store` has `n` jobs. What starting a worker costs is not in its CPU."""
        return measure.drain(store, n, processes=1, idle_cpu=self.idle_cpu)


class OnFile(Shelf):
    def __init__(self, folder: Path) -> None:
        super().__init__("SQLite")
        self._folder = folder
        self._count = 0

    @contextmanager
    def empty(self) -> Iterator[Any]:
        self._count += 1
        with measure.new_store(self._folder, f"store{self._count}", "FULL") as store:
            yield store


class OnPostgres(Shelf):
    def __init__(self, server: Server) -> None:
        super().__init__("PostgreSQL")
        self._server = server

    def empty(self) -> AbstractContextManager[Any]:
        return self._server.store()

    def many(self, store: Any, n: int) -> Reading:
        reading = measure.later_many(store, n)
        store.analyze()
        return reading


class OnRedis(Shelf):
    def __init__(self, name: str, server: Redis) -> None:
        super().__init__(name)
        self._server = server

    def empty(self) -> AbstractContextManager[Any]:
        return redis_measure.new_store(self._server.port)

    def many(self, store: Any, n: int) -> Reading:
        return redis_measure.later_many(store, n)

    def drain(self, store: Any, n: int) -> Reading:
        return redis_measure.drain(store, n, processes=1, idle_cpu=self.idle_cpu).reading


@contextmanager
def shelves(folder: Path | None) -> Iterator[list[Shelf]]:
    """All of them, with the servers that they need."""
    place, warning = machine.disk_folder(folder)
    if warning:
        print(warning, file=sys.stderr)
    tempfile.tempdir = str(place)  # of the servers, too
    with ExitStack() as stack:
        files = stack.enter_context(tempfile.TemporaryDirectory(prefix="piecework-bench-", dir=place))
        postgres = stack.enter_context(running())
        servers = [Redis().start(), Redis(appendfsync="always").start()]
        for server in servers:
            stack.callback(server.stop)
        print(" · ".join(f"{k} {v}" for k, v in machine.describe_server(place, postgres.version()).items()))
        names = ("Redis, everysec", "Redis, always")
        yield [
            OnFile(Path(files)),
            OnPostgres(postgres),
            *(OnRedis(name, server) for name, server in zip(names, servers, strict=True)),
        ]


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--jobs", default=50_000, show_default=True, help="Jobs of later_many and of the drain.")
@click.option("--singles", default=2000, show_default=True, help="Jobs added one by one.")
@click.option("--samples", default=100, show_default=True, help="Jobs whose start is waited for.")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where SQLite's file is.")
def main(rounds: int, jobs: int, singles: int, samples: int, folder: Path | None) -> None:
    """Measure piecework on SQLite, PostgreSQL and Redis in one run, each in its turn."""
    found: Found = defaultdict(lambda: defaultdict(list))
    with shelves(folder) as all_of_them:
        for shelf in all_of_them:
            shelf.warm()
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            _singly(all_of_them, found, singles)
            for shelf in all_of_them:
                _measure(shelf, found, jobs, samples)
        _print(all_of_them, found, jobs)


def _singly(all_of_them: Sequence[Shelf], found: Found, n: int) -> None:
    """In turns of a few, so that all see the same weather."""
    with ExitStack() as stack:
        sides = [(shelf, stack.enter_context(shelf.empty()), Watch()) for shelf in all_of_them]
        for _, store, _ in sides:
            measure.later_one_by_one(store, 10)
        for _ in range(0, n, TURN):
            for _, store, watch in sides:
                with watch:
                    measure.later_one_by_one(store, TURN)
        for shelf, _, watch in sides:
            _note(found, "one by one", shelf, watch.reading(n // TURN * TURN))


def _measure(shelf: Shelf, found: Found, jobs: int, samples: int) -> None:
    with shelf.empty() as store:
        _note(found, "many", shelf, shelf.many(store, jobs))
        drain = shelf.drain(store, jobs)
        _note(found, "drain", shelf, drain)
        _note(found, "cpu", shelf, Reading(drain.cpu or 0.0))
    with shelf.empty() as store:
        for name, reading in measure.latency(store, samples).items():
            _note(found, name, shelf, reading)


def _note(found: Found, what: str, shelf: Shelf, reading: Reading) -> None:
    found[what][shelf.name].append(reading.value)
    print(f"  {shelf.name:<16} {WHAT[what]:<42} {reading.value:>10,.1f}", file=sys.stderr, flush=True)


def _print(all_of_them: Sequence[Shelf], found: Found, jobs: int) -> None:
    """A table of medians, with the least and the most; then Redis against the others, as medians of each round's ratio."""
    names = [shelf.name for shelf in all_of_them]
    print(f"\n{jobs:,} jobs; medians (least–most)\n\n| | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for what, shown in WHAT.items():
        print(f"| {shown} | {' | '.join(_spread(found[what][name], what) for name in names)} |")
    print()
    first = names[2]
    for name in names[:2]:
        ratios = [f"{_ratio(found[what], first, name)} in “{what}”" for what in ("one by one", "many", "drain")]
        print(f"{first} against {name}: {', '.join(ratios)}")


def _spread(values: list[float], what: str) -> str:
    digits = ",.0f" if what in COARSE else ",.1f"
    return f"{statistics.median(values):{digits}} ({min(values):{digits}}–{max(values):{digits}})"


def _ratio(values: dict[str, list[float]], ours: str, theirs: str) -> str:
    parts = [a / b for a, b in zip(values[ours], values[theirs], strict=True)]
    return f"{statistics.median(parts):.1f}× ({min(parts):.1f}–{max(parts):.1f})"


if __name__ == "__main__":
    main()
