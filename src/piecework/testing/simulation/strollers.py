"""The operations that the simulated workers run. What a step does stands in a script, which is one of the globals.

Every step, every joining of pieces and every undo writes into the ledger; what stands there for its kind is its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from piecework.branches import branch
from piecework.engine.context import current
from piecework.plan import Place
from piecework.split import Piece, Pieces
from piecework.stepping import Step
from piecework.steps import step, wait_for

if TYPE_CHECKING:
    from piecework.testing.simulation.toys import Toys

STROLL, PATIENT = "stroll", "patient"  # the second waits for a signal
OPERATIONS = (STROLL, PATIENT)
GO, HINT = "go", "hint"  # the signals
UNDOES = frozenset({"set_out", "mend", "spread", "gather", "detour"})
SILENT = frozenset({GO})
ATTEMPTS = 3
WAITS = 1.2  # seconds, in a play of four


class Strollers:
    """Declares the operations, and makes starts of them."""

    def __init__(self, toys: Toys) -> None:
        self._toys = toys
        self.pieces: dict[str, Callable[[int, dict[str, Any]], Piece[Any]]] = {}
        kinds: dict[str, Any] = {"attempts": ATTEMPTS, "retry": 0.3}
        joins = {"compose": self._joined, **kinds}
        made = {
            "set_out": self._made("set_out", self._plain),
            "mend": self._made("mend", self._deadly),
            "spread": step(self._spread, name="spread", undo=self._undo("spread"), **joins),
            "go": wait_for(GO, timeout=WAITS, otherwise="late"),
            "gather": step(self._gather, name="gather", undo=self._undo("gather"), on_failure="compose", **joins),
            "turn": step(partial_named("turn", self._run, self._turn), **kinds),
            "close": step(partial_named("close", self._run, self._plain), **kinds),
        }
        side = branch(self._made("detour", self._plain), then="main/close")
        late = [step(partial_named("tell", self._run, self._plain), **kinds)]
        main = {
            STROLL: ("set_out", "mend", "turn", "spread", "gather", "close"),
            PATIENT: ("set_out", "mend", "spread", "go", "turn", "close"),
        }
        for name, steps in main.items():
            made_of = toys.app.operation(name, main=[made[one] for one in steps], side=side, late=late)
            self.pieces[name] = partial(self._piece, made_of)

    @staticmethod
    def _piece(operation: Any, number: int, script: dict[str, Any]) -> Piece[Any]:
        piece: Piece[Any] = operation.piece(number=number, script=script)
        return piece

    def _made(self, name: str, act: Callable[[Step], None]) -> Any:
        return step(partial_named(name, self._run, act), undo=self._undo(name), attempts=ATTEMPTS, retry=0.3)

    def _undo(self, of: str) -> Any:
        return step(partial_named(f"undo_{of}", self._run_back), attempts=2, retry=0.1)

    # ── bodies ───────────────────────────────────────────────────────────────────────────────────

    def _run(self, act: Callable[[Step], None], step: Step) -> None:
        """A stretch of work, whole or not at all."""
        place = Place(step.branch, step.name, step.visit).cursor
        script = step["script"]
        step["mark"] = -1  # nobody sees what a step sets that raises
        self._toys.begin(place, script["seconds"])
        current.check()
        if step.attempt <= script["fails"].get(step.name, 0):
            raise ValueError("not yet")
        act(step)
        step["mark"] = step.visit
        step["trail"] = [*step.get("trail", []), place]
        self._toys.end(place)

    def _run_back(self, step: Step) -> None:
        place = Place(step.branch, step.name, step.visit, undoing=True).cursor
        self._toys.begin(place, step["script"]["seconds"])
        if step.attempt <= step["script"]["stubborn"]:
            raise ValueError("not yet undone")
        step["trail"] = [*step.get("trail", []), place]
        self._toys.end(place)

    def _plain(self, step: Step) -> None:
        """It does nothing else."""

    def _deadly(self, step: Step) -> None:
        if current.run <= step["script"]["deaths"]:
            self._toys.world.die()

    def _turn(self, step: Step) -> None:
        """Goes round, aside, or on; at once, after a while, or after a signal."""
        script = step["script"]
        step["rounds"] = step.get("rounds", 0) + 1
        if step["rounds"] < script["rounds"]:
            step.jump_to("main", "mend")
        elif script["aside"]:
            step.jump_to("side")
        if script["naps"]:
            step.sleep(script["naps"])
        if script["asks"]:
            step.wait_for(HINT, timeout=WAITS / 2, otherwise="late")

    def _spread(self, step: Step) -> Iterator[Piece[Any]]:
        yield from self._split(step)

    def _gather(self, step: Step) -> Iterator[Piece[Any]]:
        yield from self._split(step)

    def _split(self, step: Step) -> Iterator[Piece[Any]]:
        place = Place(step.branch, step.name, step.visit).cursor
        script = step["script"]
        self._toys.begin(place, 0.0)
        if step.attempt <= script["fails"].get(step.name, 0):
            raise ValueError("not split yet")
        for kind, *args in script[step.name]:
            self._toys.world.sleep(script["seconds"])
            yield self._toys.pieces[kind](*args)
        self._toys.end(place)

    def _joined(self, pieces: Pieces[Any], step: Step) -> int:
        place = Place(step.branch, step.name, step.visit, composing=True).cursor
        self._toys.begin(place, step["script"]["seconds"])
        total = len(list(pieces.items())) + len(list(pieces.failures()))
        step["trail"] = [*step.get("trail", []), place]
        self._toys.end(place)
        return total


def partial_named(name: str, function: Callable[..., None], *args: Any) -> Callable[[Step], None]:
    """A function of a step, under the name by which its step is stored."""

    def run(step: Step) -> None:
        function(*args, step)

    run.__name__ = name
    return run
