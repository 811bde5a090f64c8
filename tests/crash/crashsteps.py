"""The operations that the crash ring's workers run: every step, every compose of one and every undo writes to the ledger.

What stands there for the kind of a body is the cursor of its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

from piecework import Piece, Pieces, Piecework, Step, Task, branch, current, step, wait_for
from piecework.plan import Place

Noted = Callable[[str], AbstractContextManager[None]]
UNDOES = {"reserve", "pay", "pack"}  # the steps that have an undo
SILENT = {"approval", "early"}  # waits
PIECES = 3
ROUNDS = 2


def declare(app: Piecework, square: Task[Any, int], noted: Noted, write: Callable[[str, str], None]) -> SimpleNamespace:
    """Declares the operations; `noted` writes that a body began and ended, `write` one of both."""

    def at(step: Step, *, undoing: bool = False, composing: bool = False) -> str:
        return Place(step.branch, step.name, step.visit, composing, undoing).cursor

    def body(change: Callable[[Step], None]) -> Callable[[Step], None]:
        def run(step: Step) -> None:
            with noted(at(step)):
                change(step)

        run.__name__ = change.__name__
        return run

    def undo(of: str) -> Callable[[Step], None]:
        def run(step: Step) -> None:
            with noted(at(step, undoing=True)):
                if current.inside and step.attempt == 1 and of == "pay":
                    raise ValueError("the first attempt of an undo")
                step["undone"] = [*step.get("undone", []), of]

        run.__name__ = f"undo_{of}"
        return run

    @body
    def reserve(step: Step) -> None:
        step["reserved"] = step["n"] * 2

    @body
    def pay(step: Step) -> None:
        step["in vain"] = step.attempt  # of an attempt that raises nothing is stored
        if current.inside and step.attempt <= step["fails"]:
            raise ValueError(f"attempt {step.attempt}")
        del step["in vain"]
        step["paid"] = step["reserved"] + 1
        if step.get("colour") == "red":
            step.jump_to("red")

    def pack(step: Step) -> Iterator[Piece[Any]]:
        write(at(step), "start")
        for n in range(PIECES):
            yield square.piece(step["n"] + n)
        write(at(step), "end")

    def packed(pieces: Pieces[int], step: Step) -> int:
        with noted(at(step, composing=True)):
            return sum(pieces.results())

    @body
    def again(step: Step) -> None:
        step["rounds"] = step.get("rounds", 0) + 1
        if step["rounds"] < ROUNDS:
            step.jump_to("reserve")

    async def email(step: Step) -> None:
        with noted(at(step)):
            step["told"] = f"{step['paid']}, {step.get('pack')}"

    @body
    def paint(step: Step) -> None:
        step["painted"] = True

    @body
    def end(step: Step) -> None:
        if step.get("doomed") and current.inside:
            raise ValueError("it cannot be done")
        step["ended"] = True

    @body
    def tell(step: Step) -> None:
        step["late"] = True

    anew: Any = {"attempts": 5, "retry": 0}
    sure = [
        step(reserve, undo=step(undo("reserve"), **anew), **anew),
        step(pay, undo=step(undo("pay"), **anew), **anew),
        step(pack, compose=packed, undo=step(undo("pack"), **anew), **anew),
    ]
    order = app.operation(
        "order",
        main=[*sure, step(again, **anew), step(email, **anew), step(end, attempts=1)],
        red=branch(step(paint, **anew), then="main/again"),
    )
    approved = app.operation(
        "approved",
        main=[step(reserve, undo=step(undo("reserve"), **anew), **anew), wait_for("early"), wait_for("approval"),
              step(end, **anew)],
    )  # fmt: skip
    expired = app.operation(
        "expired",
        main=[step(reserve, undo=step(undo("reserve"), **anew), **anew), wait_for("approval", timeout=0.2, otherwise="late"),
              step(end, **anew)],
        late=[step(tell, **anew)],
    )  # fmt: skip
    return SimpleNamespace(order=order, approved=approved, expired=expired)
