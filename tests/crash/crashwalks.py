"""What became of operations in the crash ring: the ledger of their steps joined with the lines that the store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from crashsteps import SILENT, UNDOES

from piecework.plan import Place, read_cursor
from piecework.store import Store
from piecework.testing.walks import PASSED, Deed, Walked, wrongs


class Entry(Protocol):
    """A record of the ledger; its kind is the cursor of a place."""

    what: str
    kind: str
    run: int
    at: float


def walked(store: Store, id: str, entries: Iterable[Entry]) -> Walked:
    """An operation as the store and the ledger know it."""
    (record,), (kept,) = store.get([id]), store.operations([id])
    deeds = [Deed("begin" if e.what == "start" else "end", e.kind, e.run) for e in entries]
    return Walked(record, kept, store.attempts(id), store.amendments(id), deeds, UNDOES, SILENT)


def wrong_walk(store: Store, id: str, entries: list[Entry]) -> Iterator[str]:
    """Everything that breaks a promise, one sentence each."""
    found = walked(store, id, entries)
    name = f"{found.record.task} {id}"
    if not found.record.state.finished:
        yield f"{name} is lost: it is {found.record.state} at {found.record.cursor}"
    for sentence in wrongs(found):
        yield f"{name}: {sentence}"
    yield from (f"{name}: {sentence}" for sentence in _by_time(found, entries))
    yield from (f"{name}: {sentence}" for sentence in _of_batches(store, found))


def _by_time(found: Walked, entries: Iterable[Entry]) -> Iterator[str]:
    """Nothing was begun when its end, or that of a step behind it, had been recorded."""
    passed, undone = found.at(*PASSED), found.at("undone")
    for entry in entries:
        place = read_cursor(entry.kind)
        assert isinstance(place, Place)
        last = (undone if place.undoing else passed).get(place.visit)
        if last is not None and entry.what == "start" and entry.at > last.finished_at:
            yield f"{entry.kind} was begun by run {entry.run} after run {last.run} had been recorded as {last.outcome}"
        before = passed.get(place.visit - 1)
        if not place.undoing and place.visit > found.before + 1 and not found.moved:
            if before is None:
                yield f"{entry.kind} was begun, and the step before it never ended"
            elif entry.at < before.finished_at - 0.001:
                yield f"{entry.kind} was begun before the end of the step before it had been recorded"


def _of_batches(store: Store, found: Walked) -> Iterator[str]:
    """The pieces of each of its steps were joined once, all of them."""
    for line in found.at("completed").values():
        place = read_cursor(line.cursor or "")
        if isinstance(place, Place) and place.composing:
            batch = store.batch(f"{found.record.id}/{place.visit}")
            if batch is None or (str(batch.state), batch.sealed, batch.open) != ("done", True, 0):
                yield f"{line.cursor} was completed, and its batch is {batch}"


def wrong_attempts(found: Walked) -> Iterator[str]:
    """A crash spends no attempt: a visit has as many as its bodies raised, and one."""
    for outcome in ("completed", "undone"):
        for visit, line in found.at(outcome).items():
            raised = sum(other.outcome == "retry" and other.cursor == line.cursor for other in found.lines)
            if line.attempt != raised + 1:
                yield f"visit {visit} was {outcome} in attempt {line.attempt}, and {raised} before it raised"


def told(op: Any) -> list[str]:
    """The steps that were completed, by name, in order."""
    return [run.name for run in op.runs() if run.outcome == "completed"]
