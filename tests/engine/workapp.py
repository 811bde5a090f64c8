"""An app for what is done by processes, gets stuck, and is stopped. Its jobs leave marks in a folder, for the test to see."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from piecework import Piece, Pieces, Piecework, Retry, Snooze, Step, current
from piecework import step as step_of

app = Piecework(os.environ.get("HOUSE_URL", "sqlite:///jobs.db"), lease=float(os.environ.get("HOUSE_LEASE", "20")))
FOLDER = Path(os.environ.get("HOUSE_FOLDER", "."))

if os.environ.get("BROKEN_IN_POOL") and "piecework.cli.pooled" in " ".join(sys.orig_argv):
    raise RuntimeError("not in a pool")


def mark(name: str) -> None:
    (FOLDER / f"{name} {os.getpid()}").touch()


def wait_for(gate: str) -> None:
    """Waits until the test makes a file; not for ever, for a worker that nobody ends."""
    end = time.monotonic() + 60
    while not (FOLDER / gate).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(0.005)


# ── processes ────────────────────────────────────────────────────────────────────────────────────


@app.task(name="pid", pool="process", attempts=1)
def pid() -> int:
    return os.getpid()


@app.task(name="worker_pid", attempts=1)
def worker_pid() -> int:
    return os.getpid()


@app.task(name="hold", pool="process", attempts=1, grace=0.3)
def hold(gate: str) -> int:
    """Pays no heed to being asked to stop."""
    mark(f"held-{gate}")
    wait_for(gate)
    return os.getpid()


@app.task(name="heed", pool="process", attempts=1, grace=30)
def heed(gate: str) -> None:
    mark(f"heeds-{gate}")
    while not (FOLDER / gate).exists():
        current.check()
        time.sleep(0.005)


@app.task(name="die", pool="process", attempts=1)
def die(how: str) -> None:
    if how == "segfault":
        faulthandler._sigsegv()  # type: ignore[attr-defined]
    elif how == "null":
        ctypes.string_at(0)
    elif how == "exit 0":
        os._exit(0)
    elif how == "exit 7":
        os._exit(7)
    else:
        os.kill(os.getpid(), getattr(signal, how))


@app.task(name="die_once", pool="process", attempts=3, retry=0)
def die_once() -> int:
    if current.attempt == 1:
        os._exit(1)
    return current.attempt


@app.task(name="eat", pool="process", attempts=1)
def eat(megabytes: int) -> int:
    keep = bytearray(megabytes << 20)
    eaten.append(keep)
    return os.getpid()


eaten: list[bytearray] = []


def hog() -> None:
    """A pattern that goes wrong: for longer than anybody waits."""
    re.match(r"(a|aa)+$", "a" * 100 + "b")


@app.task(name="spin", pool="process", attempts=1, timeout=0.3)
def spin() -> None:
    """In C, with the interpreter's lock held."""
    hog()


@app.task(name="polite", pool="process", attempts=1, timeout=0.3)
def polite() -> None:
    while True:
        current.check()


@app.task(name="echo", pool="process", attempts=1)
def echo(size: int) -> str:
    return "x" * size


@app.task(name="take", pool="process", attempts=1)
def take(text: str) -> int:
    return len(text)


@app.task(name="say", pool="process", attempts=1)
def say(gate: str) -> None:
    current.progress(3, 9, "a third")
    wait_for(gate)


@app.task(name="nest", pool="process", attempts=1)
def nest() -> str:
    return pid.later().id


@app.task(name="nest_a_worker", pool="process", attempts=1)
def nest_a_worker() -> int:
    """A worker in a process of the pool: it runs what is in a queue of its own, in processes of its own."""
    job = pid.using(queue="inner").later()
    with app.worker(concurrency=1, queues=["inner"], pool_size=1):
        return job.result(timeout=20)


@app.task(name="leave_a_hog", pool="process", attempts=1)
def leave_a_hog() -> int:
    """A thread that takes the interpreter for itself after its job has ended, when the gate opens."""

    def later() -> None:
        wait_for("hog")
        mark("hogs")
        hog()

    threading.Thread(target=later, daemon=True).start()
    return os.getpid()


@app.task(name="take_late", pool="process", attempts=1, timeout=1.0)
def take_late(text: str) -> int:
    return len(text)


@app.task(name="verdict", pool="process", attempts=2, retry=0)
def verdict(what: str) -> Any:
    if what == "snooze" and current.run < 3:
        return Snooze(0)
    if what == "retry" and current.attempt < 2:
        raise Retry(0)
    return current.attempt


@app.task(name="leave_an_alarm", pool="process", attempts=1)
def leave_an_alarm() -> int:
    """A timer, and a handler that raises into whatever runs next."""

    def late(number: int, frame: object) -> None:
        raise RuntimeError("an alarm of another job")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return os.getpid()


@app.task(name="outlast_an_alarm", pool="process", attempts=1)
def outlast_an_alarm() -> int:
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        time.sleep(0.05)
    return os.getpid()


@app.task(name="start_a_program", pool="process", attempts=1, timeout=0.5)
def start_a_program() -> None:
    mark("program")
    subprocess.run(["sh", "-c", f"echo $$ > {FOLDER}/program-pid; exec sleep 600"], check=True)


