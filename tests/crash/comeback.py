"""A server that goes away while a worker is at something, and comes back: one play for every kind of server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from tests.support import until

from piecework import Piecework

AWAY, BACK = "the store is not available, trying again until it is", "the store is available again"


class Body:
    """A task that begins and waits to be let go."""

    def __init__(self, app: Piecework) -> None:
        self.begun, self.go, self.runs = threading.Event(), threading.Event(), 0

        @app.task(name="held", retry=0)
        def held(n: int) -> int:
            self.runs += 1
            self.begun.set()
            self.go.wait(20)
            return 2 * n

        self.task = held


class Strike(Protocol):
    """Ends the server, and launches it again once the worker has met that; `meanwhile` is done before."""

    def __call__(self, meanwhile: Callable[[], None] = ...) -> None: ...


# What a worker is at when the server ends: it prepares that, strikes, and returns a job whose task is given 4.
Phase = Callable[[Piecework, Body, Strike], Any]


def while_idle(app: Piecework, body: Body, strike: Strike) -> Any:
    strike()
    return body.task.later(4)


def while_running(app: Piecework, body: Body, strike: Strike) -> Any:
    job = body.task.later(4)
    assert body.begun.wait(10)
    strike()
    return job


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


def comes_back(
    app: Piecework,
    caplog: pytest.LogCaptureFixture,
    phase: Phase,
    end: Callable[[], None],
    launch: Callable[[], None],
) -> None:
    """It costs the worker nothing but time: no run, no attempt, and not its session."""
    body = Body(app)
    with app.worker(concurrency=2):
        (session,) = until(app.store.sessions, "it is enlisted")

        def strike(meanwhile: Callable[[], None] = lambda: None) -> None:
            end()
            meanwhile()
            until(lambda: said(caplog, AWAY), "the worker has met it")
            launch()

        job = phase(app, body, strike)
        body.go.set()
        assert job.result(timeout=20) == 8
        assert body.task.later(5).result(timeout=20) == 10
        until(lambda: said(caplog, BACK), "it is told")
        beat = app.store.sessions()[0].beat
        until(lambda: app.store.sessions()[0].beat > beat, "it goes on beating")
        assert [s.id for s in app.store.sessions()] == [session.id], "the worker began anew"
    assert (body.runs, job.record().run, job.attempts()) == (2, 1, [])
