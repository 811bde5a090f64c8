"""Right and wrong calls of tasks, for type checkers to read; nobody runs it. A line that is wrong ends in `# error`."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from piecework import Job, Piece, Pieces, Piecework, Task, exponential

app = Piecework("sqlite:///jobs.db")


@app.task
def plain(user_id: int, *, note: str = "") -> str:
    return note * user_id


@app.task(queue="mail", priority=5, attempts=7, retry=exponential(60), timeout=30)
def with_options(user_id: int) -> str:
    return str(user_id)


@app.task
async def coroutine(name: str) -> int:
    return len(name)


@app.task(queue="mail")
async def coroutine_with_options(name: str) -> int:
    return len(name)


@app.task
def nothing() -> None: ...


# ── what a task is ───────────────────────────────────────────────────────────────────────────────

an_int_task: Task[Any, str, str] = plain
a_coroutine_task: Task[Any, Coroutine[Any, Any, int], int] = coroutine
a_wrong_task: Task[Any, int, int] = plain  # error

# ── now ──────────────────────────────────────────────────────────────────────────────────────────

assert_type(plain(1), str)
assert_type(plain(1, note="x"), str)
assert_type(with_options(1), str)
plain("1")  # error
plain()  # error
plain(1, "x")  # error
plain(1, nota="x")  # error
with_options("1")  # error

# ── later ────────────────────────────────────────────────────────────────────────────────────────

assert_type(plain.later(1, note="x"), Job[str])
assert_type(with_options.later(1), Job[str])
assert_type(coroutine.later("x"), Job[int])
assert_type(coroutine_with_options.later("x"), Job[int])
assert_type(nothing.later(), Job[None])
assert_type(plain.later(1).result(), str)
assert_type(plain.later(1).result(timeout=5), str)
assert_type(coroutine.later("x").result(timeout=5), int)
plain.later("1")  # error
plain.later()  # error
plain.later(1, "x")  # error
plain.later(1, nota="x")  # error
with_options.later("1")  # error
coroutine.later(1)  # error
nothing.later(1)  # error
plain.later(1).result(timeout="soon")  # error
a_wrong_result: int = plain.later(1).result()  # error

# ── using ────────────────────────────────────────────────────────────────────────────────────────

assert_type(plain.using(priority=1, delay=60).later(1), Job[str])
assert_type(plain.using(at=datetime.now(UTC) + timedelta(hours=1)).later(1), Job[str])
assert_type(plain.using(key="k", on_duplicate="raise").later(1), Job[str])
assert_type(coroutine.using(queue="mail").later("x"), Job[int])
plain.using(priority=1).later("1")  # error
coroutine.using(queue="mail").later(1)  # error

# ── many ─────────────────────────────────────────────────────────────────────────────────────────

assert_type(plain.later_many([(1,), (2,)]), list[Job[str]])
plain.later_many([1, 2])  # error
plain.later_many("ab")  # error

# ── pieces ───────────────────────────────────────────────────────────────────────────────────────

assert_type(plain.piece(1), Piece[str])
assert_type(coroutine.piece("x"), Piece[int])
assert_type(plain.using(key="k").piece(1), Piece[str])
plain.piece("1")  # error
coroutine.using(key="k").piece(1)  # error


@app.split
def whole(topic_id: int, *, deep: bool = False) -> Iterator[Piece[str]]:
    yield plain.piece(topic_id)
    yield coroutine.piece("x")  # error


@whole.compose
def join(pieces: Pieces[str], topic_id: int, *, deep: bool = False) -> str:
    assert_type(next(pieces.results()), str)
    assert_type(next(pieces.items()), tuple[str, str])
    return ";".join(pieces.results())


@app.split(queue="splits", on_failure="compose")
def whole_with_options(topic_id: int) -> Iterator[Piece[str]]:
    yield plain.piece(topic_id)


@whole_with_options.compose(queue="composes", priority=1)
def join_with_options(pieces: Pieces[str], topic_id: int) -> int:
    return len(pieces)


@app.split
def no_pieces(topic_id: int) -> Iterator[int]:  # error-above
    yield topic_id


whole.later(1, deep=True)
whole(1)
whole_with_options.later(1)
whole.piece(1)
whole.later("1")  # error
whole("1")  # error
whole.later(1, True)  # error
whole_with_options.later("1")  # error
whole.using(priority=1).later("1")  # error
whole.piece("1")  # error

# ── batches ──────────────────────────────────────────────────────────────────────────────────────

with app.batch(then=plain.piece(1)) as batch:
    batch.add(plain.piece(1))
    batch.add(coroutine.piece("x"))
    batch.add("x")  # error
    batch.add(plain.later(1))  # error
app.batch(then=plain)  # error

# ── async ────────────────────────────────────────────────────────────────────────────────────────


async def from_a_coroutine() -> None:
    assert_type(await coroutine("x"), int)
    assert_type(await coroutine.alater("x"), Job[int])
    assert_type(await plain.alater(1), Job[str])
    assert_type(await (await plain.alater(1)).aresult(), str)
    assert_type(await plain.alater_many([(1,)]), list[Job[str]])
    await plain(1)  # error
    await coroutine(1)  # error
    await coroutine.alater(1)  # error
    await plain.using(priority=1).alater("1")  # error
