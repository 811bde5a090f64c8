"""What the system-call sweep kills: small programs on one store, each told by its first argument.

A nursery forks them, so that the imports are done once and not for each of a hundred deaths.

They write a ledger, one line for what was acknowledged, begun and ended, with `write` on an O_APPEND descriptor: that is
another system call than those that are swept, and what was written stays.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from piecework import Piece, Pieces, Piecework, Step, current, step
from piecework.engine import worker as worker_module
from piecework.engine.context import Running
from piecework.engine.keeper import Keeper
from piecework.engine.pool import Inbox
from piecework.engine.runner import Runner
from piecework.engine.splitter import placed
from piecework.engine.worker import Worker
from piecework.errors import StoreUnavailable
from piecework.job import Claim, NewBatch, SessionRecord
from piecework.options import TaskOptions
from piecework.outcome import Seal
from piecework.plan import Place
from piecework.settle import settle
from piecework.store import Store
from piecework.store.sql import fanin
from piecework.store.sqlite import database
from piecework.store.sqlite import store as _imported  # noqa: F401 - as all that a program needs, before it is forked

MANY = 5
WIDE = 4
NOTES = "CREATE TABLE IF NOT EXISTS note (job TEXT)"


class Programs:
    """The app, the ledger, and the programs."""

    def __init__(self, path: str, ledger: str) -> None:
        self.path = path
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.app = Piecework(f"sqlite:///{path}")
        self._declare()

    def note(self, what: str, id: str, run: int = 0) -> None:
        os.write(self._ledger, f"{what} {id} {run} {time.time():.6f}\n".encode())

    def _declare(self) -> None:
        @self.app.task(name="square", retry=0)
        def square(n: int) -> int:
            self.note("start", current.id, current.run)
            self.note("end", current.id, current.run)
            return n * n

        @self.app.split(name="total", retry=0)
        def total(pieces: int) -> Iterator[Piece[Any]]:
            for n in range(pieces):
                yield square.piece(n)

        @total.compose
        def add_up(pieces: Pieces[int], asked: int) -> int:
            self.note("start", current.id, current.run)
            self.note("end", current.id, current.run)
            return sum(pieces.results())

        self.square, self.total = square, total
        self._declare_operation()

    def _declare_operation(self) -> None:
        """Steps, pieces and undos; each body is told under its place."""

        def done(step: Step, *, undoing: bool = False, composing: bool = False) -> None:
            place = Place(step.branch, step.name, step.visit, composing, undoing).cursor
            self.note("step", f"{current.id} {place}", current.run)
            step["trail"] = [*step.get("trail", []), place]

        def first(step: Step) -> None:
            done(step)

        def undo(step: Step) -> None:
            done(step, undoing=True)

        def spread(step: Step) -> Iterator[Piece[Any]]:
            for n in range(2):
                yield square.piece(n)

        def joined(pieces: Pieces[int], step: Step) -> None:
            done(step, composing=True)

        def last(step: Step) -> None:
            if step["doomed"]:
                raise ValueError("it cannot be done")
            done(step)

        square = self.square
        self.walk = self.app.operation(
            "walk", main=[step(first, undo=undo), step(spread, compose=joined, undo=undo), last], attempts=1, retry=0
        )

    # ── the programs ─────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> None:
        """A new file gets its schema."""
        self.attempt(lambda: self.app.store.migrate())

    def enqueue(self) -> None:
        """A single call, many at once, and one inside a transaction of the caller's own."""
        if job := self.attempt(lambda: self.square.later(1)):
            self.note("acknowledged", job.id)
        if jobs := self.attempt(lambda: self.square.later_many([(n,) for n in range(100, 100 + MANY)])):
            for job in jobs:
                self.note("acknowledged", job.id)
        self.attempt(self._within)
        if split := self.attempt(lambda: self.total.later(WIDE)):
            self.note("acknowledged", split.id)
        self.app.close()

    def _within(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as con:
            con.execute("PRAGMA wal_autocheckpoint = 0")
            con.execute("BEGIN IMMEDIATE")
            job = self.square.using(within=con).later(7)
            con.execute("INSERT INTO note VALUES (?)", (job.id,))
            con.execute("COMMIT")
            self.note("acknowledged", job.id)

    def work(self) -> None:
        """A burst over what is there, with every call of the store in one thread, so that each has its number."""
        worker_module.ThreadPool = InlinePool  # type: ignore[misc,assignment]
        keeper = Keeper(self.app.store, self.app.clock, name="swept")
        self._until_it_works(keeper.enlist)
        Worker(
            self.app.registry, self.app.store, self.app.clock, name=f"{keeper.session}.1", concurrency=2, burst=True
        ).run()
        self._until_it_works(keeper.leave)
        self.app.close()

    def walks(self) -> None:
        """The same with operations alone: one that completes, and one that is undone."""
        self.work()

    def last(self) -> None:
        """The same where only the last piece of a split is left: the step that may release a compose twice, or never."""
        self.work()

    def single(self) -> None:
        """One call."""
        if job := self.attempt(lambda: self.square.later(1)):
            self.note("acknowledged", job.id)

    def threads(self) -> None:
        """The same as it is in life: pool, beats and loop in threads of their own."""
        self._until_it_works(self.app.worker(concurrency=2, burst=True).run)
        self.app.close()

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────

    def attempt(self, call: Callable[[], Any]) -> Any:
        """A caller that says so when the store is not available, and goes on; any other error ends the program."""
        try:
            return call()
        except (StoreUnavailable, sqlite3.OperationalError) as error:  # the latter from the caller's own statements
            self.note("unavailable", type(error).__name__)
            return None

    def _until_it_works(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                self.note("unavailable", type(error).__name__)


class InlinePool:
    """A pool without threads."""

    def __init__(self, runner: Runner, inbox: Inbox, size: int, *rest: object) -> None:
        self._runner = runner
        self._inbox = inbox

    def submit(self, jobs: Iterable[Running]) -> None:
        for job in jobs:
            self._inbox.put((job, self._runner.run(job)))

    def backlog(self) -> int:
        return 0

    def linger(self, seconds: float, company: int) -> None:
        """What was given has ended."""

    def take_back(self) -> list[Running]:
        return []

    def close(self) -> None:
        """Nothing runs."""


def prepare(path: Path, program: str) -> None:
    """A store as a program finds it, with the caller's own table; made where nothing is killed."""
    programs = Programs(str(path), os.devnull)
    programs.app.store.migrate()
    with closing(sqlite3.connect(path)) as con:
        con.execute(NOTES)
    if program in ("work", "threads"):
        programs.total.later(WIDE)
        programs.square.later_many([(n,) for n in range(2)])
    elif program == "walks":
        programs.walk.later(doomed=False)
        programs.walk.later(doomed=True)
    elif program == "last":
        _split_up(programs.app.store, programs.total.later(1).id, programs.square.piece(0))
    programs.app.close()


def _split_up(store: Store, id: str, piece: Piece[Any]) -> None:
    """What a worker does that runs a splitter."""
    store.enlist(SessionRecord(id="earlier", beat=0, started_at=0.0, seen_at=0.0, name="", host="", pid=0))
    (run,) = store.fetch(Claim("earlier.1", 1, 1))
    store.add(placed([piece], id, id, 0), batch=NewBatch(id, then=id), fence=run.fence)
    store.settle([settle(run, Seal(1), TaskOptions(), 0.0)])
    store.bury("earlier")


# ── a known-bad protocol ─────────────────────────────────────────────────────────────────────────


def release_in_a_second_transaction(programs: Programs) -> None:
    """The last piece's end is committed first, and what it releases after that."""
    store: Any = programs.app.store
    release, settle_and_fetch = fanin._release, store.exchange
    owed: list[tuple[Any, ...]] = []

    def later(tx: Any, *what: Any) -> None:
        owed.append(what)

    def exchange(*args: Any) -> Any:
        answer = settle_and_fetch(*args)
        while owed:
            what = owed.pop()
            store._write(lambda tx, what=what: release(tx, *what))
        return answer

    fanin._release = later
    store.exchange = exchange


def main(program: str, path: str, ledger: str, *options: str) -> None:
    programs = Programs(path, ledger)
    if "--checkpoints" in options:
        database.CHECKPOINT_PAGES = 12  # so that a short program comes to one
    if "--bad" in options:
        release_in_a_second_transaction(programs)
    getattr(programs, program)()


# ── the nursery ──────────────────────────────────────────────────────────────────────────────────


def nursery() -> None:
    """Forks a program for each line of input, which has its arguments and where its errors are told.

    Tells its process id; waits for another line, and lets it go; tells its exit code.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for line in sys.stdin:
        gate, key = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(key)
            prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))  # strace is not its parent, which Yama would mind
            os.read(gate, 1)
            os.close(gate)
            *arguments, errors = json.loads(line)
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT, 0o600), 2)
            main(*arguments)
            return
        os.close(gate)
        print(pid, flush=True)
        sys.stdin.readline()
        os.write(key, b"!")
        os.close(key)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


PR_SET_PTRACER = 0x59616D61

if __name__ == "__main__":
    nursery()
