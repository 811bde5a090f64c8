"""The awaitable edge: blocking verbs on a small pool of threads of its own, waiting on the caller's loop.

Never the loop's default executor, which user code may fill; and a wait sleeps on the loop instead of parking a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 8


class Edge:
    """One app's bounded pool of threads for async callers."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    async def call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Runs a blocking function on the pool and awaits its answer. Context variables travel along."""
        if self._pool is None or self._pid != os.getpid():
            self._pool, self._pid = ThreadPoolExecutor(THREADS, thread_name_prefix="piecework-aio"), os.getpid()
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: context.run(function, *args, **kwargs)
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


async def pause(seconds: float) -> None:
    """Sleeps on the loop."""
    await asyncio.sleep(seconds)
