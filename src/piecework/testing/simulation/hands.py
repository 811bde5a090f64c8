"""Somebody who has operations in hand: edits their globals, moves them, has them undone, and pauses their queue."""

from __future__ import annotations

import json

import msgspec

from piecework.errors import StoreUnavailable
from piecework.ids import new_id
from piecework.job import Amendment, Change, Filter
from piecework.plan import Place, Undoing, read_cursor
from piecework.store.protocol import Store
from piecework.testing.simulation.oracle import Oracle
from piecework.testing.simulation.stage import Stage

DEEDS = (*["edited"] * 10, *["pause"] * 4, "skipped", "jumped", "undo", "cancel", "retry")
BURST = 5  # edits in a row, so that some meet a settlement between two tries


class Hands:
    """Does many things in a short time, each once: what is not answered is left, and looked at anew."""

    def __init__(self, stage: Stage, store: Store, oracle: Oracle, queue: str, acts: int) -> None:
        self._stage = stage
        self._store = store
        self._oracle = oracle
        self._queue = queue
        self._acts = acts

    def run(self) -> None:
        for _ in range(self._acts):
            self._stage.sleep(0.4 * self._stage.random.random())
            strollers = [id for id in self._oracle.acknowledged if id in self._oracle.footprints]
            if not strollers:
                continue
            try:
                self._act(self._stage.random.choice(DEEDS), self._stage.random.choice(strollers[-2:]))
            except StoreUnavailable:
                continue

    def _act(self, what: str, id: str) -> None:
        which, store = Filter(ids=(id,)), self._store
        if what == "pause":
            store.pause(self._queue)
            self._stage.sleep(0.1 * self._stage.random.random())
            store.pause(self._queue, False)
        elif what == "undo":
            store.cancel(which, reason="it was to be undone", by="somebody", undo=True)
        elif what == "cancel":
            store.cancel(which, reason="it was to be cancelled", by="somebody")
        elif what == "retry":
            store.retry(which, by="him")
        elif what == "edited":
            for _ in range(BURST):
                self._amend(id, what)
                self._stage.sleep(0.1 * self._stage.random.random())
        else:
            self._amend(id, what)

    def _amend(self, id: str, what: str) -> None:
        """Sets a global that steps set too, skips a step, or lets an operation jump; as it was seen a moment ago."""
        found = self._store.get([id])
        cursor = found[0].cursor if found else None
        if cursor is None:
            return
        there, said = read_cursor(cursor), Amendment(id=new_id(), what=what, by="him")
        if what == "edited":
            said = msgspec.structs.replace(said, changes=(Change("mark", json.dumps(said.id)),))
        elif what == "jumped":
            visit = self._last_visit(id, there) + 1
            place = self._stage.random.choice((Place("main", "close", visit), Place("side", "detour", visit)))
            said = msgspec.structs.replace(said, cursor=place.cursor, onward=True)
        elif isinstance(there, Undoing):
            return
        else:
            there = msgspec.structs.replace(there, composing=False, skipping=not there.undoing)
            behind = Undoing(there.visit) if there.undoing else there
            said = msgspec.structs.replace(said, cursor=behind.cursor)
        if what != "edited" and self._stage.random.random() < 0.5:
            said = msgspec.structs.replace(said, resume=True)
        self._store.amend(id, cursor, said)

    def _last_visit(self, id: str, there: Place | Undoing) -> int:
        """The highest number of a visit that was given."""
        if isinstance(there, Place) and not there.undoing:
            return there.visit
        places = [read_cursor(line.cursor or "") for line in self._store.attempts(id)]
        return max((place.visit for place in places if isinstance(place, Place)), default=0)
