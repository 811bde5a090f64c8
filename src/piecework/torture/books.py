"""What the store says at the end of a torture, read through the seam a page at a time and kept as plain facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from piecework.job import Filter, Record, State
from piecework.plan import Place, Undoing, read_cursor
from piecework.store import Store
from piecework.torture.steps import UNDOES

PAGE = 1000


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store knows of one job, as far as the verdict asks."""

    id: str
    task: str
    state: State
    run: int
    is_split: bool = False
    batch: str | None = None
    history: tuple[int, ...] = ()  # the runs that did not complete
    wrong: str | None = None  # what is wrong with its end
    reason: str | None = None
    batch_wrong: str | None = None  # what is wrong with its own batch
    is_operation: bool = False
    steps: tuple[tuple[str, int, int], ...] = ()  # of an operation: outcome, visit and run of each line
    undoes: tuple[int, ...] = ()  # the visits of steps that have an undo
    over: bool = False  # it says that all of it was undone


def facts(store: Store, queue: str, splits: set[str], wrong: Callable[[Record], str | None]) -> Iterator[Fact]:
    """A fact for each job of a queue."""
    after: str | None = None
    while page := store.find(Filter(queue=queue), after=after, limit=PAGE):
        for record in page:
            if record.cursor is not None and "/" in record.cursor:
                yield _operation(store, record, wrong(record))
                continue
            is_split = record.task in splits
            ordinary = record.run <= 1 and not is_split
            history = () if ordinary else tuple(line.run for line in store.attempts(record.id))
            yield Fact(
                record.id,
                record.task,
                record.state,
                record.run,
                is_split,
                record.batch,
                history,
                wrong(record),
                record.reason or (record.error.message if record.error else None),
                _batch_wrong(store, record) if is_split else None,
            )
        after = page[-1].id


def _operation(store: Store, record: Record, wrong: str | None) -> Fact:
    """The fact of an operation, with a line for each run that came to an end at one of its steps."""
    lines = store.attempts(record.id)
    places = [(line, read_cursor(line.cursor or "")) for line in lines]
    steps = tuple((line.outcome, place.visit, line.run) for line, place in places if isinstance(place, Place))
    undoes = {place.visit for _, place in places if isinstance(place, Place) and place.step in UNDOES}
    there = read_cursor(record.cursor or "")
    reason = record.reason or (record.error.message if record.error else None)
    return Fact(
        record.id, record.task, record.state, record.run, batch=record.batch, wrong=wrong, reason=reason,
        is_operation=True, steps=steps, undoes=tuple(sorted(undoes)), over=isinstance(there, Undoing) and there.over,
    )  # fmt: skip


def _batch_wrong(store: Store, record: Record) -> str | None:
    """Whether a finished split's batch is closed, with counters that add up to its pieces."""
    if record.state is not State.COMPLETED:
        return None
    batch = store.batch(record.id)
    if batch is None:
        return "it completed without a batch"
    ended = batch.completed + batch.failed + batch.cancelled
    if batch.state != "done" or not batch.sealed or batch.open or ended != batch.total:
        return f"it completed, and its batch is {batch}"
    return None


def miscounted(store: Store, queue: str, found: Counter[State]) -> Iterator[str]:
    """Where the store's own counters differ from its rows, and what `repair` has to mend."""
    kept = {state: n for (line, state), n in store.counts().items() if line == queue and n}
    rows = {state.value: n for state, n in found.items()}
    if kept != rows:
        yield f"the counters say {kept}, the rows {rows}"
    for sentence in store.repair(limit=100_000):
        yield f"repair had to mend: {sentence}"
