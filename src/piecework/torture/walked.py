"""Judges one operation of a torture: the lines that the store keeps of its steps, joined with what their bodies wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from piecework.torture.books import Fact
from piecework.torture.ledger import Entry, Kind
from piecework.torture.words import Word


def wrongs(fact: Fact, entries: Sequence[Entry]) -> Iterator[tuple[Word, str]]:
    """Everything that breaks a promise of operations."""
    runs = Counter(run for _, _, run in fact.steps)
    yield from ((Word.FORKED, f"run {run} of it came to {n} ends") for run, n in runs.items() if n > 1)
    completed: dict[int, int] = {}  # visit → run
    undone: dict[int, int] = {}
    for outcome, visit, run in sorted(fact.steps, key=lambda line: line[2]):
        if outcome not in ("completed", "undone"):
            continue
        known = completed if outcome == "completed" else undone
        if visit in known:
            yield Word.FORKED, f"visit {visit} was {outcome} by run {known[visit]} and by run {run}"
        known.setdefault(visit, run)
    if list(completed) != list(range(1, len(completed) + 1)):
        yield Word.FORKED, f"its visits were completed in the order {list(completed)}"
    yield from _bodies(completed, entries, Kind.STEP_START, Kind.STEP_END)
    yield from _bodies(undone, entries, Kind.UNDO_START, Kind.UNDO_END)
    yield from _undoing(fact, completed, undone, entries)


def _bodies(recorded: dict[int, int], entries: Sequence[Entry], start: Kind, end: Kind) -> Iterator[tuple[Word, str]]:
    """Nothing begins in a run behind the one that is recorded, and that one came to its end."""
    for e in entries:
        if e.kind is start and e.run > recorded.get(e.visit, e.run):
            yield (
                Word.STEP_AGAIN,
                f"visit {e.visit} was recorded with run {recorded[e.visit]}, and run {e.run} began it",
            )
    ended = {(e.visit, e.run) for e in entries if e.kind is end}
    for visit, run in recorded.items():
        if (visit, run) not in ended:
            yield Word.LOST, f"visit {visit} is recorded with run {run}, and its body never came to its end"


def _undoing(
    fact: Fact, completed: dict[int, int], undone: dict[int, int], entries: Sequence[Entry]
) -> Iterator[tuple[Word, str]]:
    """What has an undo is undone, newest first, where it is said that all was; and nothing that had not completed."""
    for e in entries:
        if e.kind is Kind.UNDO_START and completed.get(e.visit, e.run) >= e.run:
            yield Word.UNDO, f"visit {e.visit} was being undone by run {e.run}, and had not completed"
    order = [visit for visit, _ in sorted(undone.items(), key=lambda item: item[1])]
    if order != sorted(order, reverse=True):
        yield Word.UNDO, f"its visits were undone in the order {order}"
    left = sorted(set(fact.undoes) & set(completed) - set(undone))
    if fact.over and left:
        yield Word.UNDO, f"it was undone, and the visits {left} were not"
