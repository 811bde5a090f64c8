"""A small piece of memory on which a worker process writes which jobs it is running, so that its supervisor can read them
after the process is gone, whatever ended it. Only jobs on the slate are charged with a crash."""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile

WIDTH = 64  # bytes for one slot: an id is 36, and the last 8 say in which order they were written


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

    def write(self, slot: int, id: str) -> None:
        start = slot * WIDTH
        text = id.encode().ljust(WIDTH - 8, b"\0")
        self._memory[start : start + WIDTH] = text + next(self._order).to_bytes(8, "big")

    def clear(self, slot: int) -> None:
        self._memory[slot * WIDTH] = 0

    def read(self) -> list[str]:
        """The ids that stand on the slate, in the order in which they were written."""
        slots = [self._memory[start : start + WIDTH] for start in range(0, self.slots * WIDTH, WIDTH)]
        written = sorted((slot for slot in slots if slot[0]), key=lambda slot: slot[-8:])
        return [slot[:-8].rstrip(b"\0").decode() for slot in written]

    def close(self) -> None:
        self._memory.close()
        os.close(self.handle)
