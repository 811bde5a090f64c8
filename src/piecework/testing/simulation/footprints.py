"""Watches operations: where each one must be, and with which globals, by what the store has said it recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from piecework.job import Amendment, Fetched, NewJob, NewSignal, OperationRun, Record, State
from piecework.outcome import Settlement
from piecework.plan import Place, read_cursor
from piecework.store.protocol import Store
from piecework.testing.simulation.strollers import SILENT, UNDOES
from piecework.testing.simulation.toys import Entry
from piecework.testing.walks import PASSED, Deed, Walked, body_of, fold, wrongs

_plain = msgspec.json.Decoder().decode


class Footprint:
    """One operation, as far as it has been recorded."""

    def __init__(self, new: NewJob) -> None:
        assert new.operation is not None
        self.globals: dict[str, Any] = {}
        fold(self.globals, new.operation.globals)
        self.script: dict[str, Any] = self.globals["script"]
        self.cursors = {new.operation.cursor}  # where it may be
        self.passed: dict[int, str] = {}  # visit → what its step came to
        self.undone: set[int] = set()
        self.amended: set[str] = set()
        self.result: dict[str, Any] = {}  # its globals when it completed
        self.moved = False
        self.signals: dict[str, str] = {}  # the id of each that was sent → its payload
        self.received: dict[str, int] = {}  # payload → the visit that got it
        self.in_vain: set[int] = set()  # visits whose wait was over in vain: a signal that comes later is not theirs


class Footprints:
    """All operations of a history; `fail` is told each broken promise at the moment at which it is seen."""

    def __init__(self, store: Store, fail: Callable[[str], None]) -> None:
        self._store = store
        self._fail = fail
        self._all: dict[str, Footprint] = {}
        self.seen: Counter[str] = Counter()  # what happened to operations: histories without it prove little

    def __contains__(self, id: str) -> bool:
        return id in self._all

    # ── what the store applied ───────────────────────────────────────────────────────────────────

    def added(self, jobs: Iterable[NewJob], ids: Iterable[str]) -> None:
        for new, id in zip(jobs, ids, strict=True):
            if new.operation is not None and new.id == id and id not in self._all:
                self._all[id] = Footprint(new)

    def recorded(self, s: Settlement) -> None:
        """A settlement that was recorded for the first time."""
        own = self._all.get(s.id)
        if own is None:
            return
        if s.advance is None:
            own.cursors |= {s.cursor} if s.cursor is not None else set()
            self.seen[f"a run {s.history or s.state}"] += 1
            return
        assert s.cursor is not None
        own.cursors = {s.cursor}
        fold(own.globals, s.advance.changes)
        if s.state is State.COMPLETED:
            own.result = dict(own.globals)
        place = read_cursor(s.advance.at)
        if isinstance(place, Place) and s.history is not None:
            self._ended(s.id, own, place, s.history)

    def sent_again(self, s: Settlement) -> None:
        """A settlement that was recorded before, or never will be: it has changed nothing."""
        own = self._all.get(s.id)
        if own is not None and (kept := self._store.operations([s.id])):
            self._same_globals(s.id, own, kept[0].globals)

    def _ended(self, id: str, own: Footprint, place: Place, history: str) -> None:
        self.seen[f"a step {history}"] += 1
        if history in PASSED:
            if place.visit in own.passed:
                self._fail(f"visit {place.visit} of {id} was {own.passed[place.visit]}, and is {history}")
            own.passed[place.visit] = history
        elif history == "undone":
            if place.visit in own.undone or own.passed.get(place.visit) != "completed":
                self._fail(f"visit {place.visit} of {id} was undone: it was {own.passed.get(place.visit)}")
            own.undone.add(place.visit)

    def amended(self, id: str, amendment: Amendment) -> None:
        """An amendment that was made for the first time."""
        own = self._all[id]
        if amendment.id in own.amended:
            self._fail(f"amendment {amendment.id} of {id} was made twice")
        own.amended.add(amendment.id)
        fold(own.globals, amendment.changes)
        self.seen[f"{amendment.what} by hand"] += 1
        if amendment.cursor is not None:
            (job,) = self._store.get([id])
            if job.state is State.RUNNING:
                self._fail(f"{id} was moved by hand to {amendment.cursor} while it ran")
            own.moved, own.cursors = True, {amendment.cursor}

    def signalled(self, id: str, signal: NewSignal) -> None:
        self._all[id].signals[signal.id] = signal.payload

    def fetched(self, job: Fetched) -> None:
        """A run is given to a worker: it must be where the last one left it, with the globals that were recorded."""
        own = self._all.get(job.id)
        if own is None:
            return
        if job.cursor not in own.cursors:
            self._fail(f"run {job.run} of {job.id} was given at {job.cursor}, and it is at {sorted(own.cursors)}")
        assert job.operation is not None
        self._same_globals(job.id, own, job.operation.globals)
        self._heard(job, own, job.operation)

    def _same_globals(self, id: str, own: Footprint, text: str) -> None:
        if _plain(text) != own.globals:
            self._fail(f"the globals of {id} are {text}, recorded were {own.globals}")

    def _heard(self, job: Fetched, own: Footprint, run: OperationRun) -> None:
        """A signal goes to one wait; and no wait comes to be over in vain while one is kept for it."""
        place = read_cursor(job.cursor or "")
        if run.wait is None or run.ending is not None or not isinstance(place, Place):
            return
        if run.received is None:
            self.seen["a wait in vain"] += 1
            if place.visit not in own.in_vain and any(
                s.name == run.wait.name and s.taken_at is None for s in self._store.signals(job.id)
            ):
                self._fail(f"the wait of {job.id} at {job.cursor} was over, and a signal is kept for it")
            own.in_vain.add(place.visit)
            return
        self.seen["a wait with a signal"] += 1
        if run.received not in own.signals.values():
            self._fail(f"{job.id} received {run.received}, which nobody sent")
        if own.received.setdefault(run.received, place.visit) != place.visit:
            self._fail(f"{job.id} received {run.received} at visit {own.received[run.received]} and at {place.visit}")

    # ── what bodies do ───────────────────────────────────────────────────────────────────────────

    def begun(self, entry: Entry) -> None:
        """A body begins: its step must be the next, and must not have come to its end."""
        own, place = self._all[entry.job], read_cursor(entry.kind)
        assert isinstance(place, Place)
        here = f"run {entry.run} of {entry.job} began {entry.kind}"
        if place.undoing:
            if own.passed.get(place.visit) != "completed" or place.visit in own.undone:
                self._fail(f"{here}, which was {'undone' if place.visit in own.undone else 'not completed'}")
        elif place.visit in own.passed:
            self._fail(f"{here}, which was {own.passed[place.visit]}")
        elif place.visit > 1 and place.visit - 1 not in own.passed and not own.moved:
            self._fail(f"{here}, and the step before it has not ended")
        if place.composing:
            self._composes(entry.job, place, own)

    def _composes(self, id: str, place: Place, own: Footprint) -> None:
        """Pieces are joined: they must be there, all of them, and settled."""
        batch, asked = self._store.batch(f"{id}/{place.visit}"), len(own.script[place.step])
        if batch is None or not batch.sealed or batch.open or batch.total != asked:
            self._fail(f"{place.cursor} of {id} began with {batch}, and its step offers {asked} pieces")

    # ── at the end ───────────────────────────────────────────────────────────────────────────────

    def judge(self, job: Record, entries: Iterable[Entry]) -> Iterator[str]:
        """Asked when everybody has left."""
        own, store = self._all[job.id], self._store
        (kept,) = store.operations([job.id])
        deeds = [Deed(entry.what, entry.kind, entry.run) for entry in entries]
        yield from wrongs(Walked(job, kept, store.attempts(job.id), store.amendments(job.id), deeds, UNDOES, SILENT))
        if _plain(kept.globals) != own.globals:
            yield f"its globals are {kept.globals}, recorded were {own.globals}"
        if job.cursor not in own.cursors:
            yield f"it stands at {job.cursor}, and was recorded at {sorted(own.cursors)}"
        taken = [signal for signal in store.signals(job.id) if signal.taken_at is not None]
        ids = [signal.id for signal in store.signals(job.id)]
        if len(set(ids)) != len(ids) or set(own.signals) - set(ids):
            yield f"of the signals {sorted(own.signals)} it has {ids}"
        if unknown := set(own.received) - {signal.payload for signal in taken}:
            yield f"it received {unknown}, which were not taken"
        if job.state is State.COMPLETED:
            yield from self._of_completed(job, own)

    def _of_completed(self, job: Record, own: Footprint) -> Iterator[str]:
        """The trail that the steps themselves laid through the globals is that of the recorded steps."""
        told = [
            body_of(line.cursor or "")
            for line in self._store.attempts(job.id)
            if line.outcome in ("completed", "undone") and _tells(read_cursor(line.cursor or ""))
        ]
        if own.globals.get("trail", []) != told:
            yield f"its steps laid the trail {own.globals.get('trail')}, recorded were {told}"
        if job.batch is None:
            return
        if _plain(job.result or "{}") != own.result:
            yield f"its result is {job.result}, its globals were {own.result} when it completed"


def _tells(place: Any) -> bool:
    return isinstance(place, Place) and place.step not in SILENT
