"""A small piece of memory on which a worker process writes which jobs it is running, so that its supervisor can read them
after the process is gone, whatever ended it. Only jobs on the slate are charged with a crash."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import tempfile

WIDTH = 64  # bytes for one slot: an id is 36, the last 16 say until when it may run and in which order it was written
_TAIL = struct.Struct(">dQ")


class Slate:
    """`slots` places for ids, in memory that two processes share through an open file without a name."""

    def __init__(self, handle: int, slots: int) -> None:
        self.handle = handle
        self.slots = slots
        self._order = itertools.count(1)
        self._memory = mmap.mmap(handle, slots * WIDTH)

    @classmethod
    def create(cls, slots: int) -> Slate:
        """A new, empty slate. Its file is gone from the folder at once, so that no crash leaves one behind."""
        with tempfile.TemporaryFile(prefix="piecework-") as file:
            file.truncate(slots * WIDTH)
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
