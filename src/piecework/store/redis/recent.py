"""What this process has told the server lately, kept in case the server has lost it: a replica took over, or its machine died.

An end that was lost would leave its job running for a worker that has long forgotten it. So whenever a connection leads
to another server than before, or another life of it, the last ends are sent again, in their order: to one that has them
they say nothing new.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from piecework.outcome import Settlement

SECONDS = 5.0  # of success that are kept; a server loses two at most
MOST_BYTES = 16 << 20  # of results


class Recent:
    """The ends of the last seconds in which the server answered."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int, Sequence[Settlement]]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def note(self, settlements: Sequence[Settlement]) -> None:
        """Keeps what was acknowledged just now. While the server is away nothing grows old."""
        if not settlements:
            return
        now, size = time.monotonic(), sum(len(settlement.result or "") for settlement in settlements)
        with self._lock:
            self._kept.append((now, size, settlements))
            self._bytes += size
            while self._kept[0][0] < now - SECONDS or self._bytes > MOST_BYTES:
                self._bytes -= self._kept.popleft()[1]
                if not self._kept:
                    break

    def all(self) -> list[Sequence[Settlement]]:
        """What is kept, the oldest first."""
        with self._lock:
            return [settlements for _, _, settlements in self._kept]
