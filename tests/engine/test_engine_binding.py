"""Rows of a run on the loop: one thread at a time has the session, also when the run is cancelled."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from piecework.engine.binding import call_with_rows, with_rows


class Rows:
    """A unit and a signature in one, which load until they are let go."""

    def __init__(self, *, waits: bool) -> None:
        self.done: list[str] = []
        self.entered = threading.Event()
        self.go_on = threading.Event()
        if not waits:
            self.go_on.set()

    def decode(self, text: str, unit: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.entered.set()
        assert self.go_on.wait(30)
        self.done.append("loaded")
        return (text,), {}

    def leave(self) -> None:
        self.done.append("left")

    def close(self) -> None:
        self.done.append("closed")


def run(rows: Rows, function: Any) -> Any:
    now: Any = SimpleNamespace(job=SimpleNamespace(args="args"), options=None)
    spec: Any = SimpleNamespace(signature=rows, function=function)
    unit: Any = rows
    return call_with_rows(function, lambda: with_rows(now, spec, unit), unit)


async def test_rows_are_loaded_then_used_then_let_go() -> None:
    rows = Rows(waits=False)

    async def function(text: str) -> str:
        rows.done.append(text)
        return "result"

    assert await run(rows, function) == "result"
    assert rows.done == ["loaded", "left", "args", "closed"]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_run_that_is_cancelled_while_it_loads_waits_for_the_thread(times: int) -> None:
    rows = Rows(waits=True)

    async def function(text: str) -> None:
        rows.done.append("called")

    task = asyncio.ensure_future(run(rows, function))
    await asyncio.to_thread(rows.entered.wait, 30)
    for _ in range(times):
        task.cancel()
        for _ in range(10):  # rounds of the loop, in which it could end
            await asyncio.sleep(0)
    assert not task.done()
    assert rows.done == []
    rows.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows.done == ["loaded", "left", "closed"]


async def test_a_loader_that_raises_ends_the_run_with_its_error() -> None:
    rows = Rows(waits=False)

    def decode(text: str, unit: Any) -> Any:
        raise ConnectionError("no database")

    rows.decode = decode  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await run(rows, None)
    assert rows.done == ["left", "closed"]
