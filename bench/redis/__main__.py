"""The run: ``python -m bench.redis``. Prints every reading of every round, and their medians in a table."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field

import click
from tests.redis_servers import Redis

from bench.reading import Watch
from bench.redis import limit, measure, peers

TURN = 100  # jobs added one by one before it is the other side's turn


@dataclass
class Found:
    """What all rounds came to, by name."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)
        print(f"  {name:<32} {value:>12,.2f}", file=sys.stderr, flush=True)

    def note_weighed(self, name: str, weighed: limit.Weighed) -> None:
        self.note(f"{name}, jobs/s", weighed.reading.value)
        self.note(f"{name}, server µs/job", weighed.server)
        if weighed.reading.cpu is not None:
            self.note(f"{name}, client µs/job", weighed.reading.cpu)


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--jobs", default=100_000, show_default=True)
@click.option("--singles", default=2000, show_default=True)
@click.option("--samples", default=100, show_default=True)
@click.option("--peer-jobs", default=20_000, show_default=True)
@click.option("--peers/--no-peers", "with_peers", default=False, help="Measure the peers that are installed, too.")
def main(rounds: int, jobs: int, singles: int, samples: int, peer_jobs: int, with_peers: bool) -> None:
    """Measure piecework on Redis against a bare loop on the same server."""
    found = Found()
    server = Redis().start()
    try:
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            _bare(server, found, jobs)
            _ours(server, found, jobs, samples)
            _singly(server, found, singles)
            if with_peers:
                for name in peers.installed():
                    found.note(f"{name}, jobs/s", peers.drain(name, server.port, peer_jobs).value)
    finally:
        server.stop()
    _print(found)


def _bare(server: Redis, found: Found, n: int) -> None:
    con = limit.connect(server.port)
    found.note("bare bulk, jobs/s", limit.insert_many(con, n).value)
    found.note_weighed("bare loop", limit.drain(con, n))
    limit.insert_many(con, n)
    found.note_weighed("bare loop of 1000", limit.drain(con, n, bite=1000))
    con.flushall()
    con.close()


def _ours(server: Redis, found: Found, n: int, samples: int) -> None:
    with measure.new_store(server.port) as store:
        found.note("bytes a waiting job", measure.bytes_a_job(store, n).value)
    with measure.new_store(server.port) as store:
        found.note("bulk, jobs/s", measure.later_many(store, n).value)
        found.note_weighed("drain", measure.drain(store, n, processes=1))
    with measure.new_store(server.port) as store:
        found.note_weighed("split", measure.split(store, n))
    with measure.new_store(server.port) as store:
        for name, reading in measure.latency(store, samples).items():
            found.note(f"{name}, ms", reading.value)


def _singly(server: Redis, found: Found, n: int) -> None:
    """In turns of a few, so that both see the same weather."""
    bare, ours = Watch(), Watch()
    con = limit.connect(server.port)
    with measure.new_store(server.port) as store:
        measure.later_one_by_one(store, 10)
        for first in range(0, n, TURN):
            with bare:
                limit.insert_one_by_one(con, first, TURN)
            with ours:
                measure.later_one_by_one(store, TURN)
    con.close()
    found.note("bare, one by one, jobs/s", bare.reading(n).value)
    found.note("one by one, jobs/s", ours.reading(n).value)


def _print(found: Found) -> None:
    print(f"\n{'':<32} {'median':>12} {'least':>12} {'most':>12}")
    for name, values in found.values.items():
        print(f"{name:<32} {statistics.median(values):>12,.1f} {min(values):>12,.1f} {max(values):>12,.1f}")
    for what, ours, bare in (
        ("drain", "drain, jobs/s", "bare loop, jobs/s"),
        ("bulk", "bulk, jobs/s", "bare bulk, jobs/s"),
        ("one by one", "one by one, jobs/s", "bare, one by one, jobs/s"),
        ("split", "split, jobs/s", "drain, jobs/s"),
    ):
        parts = [a / b for a, b in zip(found.values[ours], found.values[bare], strict=True)]
        print(f"{what} of {bare.split(',')[0]}: {statistics.median(parts):.2f} ({min(parts):.2f}–{max(parts):.2f})")


if __name__ == "__main__":
    main()
