"""A small piece of memory on which a worker process writes which jobs it is running, so that its supervisor can read them
after the process is gone, whatever ended it. Only jobs on the slate are charged with a crash.

Below them stands the worker's pulse: when its loop went round last, and when the store last answered it.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable

WIDTH = 64  # bytes for one slot: an id is 36, the last 16 say until when it may run and in which order it was written
_TAIL = struct.Struct(">dQ")
_MOMENT = struct.Struct("d")
_FOOT = 2 * _MOMENT.size  # bytes after the last slot: the pulse


class Pulse:
    """Two moments by the machine's monotonic clock, which all its processes share: the life of a worker's loop.

    It says nothing of the jobs: a loop whose threads are all busy goes round, and asks the store which of them to stop.
    """

    def __init__(
        self,
        memory: bytearray | mmap.mmap | None = None,
        start: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = bytearray(_FOOT) if memory is None else memory
        self._monotonic = monotonic
        self._turned, self._polled = start, start + _MOMENT.size

    def turn(self) -> None:
        """The loop goes round."""
        _MOMENT.pack_into(self._memory, self._turned, self._monotonic())

    def poll(self) -> None:
        """The store has answered."""
        _MOMENT.pack_into(self._memory, self._polled, self._monotonic())

    def turned_ago(self) -> float | None:
        """Seconds since the loop went round; None before it began."""
        return self._ago(self._turned)

    def polled_ago(self) -> float | None:
        """Seconds since the store answered; None before it did."""
        return self._ago(self._polled)

    def _ago(self, place: int) -> float | None:
        (moment,) = _MOMENT.unpack_from(self._memory, place)
        return max(0.0, self._monotonic() - moment) if moment else None


class Slate:
    """`slots` places for ids, in memory that two processes share through an open file without a name."""

    def __init__(self, handle: int, slots: int) -> None:
        self.handle = handle
        self.slots = slots
        self._order = itertools.count(1)
        self._memory = mmap.mmap(handle, slots * WIDTH + _FOOT)
        self.pulse = Pulse(self._memory, slots * WIDTH)

    @classmethod
    def create(cls, slots: int) -> Slate:
        """A new, empty slate. Its file is gone from the folder at once, so that no crash leaves one behind."""
        with tempfile.TemporaryFile(prefix="piecework-") as file:
            file.truncate(slots * WIDTH + _FOOT)
            return cls(os.dup(file.fileno()), slots)

    def write(self, slot: int, id: str, until: float = 0.0) -> None:
        """Notes what a slot runs, and until when it may (seconds of the monotonic clock; 0 is without end)."""
        start = slot * WIDTH
        text = id.encode().ljust(WIDTH - _TAIL.size, b"\0")
        self._memory[start : start + WIDTH] = text + _TAIL.pack(until, next(self._order))

    def clear(self, slot: int) -> None:
        self._memory[slot * WIDTH] = 0

    def read(self) -> list[str]:
        """The ids that stand on the slate, in the order in which they were written."""
        return [id for _, _, id in sorted(self._written())]

    def overdue(self, now: float) -> list[str]:
        """The ids of those that should have ended before `now`."""
        return [id for _, until, id in self._written() if 0.0 < until < now]

    def _written(self) -> list[tuple[int, float, str]]:
        slots = [self._memory[start : start + WIDTH] for start in range(0, self.slots * WIDTH, WIDTH)]
        found = []
        for slot in slots:
            if slot[0]:
                until, order = _TAIL.unpack(slot[-_TAIL.size :])
                found.append((order, until, slot[: -_TAIL.size].rstrip(b"\0").decode()))
        return found

    def close(self) -> None:
        self._memory.close()
        os.close(self.handle)
