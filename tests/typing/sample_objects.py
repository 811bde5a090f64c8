"""Right and wrong calls of methods, for type checkers to read; nobody runs it. A line that is wrong ends in `# error`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from piecework import Job, Piece, Piecework

app = Piecework("sqlite:///jobs.db")


@app.task
class Process:
    def __init__(self, some_id: str) -> None:
        self.some_id = some_id

    def call(self, n: int, *, flag: bool = False) -> str:
        return f"{n}{flag}"

    async def wait(self, n: int) -> int:
        return n

    @classmethod
    def named(cls, n: int) -> bytes:
        return bytes(n)

    @staticmethod
    def double(n: int) -> float:
        return 2.0 * n

    @property
    def prop(self) -> int:
        return 1


@app.task(queue="mail", on_missing="cancel", aliases=["Old"])
@dataclass
class Data:
    x: int

    def call(self) -> int:
        return self.x


@app.task
def plain(user_id: int) -> str:
    return str(user_id)


@app.task
async def coroutine(name: str) -> int:
    return len(name)


# ── the class stays what it is ───────────────────────────────────────────────────────────────────

process = Process("a")
assert_type(process, Process)
assert_type(process.call(1), str)
assert_type(Data(1).x, int)
Process(1)  # error
Data("1")  # error

# ── later ────────────────────────────────────────────────────────────────────────────────────────

assert_type(app.later(process.call, 1), Job[str])
assert_type(app.later(process.call, 1, flag=True), Job[str])
assert_type(app.later(process.wait, 1), Job[int])
assert_type(app.later(Process.named, 1), Job[bytes])
assert_type(app.later(Process.double, 1), Job[float])
assert_type(app.later(Data(1).call), Job[int])
assert_type(app.later(plain, 1), Job[str])
assert_type(app.later(coroutine, "x"), Job[int])
app.later(process.call)  # error
app.later(process.call, "1")  # error
app.later(process.call, 1, flags=True)  # error
app.later(process.call, 1, True)  # error
app.later(process.wait, "1")  # error
app.later(Process.named, "1")  # error
app.later(plain, "1")  # error
app.later(coroutine, 1)  # error
app.later(process.prop)  # error
app.later(process.nope)  # error
wrong: Job[int] = app.later(process.call, 1)  # error

# ── using, pieces ────────────────────────────────────────────────────────────────────────────────

assert_type(app.using(queue="low", delay=60).later(process.call, 1), Job[str])
assert_type(app.using(key="k").using(priority=1).piece(process.wait, 1), Piece[int])
assert_type(app.piece(process.call, 1), Piece[str])
app.using(quueue="low")  # error
app.using(priority="high")  # error
app.using(queue="low").later(process.call, "1")  # error
app.piece(process.call)  # error
app.task(on_missing="explode")  # error
app.task(aliases=7)  # error


async def from_a_coroutine() -> None:
    assert_type(await app.alater(process.call, 1), Job[str])
    assert_type(await app.using(queue="low").alater(process.wait, 1), Job[int])
    await app.alater(process.wait, "1")  # error
