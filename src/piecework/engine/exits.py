"""How processes end: their exit codes in words, and the ties between a process and the one that started it."""

from __future__ import annotations

import logging
import os
import signal

log = logging.getLogger("piecework.engine")


def exit_in_words(code: int) -> str:
    """An exit code as `subprocess` gives it, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def die_with_parent() -> None:
    """Asks Linux to kill this process when the thread that started it ends; elsewhere the socket's end must do."""
    if os.name != "posix":
        return
    import ctypes

    try:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        log.debug("no prctl here")
