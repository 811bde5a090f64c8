"""Ids made by the client: UUIDs of version 7 (RFC 9562 §5.7), in time order even within a millisecond.

Made by the client so that an enqueue may be sent twice; in time order because random keys make a B-tree six times
slower.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_COUNTER_BITS = 42  # of the 74 free bits; the other 32 are random per process, drawn again after a fork


class _Source:
    """A counter below the millisecond, so that ids of one process never repeat or go back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._random = random.Random(os.urandom(32))
        self._node = self._random.getrandbits(32)
        self._millis = 0
        self._count = 0

    def begin_anew(self) -> None:
        """For a forked child, whose parent's other threads are gone with what they held."""
        self._lock = threading.Lock()

    def take(self, n: int) -> list[str]:
        with self._lock:
            if os.getpid() != self._pid:
                self._reset()
            millis = time.time_ns() // 1_000_000
            if millis > self._millis:
                self._millis = millis
                self._count = self._random.getrandbits(32)
            first = self._count
            self._count += n
            millis, node = self._millis, self._node
        return _format(millis, node, range(first, first + n))

    def token(self) -> str:
        return os.urandom(8).hex()[:12]


class _Counted(_Source):
    """Ids and tokens that are numbers in a row."""

    def _reset(self) -> None:
        self._count = 0
        self._tokens = 0

    def take(self, n: int) -> list[str]:
        self._count += n
        return _format(0, 0, range(self._count - n + 1, self._count + 1))

    def token(self) -> str:
        self._tokens += 1
        return f"{self._tokens:012x}"


def _format(millis: int, node: int, counts: range) -> list[str]:
    """The 48 bits of time, the version, 42 bits of count around the variant, 32 bits of node."""
    time_hex, node_hex = f"{millis:012x}", f"{node:08x}"
    head = f"{time_hex[:8]}-{time_hex[8:]}-7"
    found: list[str] = []
    start = counts.start
    while start < counts.stop:  # what does not change in the next 65,536 is written once
        high = start >> 16
        stop = min(counts.stop, (high + 1) << 16)
        upper = f"{head}{high >> 14:03x}-{0x8000 | high & 0x3FFF:04x}-"
        found += [f"{upper}{count & 0xFFFF:04x}{node_hex}" for count in range(start, stop)]
        start = stop
    return found


_source = _Source()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _source.begin_anew())


def new_id() -> str:
    """One new id, as the usual 36 characters."""
    return _source.take(1)[0]


def new_ids(n: int) -> list[str]:
    """`n` new ids in order; one trip to the clock for all of them."""
    return _source.take(n)


def short_token() -> str:
    """Twelve random characters, for a session: one life of a worker's supervisor."""
    return _source.token()


@contextmanager
def counted() -> Iterator[None]:
    """Makes every id and token of this process a number in a row while the block runs.

    For a simulation, of which each run must be like the last. Never for jobs that are to be kept: they would collide.
    """
    global _source
    before, _source = _source, _Counted()
    try:
        yield
    finally:
        _source = before