@app.split(name="cores")
def cores(pieces: int) -> Iterator[Piece[int]]:
    for _ in range(pieces):
        yield pid.piece()


@cores.compose
def of_cores(pieces: Pieces[int], n: int) -> int:
    return len(list(pieces.results()))


# ── stuck ────────────────────────────────────────────────────────────────────────────────────────


@app.task(name="stuck", attempts=1, timeout=0.2)
def stuck(gate: str) -> str:
    """A thread that pays no heed to its timeout."""
    mark(f"stuck-{gate}")
    wait_for(gate)
    return "too late"


@app.task(name="astuck", attempts=1, timeout=0.2)
async def astuck(gate: str) -> str:
    """A coroutine that swallows its cancellation."""
    while not (FOLDER / gate).exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    return "too late"


@app.task(name="block", attempts=1, timeout=0.2)
async def block(gate: str) -> str:
    """Blocks the loop, past its timeout."""
    mark(f"blocked-{gate}")
    wait_for(gate)
    return "too late"


@app.task(name="block_without_limit", attempts=1)
async def block_without_limit(gate: str) -> str:
    wait_for(gate)
    return "in time"


@app.task(name="hold_the_interpreter", attempts=1, timeout=0.2)
def hold_the_interpreter(seconds: int) -> None:
    mark("holds")
    ctypes.PyDLL(None).sleep(seconds)


@app.task(name="hold_the_store", attempts=1, timeout=0.2)
def hold_the_store(seconds: int) -> str:
    """Holds the interpreter while its process has the store's write lock, as happens where a thread beside it writes."""
    if current.run > 1:
        return "let go"
    with closing(sqlite3.connect(FOLDER / "jobs.db", timeout=10.0, isolation_level=None)) as con:
        con.execute("BEGIN IMMEDIATE")
        ctypes.PyDLL(None).sleep(seconds)
    return "ended by itself"


@app.task(name="add", attempts=1)
def add(n: int) -> int:
    return n + 1


@app.task(name="aadd", attempts=1)
async def aadd(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@app.task(name="beside", attempts=1)
def beside(gate: str) -> int:
    mark(f"beside-{gate}-{current.id}")
    wait_for(gate)
    return os.getpid()


# ── trees to be stopped ──────────────────────────────────────────────────────────────────────────


@app.task(name="leaf", attempts=1)
def leaf(n: int, gate: str) -> int:
    (FOLDER / f"leaf {current.id} {current.run}").touch()
    while not (FOLDER / gate).exists():
        current.check()
        time.sleep(0.005)
    return n


@app.task(name="aleaf", attempts=1)
async def aleaf(n: int, gate: str) -> int:
    (FOLDER / f"leaf {current.id} {current.run}").touch()
    while not (FOLDER / gate).exists():
        await asyncio.sleep(0.005)
    return n


@app.task(name="quick", attempts=1)
def quick(n: int) -> int:
    return n


@app.task(name="bad", attempts=1)
def bad() -> None:
    raise ValueError("bad by itself")


@app.split(name="branch", on_failure="compose")
def branch(n: int, leaves: int, gate: str) -> Iterator[Piece[Any]]:
    yield quick.piece(n)
    for k in range(leaves):
        yield (aleaf if k % 3 == 2 else leaf).piece(k, gate)


@branch.compose
def of_branch(pieces: Pieces[int], n: int, leaves: int, gate: str) -> int:
    return len(list(pieces.results()))


@app.split(name="tree", on_failure="compose")
def tree(branches: int, leaves: int, gate: str) -> Iterator[Piece[Any]]:
    yield bad.piece()
    for n in range(branches):
        yield branch.piece(n, leaves, gate)


@tree.compose
def of_tree(pieces: Pieces[int], branches: int, leaves: int, gate: str) -> int:
    return sum(pieces.results())


# ── operations ───────────────────────────────────────────────────────────────────────────────────


def in_process(step: Step) -> None:
    step["process"] = os.getpid()
    step.jump_to("in_worker")


def left_out(step: Step) -> None:
    raise AssertionError("it was jumped over")


def in_worker(step: Step) -> None:
    step["worker"] = os.getpid()


def dies_once(step: Step) -> None:
    step["dying"] = True
    if step.attempt == 1:
        os._exit(7)


def takes_long(step: Step) -> None:
    mark("long")
    time.sleep(60)


def in_process_again(step: Step) -> None:
    step["undone"] = [os.getpid(), step.error.type if step.error is not None else None]


POOLED = [
    step_of(in_process, pool="process", undo=step_of(in_process_again, pool="process")),
    left_out,
    in_worker,
    step_of(dies_once, pool="process", retry=0),
    step_of(pid, into="task"),
    step_of(takes_long, pool="process", timeout=0.2, attempts=1),
]
pooled = app.operation("pooled", main=POOLED)


def counted(step: Step) -> None:
    step[step.name] = step.get(step.name, 0) + 1


steps = app.operation("steps", main=[step_of(counted, name=f"s{n}") for n in (1, 2, 3)])
