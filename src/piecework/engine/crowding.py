"""More jobs for processes than there are processes: others may stand behind them in the line, and a deeper look finds them."""

from __future__ import annotations

from piecework.clock import Clock
from piecework.engine.pools import Pools

CROWDED_SECONDS = 0.5  # how long nothing is fetched after more jobs for processes came than there are processes …
FIRST_DEPTH, DEEPEST = 50, 1000  # … and how many jobs are then looked at, for others behind them


class Crowding:
    """What one worker's pools had no room for, and what follows for its fetching."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        self._pools = pools
        self._clock = clock
        self._until = 0.0
        self.depth = 0  # how far to look behind jobs for which no process is free

    def judge(self, *, came: bool) -> bool:
        """Whether the pools were crowded by what was just given to them; `came` says that something new was among it."""
        if self._pools.crowded:
            self._until = self._clock.monotonic() + CROWDED_SECONDS
            self.depth = min(DEEPEST, max(FIRST_DEPTH, 2 * self.depth))
            return True
        if came:
            self.depth = 0
        return False

    def forbids(self) -> bool:
        """Whether fetching would most likely bring more jobs for processes, none of which is free."""
        if not self._pools.crowded or self._clock.monotonic() >= self._until:
            return False
        return not self._pools.has_room_again()
