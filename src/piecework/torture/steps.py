"""The operations among the tortured jobs: steps that fail, go round, and split; some end well, some are undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from piecework.app import Piecework
from piecework.branches import branch
from piecework.engine.context import current
from piecework.job import Record, State
from piecework.split import Piece, Pieces
from piecework.stepping import Step
from piecework.steps import step
from piecework.torture.ledger import Kind, Ledger

WALK = "torture.walk"
UNDOES = frozenset({"take", "flaky", "spread"})


class Steps:
    """One operation, whose bodies write into the ledger."""

    def __init__(self, app: Piecework, ledger: Ledger, queue: str, leaf: Callable[[int], Piece[Any]]) -> None:
        self._ledger = ledger
        self._leaf = leaf
        often: Any = {"attempts": 5, "retry": 0.01}
        self.walk = app.operation(
            WALK,
            main=[
                step(self._take, name="take", undo=step(self._undo, name="give", **often), **often),
                step(self._flaky, name="flaky", undo=step(self._undo, name="mend", **often), **often),
                step(self._spread, name="spread", compose=self._join, undo=step(self._undo, name="gather", **often)),
                step(self._turn, name="turn", **often),
                step(self._last, name="last", attempts=1),
            ],
            aside=branch(step(self._aside, name="aside", **often), then="main/last"),
            queue=queue,
        )

    def piece(self, rounds: int, *, doomed: bool = False, aside: bool = False) -> Piece[Any]:
        """A start of it."""
        piece: Piece[Any] = self.walk.piece(rounds=rounds, doomed=doomed, aside=aside)
        return piece

    @contextmanager
    def _noted(self, step: Step, start: Kind = Kind.STEP_START, end: Kind = Kind.STEP_END) -> Iterator[None]:
        id, run = current.id, current.run
        self._ledger.note(start, id, run, visit=step.visit)
        try:
            yield
        except BaseException:
            self._ledger.note(Kind.RAISED, id, run, visit=step.visit)
            raise
        self._ledger.note(end, id, run, visit=step.visit)

    def _take(self, step: Step) -> None:
        with self._noted(step):
            step["taken"] = step.visit

    def _flaky(self, step: Step) -> None:
        """Raises in its first attempt."""
        with self._noted(step):
            if step.attempt == 1:
                raise ValueError("this attempt is to fail")

    def _spread(self, step: Step) -> Iterator[Piece[Any]]:
        for n in range(3):
            yield self._leaf(n)

    def _join(self, pieces: Pieces[int], step: Step) -> int:
        with self._noted(step):
            return sum(pieces.results())

    def _turn(self, step: Step) -> None:
        """Goes round so many times."""
        with self._noted(step):
            step["round"] = step.get("round", 0) + 1
            if step["round"] < step["rounds"]:
                step.jump_to("flaky")
            elif step["aside"]:
                step.jump_to("aside")

    def _aside(self, step: Step) -> None:
        with self._noted(step):
            step["been"] = "aside"

    def _last(self, step: Step) -> None:
        with self._noted(step):
            if step["doomed"]:
                raise ValueError("it is to fail for good")

    def _undo(self, step: Step) -> None:
        with self._noted(step, Kind.UNDO_START, Kind.UNDO_END):
            step["undone"] = step.get("undone", 0) + 1

    def ends_as(self, record: Record) -> State:
        """How a start of it is to end. One whose piece killed its workers too often is undone as if it were doomed."""
        lost = record.error is not None and "PieceFailed" in record.error.type
        return State.FAILED if lost or '"doomed":true' in record.args.replace(" ", "") else State.COMPLETED
