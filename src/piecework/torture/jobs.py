"""The mix of jobs that the tortured workers run. Every body writes into the ledger when it starts and when it ends.

A kind of job is one method here, one line in `Jobs.mix`, and, where it does not simply complete, one in `Jobs.wrong`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from piecework import Cancel, Piece, Pieces, Piecework, Retry, Snooze, current
from piecework.job import Record, State
from piecework.store import Store
from piecework.torture.dice import Dice
from piecework.torture.ledger import Kind, Ledger
from piecework.torture.plan import Plan
from piecework.torture.steps import WALK, Steps

MARK = 1000  # what a composed split counts for each piece that failed


class Jobs:
    """An app with the tasks of one torture; its store is what `line` makes of the plan's own."""

    def __init__(self, plan: Plan, ledger: Ledger, line: Callable[[Store], Store] = lambda store: store) -> None:
        self._ledger = ledger
        self.app = app = Piecework(plan.url, lease=plan.lease, keep_completed=None)
        app.store = line(app.store)
        queue = plan.queue
        self.noop = app.task(name="torture.noop", queue=queue)(self._noop)
        self.nap = app.task(name="torture.nap", queue=queue)(self._nap)
        self.async_nap = app.task(name="torture.async_nap", queue=queue)(self._async_nap)
        self.flaky = app.task(name="torture.flaky", queue=queue, attempts=5, retry=0.01)(self._flaky)
        self.doomed = app.task(name="torture.doomed", queue=queue, attempts=2, retry=0.01)(self._doomed)
        self.snoozing = app.task(name="torture.snoozing", queue=queue)(self._snoozing)
        self.retrying = app.task(name="torture.retrying", queue=queue, attempts=5)(self._retrying)
        self.withdrawn = app.task(name="torture.withdrawn", queue=queue)(self._withdrawn)
        self.crunch = app.task(name="torture.crunch", queue=queue, pool="process", retry=0.01)(self._crunch)
        self.leaf = app.task(name="torture.leaf", queue=queue)(self._leaf)
        self.nest = app.split(name="torture.nest", queue=queue)(self._nest)
        self.nest.compose(self._composed_nest)
        self.mixed = app.split(name="torture.mixed", queue=queue, on_failure="compose")(self._mixed)
        self.mixed.compose(self._composed_mixed)
        self.steps = Steps(app, ledger, queue, self.leaf.piece)
        self._ends = {self.doomed.name: State.FAILED, self.withdrawn.name: State.CANCELLED}
        # What is enqueued, and how often.
        self.mix: dict[Callable[[Dice], Piece[Any]], float] = {
            lambda dice: self.noop.piece(): 45,
            lambda dice: self.nap.piece(round(dice.between(0.001, 0.02), 4)): 15,
            lambda dice: self.nap.piece(round(dice.between(0.05, 0.15), 4)): 0.5,
            lambda dice: self.async_nap.piece(round(dice.between(0.001, 0.02), 4)): 10,
            lambda dice: self.crunch.piece(dice.whole(1_000, 100_000)): 1,
            lambda dice: self.flaky.piece(dice.whole(1, 3)): 10,
            lambda dice: self.doomed.piece(): 2,
            lambda dice: self.snoozing.piece(dice.whole(1, 3)): 4,
            lambda dice: self.retrying.piece(dice.whole(1, 3)): 4,
            lambda dice: self.withdrawn.piece(): 1,
            lambda dice: self.nest.piece(dice.whole(2, 3), dice.whole(2, 6)): 3,
            lambda dice: self.mixed.piece(dice.whole(1, 8)): 1,
            lambda dice: self.steps.piece(dice.whole(1, 3), aside=dice.happens(0.3)): 2,
            lambda dice: self.steps.piece(dice.whole(1, 2), doomed=True): 1,
        }

    def wrong(self, record: Record) -> str | None:
        """What is wrong with how a job ended; None where nothing is."""
        if record.task == WALK:
            return None if record.state in (self.steps.ends_as(record), State.PARKED) else f"it ended as {record.state}"
        if record.state.finished and record.state is not self._ends.get(record.task, State.COMPLETED):
            return f"it ended as {record.state}"
        if record.state is not State.COMPLETED:
            return None
        if record.task == self.snoozing.name and record.attempt != 1:
            return f"it spent {record.attempt} attempts, and never failed"
        if record.task not in (self.nest.name, self.mixed.name):
            return None
        (first, *rest), _ = self.app.registry[record.task].signature.decode(record.args)
        result = self.app.decode_result(record)
        if not isinstance(result, int):
            right = False
        elif record.task == self.nest.name:
            right = result == first * (rest[0] - 1) + 1
        else:  # a piece that killed its workers counts as failed, beside the one that is meant to
            failed, completed = divmod(result, MARK)
            right = failed >= 1 and failed + completed == first + 1
        return None if right else f"its compose returned {result}"

    @contextmanager
    def _noted(self, start: Kind = Kind.START, end: Kind = Kind.END) -> Iterator[None]:
        """Writes that this run's body started, and how it ended."""
        id, run = current.id, current.run
        self._ledger.note(start, id, run)
        try:
            yield
        except BaseException:
            self._ledger.note(Kind.RAISED, id, run)
            raise
        self._ledger.note(end, id, run)

    # ── plain jobs ───────────────────────────────────────────────────────────────────────────────

    def _noop(self) -> None:
        with self._noted():
            pass

    def _nap(self, seconds: float) -> float:
        with self._noted():
            time.sleep(seconds)
            return seconds

    async def _async_nap(self, seconds: float) -> float:
        with self._noted():
            await asyncio.sleep(seconds)
            return seconds

    def _crunch(self, n: int) -> int:
        """Keeps a processor busy, in a process of its own."""
        with self._noted():
            return sum(range(n))

    def _flaky(self, fails: int) -> int:
        """Raises in its first attempts, then succeeds."""
        with self._noted():
            if current.attempt <= fails:
                raise ValueError(f"attempt {current.attempt} of {fails} that fail")
            return 1

    def _doomed(self) -> int:
        """Fails in every attempt."""
        with self._noted():
            raise ValueError("it always does")

    def _snoozing(self, times: int) -> int:
        """Puts itself off in its first runs; no attempt is spent."""
        with self._noted():
            if current.run <= times:
                raise Snooze(0.05)
            return current.attempt

    def _retrying(self, times: int) -> int | Retry:
        """Asks to be tried again in its first attempts."""
        with self._noted():
            return 1 if current.attempt > times else Retry(after=0.05)

    def _withdrawn(self) -> Cancel:
        with self._noted():
            return Cancel("it is not wanted any more")

    def _leaf(self, n: int) -> int:
        with self._noted():
            return 1

    # ── splits ───────────────────────────────────────────────────────────────────────────────────

    def _nest(self, depth: int, width: int) -> Iterator[Piece[Any]]:
        """A tree of pieces: at each level one is a smaller tree, one fails at first, the others are leaves."""
        with self._noted(Kind.SPLIT_START, Kind.SPLIT_END):
            for n in range(width):
                if n == 0 and depth > 1:
                    yield self.nest.piece(depth - 1, width)
                elif n == 1:
                    yield self.flaky.piece(1)
                else:
                    yield self.leaf.piece(n)

    def _composed_nest(self, pieces: Pieces[int], depth: int, width: int) -> int:
        with self._noted(Kind.COMPOSE_START, Kind.COMPOSE_END):
            return sum(pieces.results())

    def _mixed(self, width: int) -> Iterator[Piece[Any]]:
        """A piece that fails for good, and leaves."""
        with self._noted(Kind.SPLIT_START, Kind.SPLIT_END):
            yield self.doomed.piece()
            for n in range(width):
                yield self.leaf.piece(n)

    def _composed_mixed(self, pieces: Pieces[int], width: int) -> int:
        with self._noted(Kind.COMPOSE_START, Kind.COMPOSE_END):
            return sum(pieces.results()) + MARK * pieces.failed
