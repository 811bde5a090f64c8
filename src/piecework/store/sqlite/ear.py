"""Hears that somebody writes to a file, where the system tells: inotify on Linux, nothing elsewhere.

What it hears is a hint. It may come before the write can be seen, and for a write that never will be.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
from contextlib import suppress

MODIFY = 0x2  # IN_MODIFY of <sys/inotify.h>
ENOUGH = 65536  # bytes that are read at once; what is left over is read the next time


class Ear:
    """Listens to one file, for one thread at a time, until nobody refers to it any more.

    So a thread that listens while the store is closed never listens to a number that means another file by then.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._poll = select.poll()
        self._poll.register(handle, select.POLLIN)

    @classmethod
    def on(cls, path: str) -> Ear | None:
        """Begins to listen; None where the system has no inotify, no file, or no watch left."""
        if sys.platform != "linux":
            return None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            handle = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            if handle < 0:
                return None
            if libc.inotify_add_watch(handle, os.fsencode(path), MODIFY) < 0:
                os.close(handle)
                return None
        except (OSError, AttributeError):  # a C library without it
            return None
        return cls(handle)

    def hears(self, timeout: float) -> bool:
        """Whether the file was written to since the last call; waits for it up to `timeout` seconds."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return False
        with suppress(BlockingIOError):
            os.read(self._handle, ENOUGH)
        return True

    def __del__(self) -> None:
        os.close(self._handle)
