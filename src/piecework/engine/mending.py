"""Puts right what jobs may not leave behind in a process that they share: its folder, and its standard streams."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("piecework.worker")


def keep_standard_streams() -> None:
    """Fills the places of stdin, stdout and stderr where a job has closed them.

    The system gives the next file or socket the lowest number that is free: it would be piecework's own that the next
    job closes in the belief that it is stdin.
    """
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            log.warning("a job had closed the process's standard stream %d; it is the null device now", handle)


def go_home(home: str) -> None:
    """Makes a folder the current one again; it is the whole process's, and a job may have changed it, or deleted it."""
    try:
        if os.getcwd() == home:
            return
    except OSError:  # it is in a folder that is gone
        log.debug("the current folder does not exist any more")
    try:
        os.chdir(home)
        log.warning("a job had changed the current folder, which is that of all jobs here; it is %s again", home)
    except OSError as error:
        log.warning("cannot go back to %s: %s", home, error)


class SteadyLogger(logging.Logger):
    """A logger whose callers never get an error from it, whatever handlers a job has left behind."""

    def callHandlers(self, record: logging.LogRecord) -> None:
        try:
            super().callHandlers(record)
        except Exception:  # there is nobody left to tell
            return


def steady_loggers() -> None:
    """Makes piecework's own loggers steady, in a process that is piecework's: its loops must not end by a log line."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("piecework.") and type(logger) is logging.Logger:
            logger.__class__ = SteadyLogger
