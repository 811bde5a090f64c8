"""Stepping aside: a call that has to wait for long, on one of few threads, gives its place to the next one.

Who runs calls on few threads says by `stepping` what a call does that finds itself waiting; whoever waits, far below,
says so by `step_aside`, and knows nothing of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def stepping(step: Callable[[], bool]) -> Iterator[None]:
    """Inside of it, a call on this thread that has to wait for long asks `step` whether it may."""
    _here.step = step
    try:
        yield
    finally:
        del _here.step


def step_aside() -> bool:
    """Whether this call may wait for long.

    Nobody else waits for its thread then: it has given its place to the next.
    """
    step: Callable[[], bool] | None = getattr(_here, "step", None)
    return step is None or step()
