"""What the simulated workers run: small tasks of every kind, which write into a ledger when they begin and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from piecework.app import Piecework
from piecework.engine.context import current
from piecework.job import OnFailure
from piecework.split import Piece, Pieces
from piecework.testing.simulation.strollers import Strollers

STEP, FLAKY, DEADLY, SPLIT, COMPOSE = "step", "flaky", "deadly", "split", "compose"
ATTEMPTS = 3

Plan = list[list[Any]]  # the pieces of a split: kind, number, further arguments


class Entry(NamedTuple):
    """One line of the ledger."""

    what: str  # begin, end
    kind: str  # of a step the cursor of its place
    job: str
    run: int


class World(Protocol):
    """What a body can do to the world around it."""

    def write(self, entry: Entry) -> None: ...
    def sleep(self, seconds: float) -> None: ...
    def die(self) -> None: ...


class Toys:
    """An app with the tasks; `world` is the history that is being played."""

    world: World

    def __init__(self) -> None:
        self.app = Piecework("sqlite://:memory:")  # for its registry; the store of a history is another
        self._declare()

    def begin(self, kind: str, seconds: float) -> None:
        """A stretch of work begins, and takes so long."""
        self.world.write(Entry("begin", kind, current.id, current.run))
        self.world.sleep(seconds)

    def end(self, kind: str) -> None:
        self.world.write(Entry("end", kind, current.id, current.run))

    def _declare(self) -> None:
        @self.app.task(name=STEP, attempts=ATTEMPTS, retry=0.5)
        def step(number: int, seconds: float) -> int:
            self.begin(STEP, seconds)
            current.check()
            self.end(STEP)
            return number * 7

        @self.app.task(name=FLAKY, attempts=ATTEMPTS, retry=0.5)
        def flaky(number: int, seconds: float, fails: int) -> int:
            self.begin(FLAKY, seconds)
            if current.attempt <= fails:
                raise ValueError("not yet")
            self.end(FLAKY)
            return number * 7

        @self.app.task(name=DEADLY, attempts=ATTEMPTS, retry=0)
        def deadly(number: int, seconds: float, deaths: int) -> int:
            self.begin(DEADLY, seconds)
            if current.run <= deaths:
                self.world.die()
            self.end(DEADLY)
            return number * 7

        self.pieces: dict[str, Callable[..., Piece[Any]]] = {
            STEP: step.piece,
            FLAKY: flaky.piece,
            DEADLY: deadly.piece,
        }
        for policy in OnFailure:
            self._declare_split(policy)
        self.pieces |= Strollers(self).pieces

    def _declare_split(self, policy: OnFailure) -> None:
        @self.app.split(name=policy.value, on_failure=policy, attempts=ATTEMPTS, retry=0.5)
        def split(number: int, seconds: float, plan: Plan) -> Iterator[Piece[Any]]:
            self.world.write(Entry("begin", SPLIT, current.id, current.run))
            for kind, *args in plan:
                self.world.sleep(seconds)
                yield self.pieces[kind](*args)
            self.end(SPLIT)

        @split.compose
        def join(pieces: Pieces[Any], number: int, seconds: float, plan: Plan) -> list[Any]:
            self.begin(COMPOSE, seconds)
            joined = [[key, result] for key, result in pieces.items()]
            failures = [piece.key for piece in pieces.failures()]
            self.end(COMPOSE)
            return [joined, failures]

        self.pieces[policy.value] = split.piece
