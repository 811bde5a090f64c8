"""Bringing back many jobs by hand: what cannot come back keeps no other from it, and is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from piecework.amending import was_undone, why_undone
from piecework.byhand import why_not_back
from piecework.changed import MOST_REFUSED, Changed
from piecework.errors import KeyHeld
from piecework.job import Filter, Record, State
from piecework.store.protocol import Store


def only(records: Sequence[Record]) -> Filter:
    """These jobs."""
    return Filter(ids=tuple(record.id for record in records))


class BringBack:
    """One call of `retry` or `resume` on many. `bring` is the store's verb, for those that `those` makes of some."""

    def __init__(
        self,
        store: Store,
        states: Sequence[State],
        bring: Callable[[Filter], int],
        those: Callable[[Sequence[Record]], Filter] = only,
    ) -> None:
        self._store = store
        self._states = states
        self._bring = bring
        self._those = those
        self._refused: dict[str, str] = {}
        self._left = 0

    def bite(self, records: Sequence[Record]) -> int:
        """Brings back some, and notes which of them did not come; how many came."""
        for record in filter(was_undone, records):
            self._refuse(record, why_undone)
        return self._bite(left) if (left := [record for record in records if not was_undone(record)]) else 0

    def _bite(self, records: Sequence[Record]) -> int:
        held: set[str] = set()
        try:
            n = self._bring(self._those(records))
        except KeyHeld:  # by a transaction of somebody's that is still open: of which of them, nobody says
            n = sum(self._alone(record, held) for record in records)
        if n < len(records):
            self._note_left([record for record in records if record.id not in held])
        return n

    def told(self, done: int) -> Changed:
        """The answer to the whole call."""
        return Changed(done, list(self._refused.items()), self._left)

    def _alone(self, record: Record, held: set[str]) -> int:
        try:
            return self._bring(self._those([record]))
        except KeyHeld as error:
            held.add(record.id)
            why = str(error)
            self._refuse(record, lambda _: why)
            return 0

    def _note_left(self, records: Sequence[Record]) -> None:
        runs = {record.id: record.run for record in records}
        for record in self._store.get(list(runs)):
            if record.state in self._states and record.run == runs[record.id]:  # else it came back, and ended again
                self._refuse(record, partial(why_not_back, self._store))

    def _refuse(self, record: Record, why_not: Callable[[Record], str]) -> None:
        self._left += 1
        if len(self._refused) < MOST_REFUSED:
            self._refused[record.id] = why_not(record)
