"""The app that the crash ring's workers run: every body writes to the ledger when it starts and when it ends.

The ledger is one append-only file. A record has a fixed size and is written by one `write` on an O_APPEND descriptor,
so records of many processes neither mix nor tear, and what was written survives a SIGKILL.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crashsteps import declare

from piecework import Piece, Pieces, Piecework, current, failpoints

RECORD = 128  # bytes; of those that lie across two pages of a file, a reader may see half
SPLIT, TASK, COMPOSE = "split", "task", "compose"
WIDE = 120  # more than the first bite of a splitter, so that it is stored in two

_ledger: int | None = None


def _write(kind: str, what: str) -> None:
    """One record of the running job; a body that is called directly leaves none."""
    global _ledger
    if not current.inside:
        return
    if _ledger is None:
        _ledger = os.open(os.environ["CRASHAPP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    text = f"{what} {kind} {current.id} {current.run} {os.getpid()} {time.time():.6f}"
    os.write(_ledger, text.encode().ljust(RECORD - 1) + b"\n")


@contextmanager
def noted(kind: str) -> Iterator[None]:
    """Writes that a body started, and, if it does not raise, that it ended."""
    _write(kind, "start")
    yield
    _write(kind, "end")


app = Piecework(
    os.environ.get("CRASHAPP_URL", "sqlite:///crashapp.db"), lease=float(os.environ.get("CRASHAPP_LEASE", "20"))
)


# ── the workload ─────────────────────────────────────────────────────────────────────────────────


@app.task(name="square")
def square(n: int) -> int:
    with noted(TASK):
        return n * n


@app.task(name="asquare")
async def asquare(n: int) -> int:
    with noted(TASK):
        return n * n


@app.task(name="flaky", attempts=5, retry=0)
def flaky(n: int, fails: int) -> str:
    """Raises in its first attempts, then succeeds; called directly, it succeeds."""
    with noted(TASK):
        if current.inside and current.attempt <= fails:
            raise ValueError(f"attempt {current.attempt} of {n}")
        return f"flaky {n}"


@app.task(name="leaf")
def leaf(tree: int, n: int) -> str:
    with noted(TASK):
        return f"{tree}.{n}"


@app.split(name="tree")
def tree(n: int) -> Iterator[Piece[Any]]:
    _write(SPLIT, "start")
    for k in range(4):
        yield leaf.piece(n, k)
    yield flaky.piece(n, 1)
    _write(SPLIT, "end")


@tree.compose
def joined_tree(pieces: Pieces[str], n: int) -> str:
    with noted(COMPOSE):
        return f"tree {n}: " + ",".join(pieces.results())


@app.split(name="forest")
def forest(trees: int) -> Iterator[Piece[Any]]:
    _write(SPLIT, "start")
    for n in range(trees):
        yield tree.piece(n)
        yield square.piece(n)
    _write(SPLIT, "end")


@forest.compose
def joined_forest(pieces: Pieces[object], trees: int) -> str:
    with noted(COMPOSE):
        return f"{trees} trees: " + "; ".join(str(result) for result in pieces.results())


@app.split(name="wide")
def wide(pieces: int) -> Iterator[Piece[Any]]:
    _write(SPLIT, "start")
    for n in range(pieces):
        yield square.using(key=f"square {n}").piece(n)
    _write(SPLIT, "end")


@wide.compose
def total(pieces: Pieces[int], asked: int) -> int:
    with noted(COMPOSE):
        return sum(pieces.results())


# ── jobs that do harm, or wait ───────────────────────────────────────────────────────────────────


def _wait_for(gate: str) -> None:
    """Waits until the test makes a file. A worker that nobody ends would otherwise wait for ever."""
    end = time.monotonic() + 60
    while not Path(gate).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(0.005)


@app.task(name="hold", retry=0)
def hold(gate: str) -> int:
    """Runs until the gate opens, and returns the process that ran it."""
    with noted(TASK):
        _wait_for(gate)
        return os.getpid()


@app.task(name="hold_and_fail", attempts=1)
def hold_and_fail(gate: str, who: str) -> int:
    """Runs until the gate opens, and fails in every process but the one that the test names in a file."""
    with noted(TASK):
        _wait_for(gate)
        if Path(who).read_text() != str(os.getppid()):
            raise ValueError("the wrong process ended")
        return os.getpid()


@app.task(name="nap")
def nap(seconds: float) -> None:
    with noted(TASK):
        time.sleep(seconds)


@app.task(name="stubborn", retry=0)
def stubborn(seconds: float) -> None:
    """Pays no heed to being asked to stop."""
    with noted(TASK):
        time.sleep(seconds)


@app.task(name="murder", retry=0)
def murder(how: str, gate: str | None = None) -> None:
    """Ends its own worker process, when the gate opens."""
    with noted(TASK):
        if gate is not None:
            _wait_for(gate)
        if how.startswith("exit "):
            os._exit(int(how.removeprefix("exit ")))
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="murder_beside", retry=0)
def murder_beside(other: str) -> None:
    """Ends its own worker process once another job runs in it."""
    end = time.monotonic() + 20
    while not _runs_here(other) and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def _runs_here(job: str) -> bool:
    lines = Path(os.environ["CRASHAPP_LEDGER"]).read_text().splitlines()
    return any(line.split()[2] == job and line.split()[4] == str(os.getpid()) for line in lines)


@app.split(name="slow_wide")
def slow_wide(pieces: int, gate: str) -> Iterator[Piece[Any]]:
    """Stops behind half of its pieces until the gate opens."""
    _write(SPLIT, "start")
    for n in range(pieces):
        if n == pieces // 2:
            _wait_for(gate)
        yield square.piece(n)
    _write(SPLIT, "end")


@slow_wide.compose
def slow_total(pieces: Pieces[int], asked: int, gate: str) -> int:
    with noted(COMPOSE):
        return sum(pieces.results())


operations = declare(app, square, noted, _write)


# ── arming ───────────────────────────────────────────────────────────────────────────────────────


def _arm() -> None:
    """Arms the failpoints of this process, if it is one of the first lives that are to be short.

    CRASHAPP_LIVES is a folder with one file for each short life; a process takes one, if there still is one, and arms
    what stands in it. The others, and the supervisor, which does not import the app, live without failpoints.
    """
    folder = os.environ.get("CRASHAPP_LIVES")
    if folder is None:
        return
    for life in sorted(Path(folder).glob("*.life")):
        try:
            taken = life.rename(life.with_suffix(f".{os.getpid()}"))
        except FileNotFoundError:  # another process took it
            continue
        failpoints.arm(taken.read_text())
        return
    failpoints._armed.clear()  # what the environment armed, too


_arm()
