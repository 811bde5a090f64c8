"""The app whose jobs are measured; ``piecework work bench.jobs:app`` runs them on the store that $PIECEWORK_URL names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.reading import NAME, USER
from piecework import OperationTask, Piece, Pieces, Piecework, Split, Step, Task, step

STEPS = 10


def nothing(step: Step) -> None:
    return None


def line(n: int) -> list[Any]:
    """The steps of an operation."""
    return [step(nothing, name=f"step_{k}") for k in range(n)]


@dataclass
class Fanned:
    """What the composed split says of itself."""

    began: float
    results: int


@dataclass(frozen=True)
class Jobs:
    """The app and its tasks."""

    app: Piecework
    noop: Task[[int, str], None, None]
    moment: Task[[], float, float]
    adding: Task[[int, str], None, None]
    fan: Split[[int]]
    walk: OperationTask[..., dict[str, Any]]


def build(url: str | None = None) -> Jobs:
    """The same tasks on any store."""
    app = Piecework(url)
    began: list[float] = []  # the split and its compose run in one process

    @app.task(name="noop")
    def noop(user_id: int, name: str) -> None:
        return None

    @app.task(name="moment")
    def moment() -> float:
        """When it started."""
        return time.time()

    @app.task(name="adding")
    def adding(user_id: int, name: str) -> None:
        """Uses the store while it runs."""
        noop.later(user_id, name)

    @app.split(name="fan")
    def fan(n: int) -> Iterator[Piece[None]]:
        began[:] = [time.time()]
        for _ in range(n):
            yield noop.piece(USER, NAME)

    @fan.compose
    def join(pieces: Pieces[None], n: int) -> Fanned:
        return Fanned(began[0], sum(1 for _ in pieces.results()))

    walk = app.operation("walk", main=line(STEPS))
    return Jobs(app, noop, moment, adding, fan, walk)


app = build().app
