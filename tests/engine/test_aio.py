"""The threads for awaited calls: so many at work at a time, and others for those that wait for strangers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.support import until

from piecework import aio
from piecework.aio import Edge
from piecework.aside import step_aside


class Calls:
    """Calls that last until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    def wait(self, before: Callable[[], Any] = lambda: None) -> Any:
        said = before()
        self.begun.release()
        assert said is False or self.go.wait(20)
        return said

    def begin(self, edge: Edge, n: int, before: Callable[[], Any] = lambda: None) -> list[asyncio.Future[Any]]:
        return [asyncio.ensure_future(edge.call(self.wait, before)) for _ in range(n)]

    async def have_begun(self, n: int) -> None:
        for _ in range(n):
            assert await asyncio.to_thread(self.begun.acquire, timeout=10)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "THREADS", 2)
    monkeypatch.setattr(aio, "ASIDE", 3)


@pytest.mark.usefixtures("few")
def test_so_many_are_at_work_and_the_next_one_waits_for_its_turn() -> None:
    async def work() -> None:
        edge, calls = Edge(), Calls()
        running = calls.begin(edge, 2)
        await calls.have_begun(2)
        order: list[str] = []
        cancelled = asyncio.ensure_future(edge.call(order.append, "cancelled"))
        late = asyncio.ensure_future(edge.call(order.append, "late"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        assert order == []
        calls.go.set()
        await asyncio.gather(*running, late)
        assert order == ["late"]
        edge.close()

    asyncio.run(work())


@pytest.mark.usefixtures("few")
def test_who_steps_aside_gives_its_place_to_the_next_as_long_as_not_too_many_have() -> None:
    async def work() -> None:
        edge, calls = Edge(), Calls()
        waiting = calls.begin(edge, 3, step_aside)
        await calls.have_begun(3)
        assert await edge.call(step_aside) is False
        assert await asyncio.gather(*(edge.call(int, n) for n in "123")) == [1, 2, 3]
        calls.go.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await edge.call(lambda: (step_aside(), step_aside())) == (True, True)
        edge.close()

    asyncio.run(work())


@pytest.mark.usefixtures("few")
def test_places_come_back_and_are_no_more_than_before() -> None:
    async def work() -> None:
        edge = Edge()
        for _ in range(5):
            first = Calls()
            aside = first.begin(edge, 3, step_aside)
            await first.have_begun(3)
            first.go.set()
            await asyncio.gather(*aside)
        calls = Calls()
        order: list[str] = []
        running = calls.begin(edge, 2)
        await calls.have_begun(2)
        late = asyncio.ensure_future(edge.call(order.append, "late"))
        await asyncio.to_thread(int)
        assert order == []
        calls.go.set()
        await asyncio.gather(*running, late)
        edge.close()

    asyncio.run(work())


@pytest.mark.usefixtures("few")
def test_what_was_asked_before_the_edge_is_closed_is_done() -> None:
    async def work() -> None:
        edge, calls = Edge(), Calls()
        asked = calls.begin(edge, 4)
        await calls.have_begun(2)
        edge.close()
        await calls.have_begun(2)
        calls.go.set()
        await asyncio.gather(*asked)
        assert await edge.call(int, "7") == 7
        edge.close()

    asyncio.run(work())


def test_an_error_arrives_and_a_call_on_no_edge_may_wait() -> None:
    async def work() -> None:
        edge = Edge()
        with pytest.raises(ValueError, match="invalid literal"):
            await edge.call(int, "x")
        edge.close()

    asyncio.run(work())
    assert step_aside()
    until(lambda: not any(thread.name.startswith("piecework-aio") for thread in threading.enumerate()))
