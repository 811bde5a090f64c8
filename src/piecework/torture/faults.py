"""What was done to the workers, as read from the ledger: when which process was killed or stood still."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from piecework.torture.ledger import Entry, Kind

WHOLE = frozenset({Kind.KILLED_TREE, Kind.STOPPED, Kind.RELEASED_LOCK})  # what holds up more than one process
KILLS = frozenset({Kind.KILLED_CHILD, Kind.KILLED_BELOW, Kind.KILLED_TREE})
ONE_KILL = 0.1  # seconds in which the processes of one killed tree are written down


class Faults:
    """The kills and stops of one torture.

    A process id may be given twice by the system; the times tell which is meant.
    """

    def __init__(self, stalls: Sequence[tuple[float, float]] = ()) -> None:
        self._kills: dict[int, list[Entry]] = defaultdict(list)
        self._stops: dict[int, list[float]] = defaultdict(list)
        self._whole: list[float] = []  # moments at which something was done to a whole tree
        self._stalls = stalls  # from, to: the machine itself stood still

    def add(self, entry: Entry) -> None:
        if entry.kind in KILLS:
            self._kills[entry.pid].append(entry)
        if entry.kind is Kind.STOPPED:
            self._stops[entry.pid].append(entry.at)
        if entry.kind in WHOLE:
            self._whole.append(entry.at)

    def kill_of(self, pid: int, after: float) -> Entry | None:
        """The kill that ended the process which was alive at a moment."""
        return next((kill for kill in self._kills.get(pid, ()) if kill.at >= after), None)

    def stopped(self, pid: int, before: float) -> bool:
        """Whether a process had been made to stand still."""
        return any(at <= before for at in self._stops.get(pid, ()))

    def others(self, kill: Entry, end: float) -> bool:
        """Whether something was done to a whole tree between a kill and a moment, beside that very kill."""
        return any(
            kill.at < at <= end for at in self._whole if kill.kind is not Kind.KILLED_TREE or at - kill.at > ONE_KILL
        )

    def machine(self, begin: float, end: float) -> float:
        """For how many seconds of a stretch the machine itself did not let a waiting process run."""
        return sum(max(0.0, min(end, b) - max(begin, a)) for a, b in self._stalls)
