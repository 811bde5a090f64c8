"""The run: ``python -m bench.redis``. Prints every reading of every round, and their medians in a table."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from tests.redis_servers import Redis

from bench import machine
from bench.measure import latency, later_many, later_one_by_one, starting
from bench.reading import Watch
from bench.redis import limit, measure, peers
from bench.walks import long

TURN = 100  # jobs added one by one before it is the other side's turn
OPERATIONS = {"steps of 1,000": 1000, "steps of 10,000": 10_000}  # operations of ten steps each
PLAIN = "plain, jobs/s"  # added by later_many, and drained


@dataclass
class Found:
    """What all rounds came to, by name."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)
        print(f"  {name:<34} {value:>12,.2f}", file=sys.stderr, flush=True)

    def note_weighed(self, name: str, weighed: limit.Weighed) -> None:
        self.note(f"{name}, jobs/s", weighed.reading.value)
        self.note(f"{name}, server µs/job", weighed.server)
        if weighed.reading.cpu is not None:
            self.note(f"{name}, client µs/job", weighed.reading.cpu)


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--jobs", default=100_000, show_default=True)
@click.option("--singles", default=2000, show_default=True, help="Jobs added one by one.")
@click.option("--samples", default=100, show_default=True, help="Jobs whose start is waited for.")
@click.option("--peer-jobs", default=20_000, show_default=True, help="Jobs of each peer; of the slow ones a quarter.")
@click.option("--peers/--no-peers", "with_peers", default=False, help="Measure the peers that are installed, too.")
def main(rounds: int, jobs: int, singles: int, samples: int, peer_jobs: int, with_peers: bool) -> None:
    """Measure piecework on Redis against a bare loop on the same server."""
    found = Found()
    others = peers.installed() if with_peers else []
    # A log that has doubled is rewritten by a fork, seconds long, in the midst of whoever is measured then: not here.
    server = Redis(auto_aof_rewrite_percentage="0").start()
    try:
        print(f"{_about(server)}\n", flush=True)
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            _bare(server, found, jobs)
            _ours(server, found, jobs, samples)
            _singly(server, found, singles)
            for name in others:
                found.note(f"{name}, jobs/s", peers.drain(name, server.port, peers.jobs_of(name, peer_jobs)).value)
    finally:
        server.stop()
    _print_table(found)
    _print_words(found, jobs, others, peer_jobs)


def _about(server: Redis) -> str:
    """What the numbers depend on."""
    con = limit.connect(server.port)
    told: Any = con.info("server")
    con.close()
    hardware = " · ".join(f"{name} {value}" for name, value in machine.hardware().items())
    return f"{hardware} · redis {told['redis_version']}, appendonly yes, appendfsync everysec, all on this machine"


def _bare(server: Redis, found: Found, n: int) -> None:
    con = limit.connect(server.port)
    before = measure.logged(con)
    found.note("bare bulk, jobs/s", limit.insert_many(con, n).value)
    found.note_weighed("bare loop", limit.drain(con, n))
    found.note("bare, bytes in the log a job", (measure.logged(con) - before) / n)
    limit.insert_many(con, n)
    found.note_weighed("bare loop of 1000", limit.drain(con, n, bite=1000))
    con.flushall()
    con.close()


def _ours(server: Redis, found: Found, n: int, samples: int) -> None:
    with measure.new_store(server.port) as store:
        idle_cpu = starting(store, processes=1)
        found.note("bytes a waiting job", measure.bytes_a_job(store, n).value)
    with measure.new_store(server.port) as store:
        before = measure.logged(store.server)
        bulk = later_many(store, n)
        found.note("bulk, jobs/s", bulk.value)
        drain = measure.drain(store, n, processes=1, idle_cpu=idle_cpu)
        found.note_weighed("drain", drain)
        found.note("bytes in the log a job", (measure.logged(store.server) - before) / n)
        found.note(PLAIN, 1 / (1 / bulk.value + 1 / drain.reading.value))
    for name, many in OPERATIONS.items():
        with measure.new_store(server.port) as store:
            found.note_weighed(name, measure.steps(store, many, idle_cpu=idle_cpu))
    with measure.new_store(server.port) as store:
        for name, reading in long(store).items():
            found.note(f"{name}, µs", reading.value)
    with measure.new_store(server.port) as store:
        found.note_weighed("split", measure.split(store, n, idle_cpu=idle_cpu))
    with measure.new_store(server.port) as store:
        for name, reading in latency(store, samples).items():
            found.note(f"{name}, ms", reading.value)


def _singly(server: Redis, found: Found, n: int) -> None:
    """In turns of a few, so that both see the same weather."""
    bare, ours = Watch(), Watch()
    con = limit.connect(server.port)
    with measure.new_store(server.port) as store:
        later_one_by_one(store, 10)
        for first in range(0, n, TURN):
            with bare:
                limit.insert_one_by_one(con, first, TURN)
            with ours:
                later_one_by_one(store, TURN)
    con.close()
    found.note("bare, one by one, jobs/s", bare.reading(n).value)
    found.note("one by one, jobs/s", ours.reading(n).value)


def _print_table(found: Found) -> None:
    print(f"\n{'':<34} {'median':>12} {'least':>12} {'most':>12}")
    for name, values in found.values.items():
        print(f"{name:<34} {statistics.median(values):>12,.1f} {min(values):>12,.1f} {max(values):>12,.1f}")


def _print_words(found: Found, jobs: int, others: Sequence[str], peer_jobs: int) -> None:
    """What it comes to: medians, with the least and the most; a ratio is that of the two in each round."""

    def told(name: str, digits: int = 1) -> str:
        return _spread(found.values[name], digits)

    def against(ours: str, theirs: str, digits: int = 2) -> str:
        pairs = zip(found.values[f"{ours}, jobs/s"], found.values[f"{theirs}, jobs/s"], strict=True)
        return _spread([a / b for a, b in pairs], digits)

    print(f"\nOf {jobs:,} no-op jobs, median (least–most) of {len(found.values['drain, jobs/s'])} rounds:")
    print(f"  one worker process drains at {against('drain', 'bare loop')} of the rate of a bare loop in Lua")
    print(f"  later_many adds at {against('bulk', 'bare bulk')} of the rate of a pipeline of bare writes")
    print(f"  later, one by one, adds at {against('one by one', 'bare, one by one')} of the rate of bare writes")
    print(f"  a job starts {told('latency, ms')} ms after later was called, 95 % within {told('latency_p95, ms')} ms")
    for name in OPERATIONS:
        print(f"  {name} operations go at {against(name, 'drain')} of plain jobs, drained")
    print(
        f"  of one operation each step takes {told('march_first, µs', 0)} µs, the last ones {told('march_last, µs', 0)}"
    )
    print(f"  pieces, split, run and composed, go at {against('split', 'plain')} of plain jobs, added and drained")
    print(f"  a waiting job with 100 bytes of arguments takes {told('bytes a waiting job', 0)} bytes of memory")
    for name in others:
        n = peers.jobs_of(name, peer_jobs)
        print(f"  the drain is {against('drain', name, 1)} times as fast as {peers.SAID[name]}, {n:,} jobs")


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
