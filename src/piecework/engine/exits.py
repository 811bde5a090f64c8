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


def leave_signals_to_the_supervisor() -> None:
    """Lets the signals pass that mean the whole group: Ctrl-C, and what a service manager sends to each of its processes.

    With a handler that does nothing, not by ignoring them: the programs that a job starts would ignore them, too.
    Alarms that a job left behind end nobody.
    """
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGVTALRM", "SIGPROF"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _pass_by)


def _pass_by(number: int, frame: object) -> None:
    """A signal that is somebody else's to follow."""


def die_with_parent() -> None:
    """Asks Linux to kill this process when the thread that started it ends; elsewhere the socket's end must do."""
    if os.name != "posix":
        return
    import ctypes

    try:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        log.debug("no prctl here")
