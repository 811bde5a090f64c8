"""Ends the wait of a selector, for what comes from beside it: signals, and other threads."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable

log = logging.getLogger("piecework.supervisor")


class Bell:
    """Something to be registered with a selector: it rings at SIGTERM and SIGINT, and whenever a thread rings it.

    `signalled` is called for each signal, in the main thread, which makes it and closes it.
    """

    def __init__(self, signalled: Callable[[], None]) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)
        self._before = signal.set_wakeup_fd(self._rung.fileno(), warn_on_full_buffer=False)
        self._handlers = {s: signal.signal(s, lambda *_: signalled()) for s in (signal.SIGTERM, signal.SIGINT)}

    def fileno(self) -> int:
        """For the selector."""
        return self._heard.fileno()

    def ring(self) -> None:
        """May be called from any thread, and after the end."""
        try:
            self._rung.send(b"\0")
        except OSError:  # full of other reasons to wake up, or closed: it ends
            log.debug("nobody was to be woken")

    def silence(self) -> None:
        """It was heard, however often it rang."""
        self._heard.recv(4096)

    def close(self) -> None:
        """Signals go where they went before."""
        for s, handler in self._handlers.items():
            signal.signal(s, handler)
        signal.set_wakeup_fd(self._before)
        self._heard.close()
        self._rung.close()
