"""The same call gives the same answer now and later, to the byte, whatever its types."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pydantic
import pytest

from piecework import Piece, Pieces, Piecework, current
from piecework.errors import JobFailed, PieceFailed
from piecework.testing.drain import drain


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: Decimal


class Model(pydantic.BaseModel):
    at: datetime
    path: Path


@dataclass(frozen=True)
class Rich:
    id: UUID
    at: datetime
    for_: timedelta
    amount: Decimal
    colour: Colour
    days: frozenset[date]
    raw: bytes
    points: tuple[Point, ...]
    by_number: dict[int, str]


def rich(n: int) -> Rich:
    return Rich(
        UUID(int=n),
        datetime(2024, 1, 1, n, tzinfo=UTC),
        timedelta(days=-n, microseconds=n),
        Decimal(n) / 4,
        Colour.RED,
        frozenset({date(2024, 1, n + 1)}),
        bytes([n]),
        (Point(n, Decimal("0.10")),),
        {n: "n"},
    )


def later(app: Piecework, task: Any, *args: Any) -> Any:
    job = task.later(*args)
    drain(app)
    return job.result(timeout=0)


def same_bytes(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert one == other
    assert repr(one) == repr(other)
    assert msgspec.json.encode(one, enc_hook=str) == msgspec.json.encode(other, enc_hook=str)


def test_a_task_answers_the_same(app: Piecework) -> None:
    @app.task
    def task(value: Rich, n: int) -> Rich:
        assert value == rich(1)
        return rich(n)

    same_bytes(task(rich(1), 2), later(app, task, rich(1), 2))


async def test_an_async_task_answers_the_same(app: Piecework) -> None:
    @app.task
    async def task(value: Rich) -> tuple[Rich, ...]:
        return (value, value)

    job = await task.alater(rich(1))
    with app.worker(concurrency=1):
        same_bytes(await task(rich(1)), await job.aresult(timeout=30))


def test_a_split_answers_the_same_to_the_byte(app: Piecework) -> None:
    seen: list[list[Rich]] = []

    @app.task
    def part(value: Rich, n: int) -> Rich:
        return rich(n)

    @app.split
    def whole(value: Rich) -> Iterator[Piece[Rich]]:
        for n in range(3):
            yield part.piece(value, n)

    @whole.compose
    def join(pieces: Pieces[Rich], value: Rich) -> dict[UUID, Rich]:
        seen.append(list(pieces.results()))
        return {piece.id: piece for piece in seen[-1]}

    same_bytes(whole(rich(9)), later(app, whole, rich(9)))
    same_bytes(*seen)


def test_a_split_of_coroutines_answers_the_same(app: Piecework) -> None:
    @app.task
    async def part(n: int) -> Point:
        return Point(n, Decimal(n))

    @app.split
    def whole() -> Iterator[Piece[Point]]:
        yield from (part.piece(n) for n in range(3))

    @whole.compose
    def join(pieces: Pieces[Point]) -> list[Point]:
        return list(pieces.results())

    same_bytes(whole(), later(app, whole))


async def test_a_split_of_coroutines_runs_now_inside_a_running_loop(app: Piecework) -> None:
    @app.task
    async def part(n: int) -> int:
        return n

    @app.split
    def whole() -> Iterator[Piece[int]]:
        yield from (part.piece(n) for n in range(3))

    @whole.compose
    def join(pieces: Pieces[int]) -> int:
        return sum(pieces.results())

    assert whole() == 3


def test_pydantic_models_answer_the_same(app: Piecework) -> None:
    @app.task
    def part(model: Model) -> Model:
        return model

    @app.split
    def whole(at: datetime) -> Iterator[Piece[Model]]:
        yield part.piece(Model(at=at, path=Path("a/b")))

    @whole.compose
    def join(pieces: Pieces[Model], at: datetime) -> list[Model]:
        return list(pieces.results())

    at = datetime(2024, 1, 1, tzinfo=UTC)
    now, then = whole(at), later(app, whole, at)
    assert now == then == [Model(at=at, path=Path("a/b"))]


UNANNOTATED: list[Callable[[], Any]] = [
    lambda: (1, 2),
    lambda: {1: "a"},
    lambda: datetime(2024, 1, 1),
    lambda: {1, 2},
    lambda: UUID(int=1),
    lambda: b"x",
    lambda: Point(1, Decimal(1)),
]


@pytest.mark.parametrize("value", UNANNOTATED, ids=lambda value: type(value()).__name__)
def test_an_unannotated_compose_answers_the_same_or_is_refused(app: Piecework, value: Callable[[], Any]) -> None:
    """Without an annotation a tuple would come back as a list: now as well as later, or in neither."""

    @app.split
    def whole() -> Iterator[Piece[Any]]:
        yield from ()

    @whole.compose
    def join(pieces):  # type: ignore[no-untyped-def]
        return value()

    def answer(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception:
            return "refused"

    assert answer(whole) == answer(lambda: later(app, whole))


@pytest.mark.parametrize("value", UNANNOTATED, ids=lambda value: type(value()).__name__)
def test_an_unannotated_piece_is_read_the_same(app: Piecework, value: Callable[[], Any]) -> None:
    @app.task(name="part")
    def part():  # type: ignore[no-untyped-def]
        return value()

    @app.split
    def whole() -> Iterator[Piece[Any]]:
        yield part.piece()

    @whole.compose
    def join(pieces: Pieces[Any]) -> str:
        return repr(list(pieces.results()))

    assert whole() == later(app, whole)


def test_a_split_without_a_compose_answers_nothing_now_and_later(app: Piecework) -> None:
    ran: list[int] = []

    @app.task
    def part(n: int) -> int:
        ran.append(n)
        return n

    @app.split
    def whole() -> Iterator[Piece[int]]:
        yield part.piece(1)

    assert whole() is None is later(app, whole)
    assert ran == [1, 1]


@pytest.mark.parametrize("on_failure", ["finish", "fail_fast"])
def test_a_failure_is_told_in_the_same_words(app: Piecework, on_failure: Literal["finish", "fail_fast"]) -> None:
    @app.task(attempts=1)
    def part(n: int) -> int:
        raise ValueError(f"bad body {n}")

    @app.split(on_failure=on_failure)
    def whole() -> Iterator[Piece[int]]:
        yield part.using(key="first").piece(1)

    with pytest.raises(PieceFailed) as now:
        whole()
    with pytest.raises(JobFailed) as then:
        later(app, whole)
    assert then.value.error is not None
    assert then.value.error.message == str(now.value) == "piece first failed: ValueError: bad body 1"


def test_a_piece_that_returns_another_type_than_it_says_is_told_the_same(app: Piecework) -> None:
    """The piece is to blame, not the compose that reads it."""

    @app.task(attempts=1)
    def part() -> int:
        return "no int"  # type: ignore[return-value]

    @app.split(attempts=1)
    def whole() -> Iterator[Piece[int]]:
        yield part.piece()

    @whole.compose
    def join(pieces: Pieces[int]) -> list[int]:
        return list(pieces.results())

    with pytest.raises(PieceFailed, match="piece 0 failed") as now:
        whole()
    with pytest.raises(JobFailed, match="piece 0 failed") as then:
        later(app, whole)
    assert str(now.value) in str(then.value)


def test_progress_and_checks_do_nothing_now_and_something_later(app: Piecework) -> None:
    @app.task
    def task() -> bool:
        current.progress(1, 2, "half")
        current.check()
        return current.inside

    assert task() is False
    assert later(app, task) is True
