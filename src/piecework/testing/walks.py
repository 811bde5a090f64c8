"""Judges one operation: what its steps did, joined with what the store keeps of it. Every broken promise, one sentence.

The rings of proof ask it when an operation has come to rest. A body tells of itself by deeds: that it began and that it
ended, at which place (the cursor of its step, of the joining of its pieces, or of its undo), in which run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from piecework.job import AmendmentRecord, AttemptRecord, Change, OperationRecord, Record, State
from piecework.plan import Place, Undoing, read_cursor

PASSED = ("completed", "timed out", "skipped")  # with these the operation goes on behind a step

_plain = msgspec.json.Decoder().decode


class Deed(NamedTuple):
    """What a body did: `what` is "begin" or "end"."""

    what: str
    place: str
    run: int


class Walked(NamedTuple):
    """An operation that has come to rest, with all that is known of its way."""

    record: Record
    kept: OperationRecord
    lines: Sequence[AttemptRecord]  # oldest first
    amendments: Sequence[AmendmentRecord]
    deeds: Sequence[Deed]
    undoes: Collection[str]  # the names of steps that have an undo
    silent: Collection[str] = ()  # of those whose bodies tell nothing of themselves

    def at(self, *outcomes: str) -> dict[int, AttemptRecord]:
        """The lines with these outcomes, by their visits; of two, the first."""
        found: dict[int, AttemptRecord] = {}
        for line in self.lines:
            place = read_cursor(line.cursor or "")
            if line.outcome in outcomes and isinstance(place, Place):
                found.setdefault(place.visit, line)
        return found

    @property
    def before(self) -> int:
        """The visit behind which it began: of a fork that of its source."""
        return self.kept.forked_after or 0

    @property
    def moved(self) -> bool:
        """Whether somebody moved it by hand; visits are left out then, and what was undone may be done again."""
        return any(line.cursor is not None for line in self.amendments)


def wrongs(walked: Walked) -> Iterator[str]:
    """Everything that is not as it was promised."""
    yield from _of_lines(walked)
    yield from _of_deeds(walked)
    yield from _of_position(walked)
    yield from _of_undoing(walked)
    yield from _of_globals(walked)


def _of_lines(walked: Walked) -> Iterator[str]:
    """One run has one end; a visit is completed once, and nothing becomes of it behind that."""
    runs = Counter(line.run for line in walked.lines)
    for run, n in runs.items():
        if n > 1:
            outcomes = [line.outcome for line in walked.lines if line.run == run]
            yield f"run {run} came to {' and to '.join(outcomes)}"
    passed, undone = walked.at(*PASSED), walked.at("undone")
    for line in walked.lines:
        place = read_cursor(line.cursor or "")
        if not isinstance(place, Place):
            continue
        last = (undone if place.undoing else passed).get(place.visit)
        if last is not None and line.run > last.run:
            yield f"visit {place.visit} was {last.outcome} by run {last.run}, and run {line.run} of it {line.outcome}"
    visits = [visit for visit, _ in sorted(passed.items(), key=lambda item: item[1].run)]
    if visits != sorted(visits) or (not walked.moved and visits != [walked.before + n + 1 for n in range(len(visits))]):
        yield f"its visits were completed in the order {visits}"


def _of_deeds(walked: Walked) -> Iterator[str]:
    """What was completed began and ended once, in the run that completed it, and was not begun again."""
    begun = Counter(deed.run for deed in walked.deeds if deed.what == "begin")
    for run, n in begun.items():
        if n > 1:
            yield f"run {run} was begun {n} times"
        if run > walked.record.run:
            yield f"run {run} was begun, and the store knows {walked.record.run}"
    done = Counter(Deed(deed.what, body_of(deed.place), deed.run) for deed in walked.deeds)
    passed, undone = walked.at(*PASSED), walked.at("undone")
    for deed in walked.deeds:
        place = read_cursor(deed.place)
        assert isinstance(place, Place)
        last = (undone if place.undoing else passed).get(place.visit)
        if last is not None and deed.run > last.run:
            yield f"{deed.place} was {last.outcome} by run {last.run}, and run {deed.run} of it was begun"
        if place.undoing and not _was_completed(passed.get(place.visit), deed.run):
            yield f"{deed.place} was begun by run {deed.run}, and that step had not completed"
    for line in [*walked.at("completed").values(), *undone.values()]:
        there = read_cursor(line.cursor or "")
        assert isinstance(there, Place)
        if there.step in walked.silent:
            continue
        for what in ("begin", "end"):
            times = done[Deed(what, body_of(line.cursor or ""), line.run)]
            if times != 1:
                yield f"{line.cursor} was {line.outcome} by run {line.run}, which has {times} {what}s"


def body_of(cursor: str) -> str:
    """A place as a body knows it: which lines its undo has read is not its concern."""
    place = read_cursor(cursor)
    return msgspec.structs.replace(place, run=None).cursor


def _was_completed(line: AttemptRecord | None, before: int) -> bool:
    return line is not None and line.outcome == "completed" and line.run < before


def _of_position(walked: Walked) -> Iterator[str]:
    """It stands behind the last step that completed, or at it when that was the end; and nowhere else."""
    record, passed = walked.record, walked.at(*PASSED)
    if record.cursor is None:
        yield "it has no cursor"
        return
    there = read_cursor(record.cursor)
    last = max(passed, default=walked.before)
    if record.state is State.COMPLETED:
        if not passed or passed[last].cursor != record.cursor or passed[last].run != record.run:
            yield f"it has completed at {record.cursor} by run {record.run}, and visit {last} is the last that did"
    elif walked.moved:
        return
    elif isinstance(there, Place) and there.visit == last and walked.kept.ending is not None:
        return  # asked to be undone during its last step, and cancelled before a worker took that up
    elif isinstance(there, Place) and not there.undoing and there.visit != last + 1:
        yield f"it stands at {record.cursor}, and visit {last} is the last that was completed"


def _of_undoing(walked: Walked) -> Iterator[str]:
    """What is undone was completed; the newest first, each once, and all of it where it is said that all was."""
    completed, undone = walked.at("completed"), walked.at("undone")
    to_undo = {visit: line for visit, line in completed.items() if _step(line) in walked.undoes}
    for visit, line in undone.items():
        if visit not in completed:
            yield f"visit {visit} was undone, and had not completed"
        newer = {
            other
            for other, done in to_undo.items()
            if other > visit and done.run < line.run and (other not in undone or undone[other].run > line.run)
        }
        if newer:
            yield f"visit {visit} was undone by run {line.run} before the visits {sorted(newer)}, which are newer"
    there = read_cursor(walked.record.cursor or "")
    if isinstance(there, Undoing) and there.over:
        left = sorted(visit for visit in to_undo if visit < there.before and visit not in undone)
        if left and not walked.moved:  # somebody may have skipped an undo
            yield f"it was undone, and the visits {left} were not"
        if walked.record.state not in (State.FAILED, State.CANCELLED):
            yield f"it was undone, and is {walked.record.state}"
    if walked.moved or not undone:
        return
    if walked.record.state is State.COMPLETED:
        yield f"it has completed, and the visits {sorted(undone)} were undone"
    first = min(line.run for line in undone.values())
    for deed in walked.deeds:
        if deed.run > first and not deed.place.startswith("undo/"):
            yield f"{deed.place} was begun by run {deed.run}, and run {first} had undone something"


def _step(line: AttemptRecord) -> str:
    place = read_cursor(line.cursor or "")
    assert isinstance(place, Place)
    return place.step


def _of_globals(walked: Walked) -> Iterator[str]:
    """The globals are those of the start with every change that was recorded, in its order.

    Those that somebody set by hand are left out: what of both came first, the lines do not say to the microsecond.
    """
    folded: dict[str, Any] = _plain(walked.record.args)
    fold(folded, (change for line in walked.lines for change in line.changes))
    kept = _plain(walked.kept.globals)
    edited = {change.key for line in walked.amendments for change in line.changes}
    names = sorted(key for key in {**kept, **folded} if kept.get(key) != folded.get(key) and key not in edited)
    if names:
        yield f"its globals {names} are {[kept.get(n) for n in names]}, recorded were {[folded.get(n) for n in names]}"


def fold(globals: dict[str, Any], changes: Iterable[Change]) -> None:
    """Applies changes to globals."""
    for change in changes:
        if change.value is None:
            globals.pop(change.key, None)
        else:
            globals[change.key] = _plain(change.value)
