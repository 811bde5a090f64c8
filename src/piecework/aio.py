"""The awaitable edge: blocking verbs on a small pool of threads of its own, waiting on the caller's loop.

Never the loop's default executor, which user code may fill; and a wait sleeps on the loop instead of parking a thread.
A call that has to wait for what a stranger holds steps aside: it keeps its thread, and another call takes its place.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from piecework.aside import stepping

T = TypeVar("T")

THREADS = 8  # calls at work at a time
ASIDE = 64  # calls that have stepped aside; one more is told so instead


class Edge:
    """One app's bounded pool of threads for async callers."""

    def __init__(self) -> None:
        self._threads: _Threads | None = None
        self._pid = os.getpid()

    async def call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Runs a blocking function on the pool and awaits its answer. Context variables travel along."""
        if self._threads is None or self._pid != os.getpid():
            self._threads, self._pid = _Threads(), os.getpid()
        context = copy_context()
        return await asyncio.wrap_future(self._threads.submit(lambda: context.run(function, *args, **kwargs)))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()
            self._threads = None


class _Threads:
    """The threads of one process, and the line of calls that wait for a place on them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS + ASIDE, thread_name_prefix="piecework-aio")
        self._lock = threading.Lock()
        self._line: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._working = 0
        self._aside = 0
        self._closed = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """The call's answer, once it had its turn; one that is cancelled before is not called."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the app was closed at this very moment")
            self._line.append((future, call))
            self._begin()
        return future

    def close(self) -> None:
        """Takes no more calls; those in the line are made all the same."""
        with self._lock:
            self._closed = True
            for future, call in self._line:
                self._pool.submit(self._answer, future, call)
            self._line.clear()
            self._pool.shutdown(wait=False)

    def _begin(self) -> None:
        """Begins what has a place now. The lock is held."""
        while self._line and self._working < THREADS:
            self._working += 1
            self._pool.submit(self._run, *self._line.popleft())

    def _run(self, future: Future[Any], call: Callable[[], Any]) -> None:
        stepped = False

        def step() -> bool:
            nonlocal stepped
            with self._lock:
                if not stepped and self._aside < ASIDE:
                    stepped = True
                    self._working, self._aside = self._working - 1, self._aside + 1
                    self._begin()
                return stepped

        try:
            with stepping(step):
                self._answer(future, call)
        finally:
            with self._lock:
                self._working, self._aside = self._working - (not stepped), self._aside - stepped
                self._begin()

    def _answer(self, future: Future[Any], call: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            answer = call()
        except BaseException as error:
            future.set_exception(error)
            del future  # which has the error, whose traceback has this frame
        else:
            future.set_result(answer)


async def pause(seconds: float) -> None:
    """Sleeps on the loop."""
    await asyncio.sleep(seconds)
