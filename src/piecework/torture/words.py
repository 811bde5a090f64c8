"""The words of the verdict."""

from __future__ import annotations

from enum import StrEnum


class Word(StrEnum):
    """Everything that can be wrong, in the order in which it is printed."""

    LOST = "lost"
    AGAIN = "run after completion"
    TWICE = "recorded twice"
    COMPOSE = "compose not exactly one"
    STEP_AGAIN = "completed step run again"
    FORKED = "operation went on twice"
    UNDO = "undo not whole"
    STUCK = "stuck"
    ACCEPTED = "stale write accepted"
    WRONG = "ended wrongly"
    COUNTS = "counters differ from rows"
    PROCESSES = "processes not in order"
    SLOW = "run again too late"
