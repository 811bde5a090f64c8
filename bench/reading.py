"""What a measurement yields, and what makes a run worthless."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

QUEUE = "default"
USER = 42
NAME = "Ada Lovelace, who asked for a monthly report on every engine that she ever described, too"


@dataclass(frozen=True)
class Reading:
    """One number of one round: jobs a second, milliseconds, or percent; with the CPU that a job took, where known."""

    value: float
    cpu: float | None = None  # microseconds for each job
    server: float | None = None  # … that the database's server took

    def served(self, seconds: float, n: int) -> Reading:
        """The same, with what the server took for `n` jobs."""
        return Reading(self.value, self.cpu, max(0.0, 1e6 * seconds / n))


class Watch:
    """The wall clock and this process's CPU, over one or several stretches: ``with watch: …``."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._cpu = 0.0

    def __enter__(self) -> Self:
        self._cpu -= time.process_time()
        self._wall -= time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall += time.perf_counter()
        self._cpu += time.process_time()

    def reading(self, n: int) -> Reading:
        """What `n` jobs took."""
        return Reading(n / self._wall, 1e6 * self._cpu / n)


class NotExact(Exception):
    """A job was lost, left over, or run more than once: the numbers of this run mean nothing."""
