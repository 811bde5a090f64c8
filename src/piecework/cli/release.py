"""What the code of a release would do to the operations that a store has: the part of `piecework check` about them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from piecework.ahead import Ahead, ahead, lost_undos
from piecework.amending import status_of, was_undone
from piecework.cli.common import Progress, counted
from piecework.errors import BadArguments
from piecework.job import Filter, Finding, OperationRecord, Record, State
from piecework.operation import OperationSpec
from piecework.paging import pages
from piecework.plan import Place, Plan, read_cursor, read_plan
from piecework.registry import Registry
from piecework.store import Store
from piecework.trail import COMPLETED, UNDONE

STATES = State.WAITING, State.RUNNING, State.AVAILABLE, State.PARKED, State.FAILED  # that have steps before them
PAGE = 500
NAMED = 20  # operations of each name that are told by their ids; the others are counted, by their trouble
LISTED = 10  # steps that are told by their names in a sentence
PLANS = 1000  # plans that are kept at a time


class Trouble(msgspec.Struct, frozen=True):
    """What some operations have in common: their name, and what the code does not know of their way.

    `undoing`: they lack the `undos` now, and not only if they should fail.
    """

    name: str
    declared: bool = True
    missing: tuple[str, ...] = ()
    jumps: tuple[str, ...] = ()
    undos: tuple[str, ...] = ()
    astray: tuple[str, ...] = ()
    undoing: bool = False
    misfit: str = ""

    @property
    def breaks(self) -> bool:
        """Whether they cannot go to their end; else it depends on what comes."""
        return not self.declared or self.undoing or bool(self.missing or self.astray or self.misfit)


def operations_findings(registry: Registry, store: Store) -> Iterator[Finding]:
    """A finding for each operation that would be parked by this code, and one for each kind of trouble, with a count.

    Memory is bounded by the kinds of trouble, however many operations there are.
    """
    return _Look(registry, store).findings()


class _Look:
    """One look at all operations that have not completed."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self._now = store.now()
        self._plans: dict[str, Plan | None] = {}
        self._ways: dict[tuple[Any, ...], Ahead] = {}
        self._seen = self._older = 0
        self._troubles: dict[Trouble, int] = {}
        self._told: dict[Trouble, int] = {}  # how many of them were told by their ids …
        self._named: dict[str, int] = {}  # … and of each name, whatever their trouble

    def findings(self) -> Iterator[Finding]:
        """The findings, as they are made."""
        progress = Progress("operations looked at")
        for records in self._pages():
            kept = {one.id: one for one in self._store.operations([record.id for record in records])}
            for record in records:
                if record.id in kept and record.cursor is not None:
                    yield from self._judge(record, kept[record.id], record.cursor)
            progress.tell(self._seen)
        progress.end()
        yield from self._summary()

    def _pages(self) -> Iterator[list[Record]]:
        for state in STATES:
            yield from pages(self._store, Filter(state=state, operations=True), limit=PAGE)

    def _judge(self, record: Record, kept: OperationRecord, cursor: str) -> Iterator[Finding]:
        self._seen += 1
        plan = self._plan(kept.digest)
        code = self._code(record.task)
        if plan is None:
            yield self._of(record, kept, "its plan is not in the store: somebody deleted it there")
            return
        try:
            found = self._ahead(code, plan, cursor, record, kept)
        except BadArguments as error:
            yield self._of(record, kept, str(error))
            return
        undos = self._undos_behind(record.id, lost_undos(code, plan))
        broken = self._broken(record, kept, code, found, undos)
        if broken.breaks:
            yield from self._note(record, kept, broken, code)
        self._older += found.changed and not broken.breaks
        if undos and not broken.undoing:
            self._count(Trouble(record.task, undos=undos))
        if found.jumps and not broken.breaks:
            self._count(Trouble(record.task, jumps=found.jumps))

    def _ahead(
        self, code: OperationSpec | None, plan: Plan, cursor: str, record: Record, kept: OperationRecord
    ) -> Ahead:
        """What is before an operation; worked out once for all that are at the same place."""
        wait = kept.wait if kept.received is None else None
        over = wait is not None and record.state in (State.AVAILABLE, State.RUNNING)
        place = read_cursor(cursor)
        at = (place.branch, place.step, place.undoing, place.skipping) if isinstance(place, Place) else None
        key = record.task, kept.digest, at, wait, over, kept.ending is None
        if key not in self._ways:
            if len(self._ways) >= PLANS:
                self._ways.clear()
            undoing = kept.ending is not None
            self._ways[key] = ahead(code, plan, cursor, wait=wait, over=over, undoing=undoing)
        return self._ways[key]

    def _broken(
        self, record: Record, kept: OperationRecord, code: OperationSpec | None, found: Ahead, undos: tuple[str, ...]
    ) -> Trouble:
        """What keeps an operation from its end, if something does."""
        if code is None:
            return Trouble(record.task, declared=False)
        if was_undone(record):
            return Trouble(record.task)
        if found.undoing and (lost := tuple(dict.fromkeys([*found.missing, *undos]))):
            return Trouble(record.task, undos=lost, undoing=True)
        if found.breaks:
            return Trouble(record.task, missing=found.missing, astray=found.astray)
        return Trouble(record.task, misfit=self._misfit(record.task, kept, code))

    def _misfit(self, name: str, kept: OperationRecord, code: OperationSpec) -> str:
        """The name of the state that the code declares, where the globals do not fit it."""
        if code.state is None or self._registry[name].signature.reads(kept.globals):
            return ""
        return code.state.__qualname__

    def _note(
        self, record: Record, kept: OperationRecord, trouble: Trouble, code: OperationSpec | None
    ) -> Iterator[Finding]:
        self._count(trouble)
        if self._named.get(record.task, 0) < NAMED:
            self._named[record.task] = self._named.get(record.task, 0) + 1
            self._told[trouble] = self._told.get(trouble, 0) + 1
            yield self._of(record, kept, _what(trouble, code))

    def _of(self, record: Record, kept: OperationRecord, what: str) -> Finding:
        where = status_of(record, kept, self._now)
        return Finding("error", f"operation {record.id}", f"{record.task}, {where}: {what}")

    def _undos_behind(self, id: str, lost: frozenset[str]) -> tuple[str, ...]:
        """Those of these steps that an operation has completed, and could be asked to undo."""
        behind: dict[str, set[int]] = {}
        after = -1
        while lost and (page := self._store.attempts(id, after=after, limit=PAGE)):
            for line in page:
                place = read_cursor(line.cursor) if line.cursor is not None else None
                if isinstance(place, Place) and place.step in lost and line.outcome == COMPLETED:
                    behind.setdefault(place.step, set()).add(place.visit)
                elif isinstance(place, Place) and line.outcome == UNDONE:
                    behind.get(place.step, set()).discard(place.visit)
            after = page[-1].run
        return tuple(sorted(step for step, visits in behind.items() if visits))

    def _count(self, trouble: Trouble) -> None:
        self._troubles[trouble] = self._troubles.get(trouble, 0) + 1

    def _code(self, name: str) -> OperationSpec | None:
        spec = self._registry.get(name)
        return None if spec is None else spec.operation

    def _plan(self, digest: str) -> Plan | None:
        if digest not in self._plans:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            text = self._store.plan(digest)
            self._plans[digest] = None if text is None else read_plan(text)
        return self._plans[digest]

    def _summary(self) -> Iterator[Finding]:
        for trouble, n in self._troubles.items():
            subject = f"operations {trouble.name}"
            told = self._told.get(trouble, 0)
            if trouble.breaks and n > told:
                many = f"… and {n - told:,} more" if told else counted(n, "operation")
                yield Finding("error", subject, f"{many}: {_what(trouble, self._code(trouble.name))}")
            elif not trouble.breaks:
                how = _undos(trouble) if trouble.undos else _jumps(trouble)
                yield Finding("warning", subject, f"{counted(n, 'operation')} would be parked {how}")
        if self._seen:
            older = (
                f"; {self._older:,} of them {_one(self._older, 'finishes', 'finish')} on an older plan"
                if self._older
                else ""
            )
            yield Finding("ok", "operations", f"{self._seen:,} not ended or failed{older}")


