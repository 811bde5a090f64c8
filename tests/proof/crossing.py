"""Many worker processes end pieces of the same batch and of different ones, and nobody waits for one who waits for him.

    python -m tests.proof.crossing [--seconds 60] [--processes 8] [URL]

Wide, nested, tolerant and strict splits are added for as long, and run by real workers. Then each split that completed was
composed once, each strict one failed and was not composed, the books are in order, and PostgreSQL had no deadlock to break.
Without a URL it starts a server of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT)]

from processes import Tree  # noqa: E402
from support import books, until  # noqa: E402
from tests.servers import Postgres  # noqa: E402

from piecework import Piece, Pieces, Piecework, current  # noqa: E402
from piecework.store import open_store  # noqa: E402

PLACE, LEDGER = "CROSSING_URL", "CROSSING_LEDGER"
SPLITS = ("wide", "nested", "tolerant", "strict")
IN_LINE = 200  # jobs that wait when more are added: enough for all, and soon drained
LARGE = 20  # pieces of the one large batch, for each job in line
PATIENCE = 300.0  # seconds

app = Piecework(os.environ.get(PLACE, "sqlite:///crossing.db"))


def composed() -> None:
    """Writes down that this job is being composed. One write, at the end of the file: no two records mix."""
    ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{current.id}\n".encode())
    os.close(ledger)


@app.task(name="leaf", attempts=2, retry=0)
def leaf(n: int) -> int:
    """Now and then it takes two attempts."""
    if n % 10 == 9 and current.attempt == 1:
        raise ValueError("the first attempt")
    return n


@app.task(name="broken", attempts=1)
def broken(n: int) -> int:
    raise ValueError("it always fails")


@app.split(name="wide")
def wide(n: int) -> Iterator[Piece[int]]:
    for m in range(n):
        yield leaf.piece(m)


@app.split(name="nested")
def nested(n: int) -> Iterator[Piece[int]]:
    for m in range(n):
        yield wide.piece(m + 1)


@app.split(name="tolerant", on_failure="compose")
def tolerant(n: int) -> Iterator[Piece[int]]:
    for m in range(n):
        yield broken.piece(m) if m % 5 == 0 else leaf.piece(m)


@app.split(name="strict", on_failure="fail_fast")
def strict(n: int) -> Iterator[Piece[int]]:
    for m in range(n):
        yield broken.piece(m) if m == n // 2 else leaf.piece(m)


@wide.compose
@nested.compose
@tolerant.compose
@strict.compose
def join(pieces: Pieces[int], n: int) -> int:
    composed()
    return sum(result for result in pieces.results())


class Crossed(NamedTuple):
    """What it came to."""

    jobs: int
    composed: int
    deadlocks: int
    wrong: list[str]


def crossing(url: str, folder: Path, seconds: float, processes: int, *, in_line: int = IN_LINE) -> Crossed:
    """Adds splits for so long while workers run them; then judges. Nobody else uses the store."""
    ledger = folder / "ledger"
    environ = {**os.environ, PLACE: url, LEDGER: str(ledger)}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    before = deadlocks(url)
    app.store = open_store(url)  # the jobs that are added here go there, too
    app.store.migrate()
    command = [sys.executable, "-m", "piecework", "work", "crossing:app"]
    tree = Tree([*command, "--processes", str(processes), "-c", "8"], environ, folder / "log")
    try:
        feed(seconds, in_line)
        until(
            lambda: not unfinished("available", "running", "waiting"),
            lambda: f"all ended: {app.jobs.counts()}\n{tree.log()}",
            within=PATIENCE,
        )
        code = tree.stop()
        wrong = [f"the workers ended with {code}"] if code else []
        wrong += [f"the log says {line}" for line in tree.log().splitlines() if "WARNING" in line or "ERROR" in line]
        return judged(url, ledger, deadlocks(url) - before, wrong)
    finally:
        tree.destroy()
        app.close()


def feed(seconds: float, in_line: int) -> None:
    """Adds splits of all kinds while the line is short; one of them is large, so that all work on one batch."""
    draw, end = random.Random(0), time.monotonic() + seconds
    wide.later(LARGE * in_line)
    while time.monotonic() < end:
        if unfinished("available") < in_line:
            for split in (wide, nested, tolerant, strict):
                split.later(draw.choice([3, 6, 12]))
        time.sleep(0.02)


def unfinished(*states: str) -> int:
    return sum(n for (_, state), n in app.jobs.counts().items() if state in states)


def deadlocks(url: str) -> int:
    """How many the server has had to break."""
    with psycopg.connect(url.partition("?")[0], autocommit=True) as con:
        row = con.execute("SELECT sum(deadlocks) FROM pg_stat_database").fetchone()
    return int(row[0]) if row is not None else 0


def judged(url: str, ledger: Path, broken_knots: int, wrong: list[str]) -> Crossed:
    composes = Counter(ledger.read_text().split())
    jobs = 0
    for job in app.jobs:
        jobs += 1
        record = job.known
        expected = {"strict": "failed", "broken": "failed"}.get(record.task, "completed")
        may_stop = record.task in ("leaf", "broken") and record.state == "cancelled"  # by a piece that failed beside it
        if record.state != expected and not may_stop:
            wrong.append(f"{record.task} {record.id} is {record.state}: {record.reason or record.error}")
        times = composes.pop(record.id, 0)
        if times != (record.task in SPLITS and record.state == "completed"):
            wrong.append(f"{record.task} {record.id}, which is {record.state}, was composed {times} times")
        if record.state == "completed" and record.task in SPLITS and job.result(timeout=0) != result_of(record):
            wrong.append(f"{record.task} {record.id} came to {job.result(timeout=0)}")
    wrong += [f"{id} was composed, and is not in the store" for id in composes]
    wrong += books(url)
    wrong += [f"repair found: {sentence}" for sentence in app.store.repair(limit=100_000)]
    if broken_knots:
        wrong.append(f"{broken_knots} deadlocks")
    return Crossed(jobs, len(ledger.read_text().split()), broken_knots, wrong)


def result_of(record: Any) -> int:
    """What a split should have come to."""
    n = json.loads(record.args)["n"]
    if record.task == "wide":
        return sum(range(n))
    if record.task == "tolerant":
        return sum(m for m in range(n) if m % 5)
    return sum(sum(range(m + 1)) for m in range(n))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.crossing", description=__doc__)
    parser.add_argument("url", nargs="?", help="a store on PostgreSQL that is empty; else a server is started")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    server = None if options.url else Postgres().start()
    try:
        url = options.url or f"{server.url}?schema=crossing"  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory(prefix="piecework-crossing-") as folder:
            began = time.monotonic()
            found = crossing(url, Path(folder), options.seconds, options.processes)
    finally:
        if server is not None:
            server.stop()
    print(
        f"{found.jobs:,} jobs, {found.composed:,} composes, {found.deadlocks} deadlocks, {time.monotonic() - began:.0f} s"
    )
    print("\n".join(found.wrong) or "Nothing was lost, composed twice or counted wrong.")
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
