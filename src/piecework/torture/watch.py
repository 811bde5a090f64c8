"""Watches a torture while it runs: how far it is, and when the machine itself stood still."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from piecework.torture.chaos import Nemesis
from piecework.torture.load import Load

TICK = 0.01  # seconds between two looks at the clock
STALL = 0.05  # a look that comes so much too late was kept waiting by the machine
SHOW_SECONDS = 0.5


class Now(msgspec.Struct, frozen=True):
    """How far a torture is."""

    phase: str
    seconds: float
    stored: int
    finished: int
    killed: int
    killed_trees: int
    frozen: int


class Watch:
    """Looks at the clock while it waits. A look that comes late is a stall: no waiting process could run then."""

    def __init__(self, load: Load, nemesis: Nemesis, show: Callable[[Now], None]) -> None:
        self._load = load
        self._nemesis = nemesis
        self._show = show
        self._began = time.monotonic()
        self._finished = 0
        self._moved_at = self._began
        self.load = 0.0  # the highest
        self.stalls: list[tuple[float, float]] = []

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def still(self) -> float:
        """Seconds since a job ended."""
        return time.monotonic() - self._moved_at

    def until(self, phase: str, condition: Callable[[], bool]) -> None:
        """Waits for a condition, and shows how far things are."""
        self._moved_at = shown_at = time.monotonic()
        while not condition():
            self._tick()
            if self._load.finished != self._finished:
                self._finished, self._moved_at = self._load.finished, time.monotonic()
            if time.monotonic() - shown_at >= SHOW_SECONDS:
                shown_at = time.monotonic()
                self.show(phase)

    def show(self, phase: str) -> None:
        load, nemesis = self._load, self._nemesis
        self.load = max(self.load, os.getloadavg()[0])
        self._show(
            Now(phase, self.seconds(), load.stored, load.finished, nemesis.killed, nemesis.killed_trees, nemesis.frozen)
        )

    def _tick(self) -> None:
        due = time.monotonic() + TICK
        time.sleep(TICK)
        now = time.monotonic()
        if now - due > STALL:
            self.stalls.append((due, now))