def _one(n: int, one: str, many: str) -> str:
    return one if n == 1 else many


def _what(trouble: Trouble, code: OperationSpec | None) -> str:
    """What is wrong, and what to do about it."""
    if not trouble.declared or code is None:
        return (
            f"this code declares no operation {trouble.name!r}, so it would be parked; declare it, name it among the "
            f'aliases= of another (aliases=["{trouble.name}"]), or let it end first'
        )
    if trouble.undoing:
        lost = trouble.undos
        return (
            f"it is being undone, and this code has no undo for the {_listed(lost)} before it, so it would be parked there; "
            f"keep {_one(len(lost), 'it', 'them')} with the undo among retired, such as "
            f"retired=[step({lost[0]}, undo=…)], or let those that are under way end first"
        )
    if trouble.misfit:
        return (
            f"its globals do not fit the state {trouble.misfit} of this code, so it would be parked at a step that reads "
            "that; give new fields a default, or set what is missing (piecework operations set)"
        )
    if not trouble.missing:
        return (
            f"its plan has no {' or '.join(trouble.astray)}, to which a wait before it leads in this code, so it would be "
            "parked there when no signal comes in time; keep the branch and step of that name for it, or let those that "
            "are under way end first"
        )
    steps = _listed(trouble.missing)
    return (
        f"this code does not have the {steps} before it, so it would be parked there; if it was renamed, "
        f"{_renamed(trouble.missing, code)}; else keep it with retired=[{_some(trouble.missing)}], or let those that are under "
        "way end first"
    )


def _renamed(missing: Sequence[str], code: OperationSpec) -> str:
    near = difflib.get_close_matches(missing[0], code.plan.steps(), n=1)
    new = near[0] if near else "new_name"
    return f'say step({new}, aliases=["{missing[0]}"])'


def _listed(names: Sequence[str]) -> str:
    left = len(names) - LISTED
    return f"step{'' if len(names) == 1 else 's'} {_some(names)}{f' and {left:,} more' if left > 0 else ''}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")


def _undos(trouble: Trouble) -> str:
    return (
        f"if they failed or were cancelled with undo: they have completed the {_listed(trouble.undos)}, whose undo this "
        f"code does not have; give it one, or keep the step with its undo among retired"
    )


def _jumps(trouble: Trouble) -> str:
    return (
        f"if a step should jump to the {_listed(trouble.jumps)}, which this code does not have; "
        f"retired=[{_some(trouble.jumps)}] provides for that"
    )
