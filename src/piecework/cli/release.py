"""What the code of a release would do to the operations that a store has: the part of `piecework check` about them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import msgspec

from piecework.ahead import Ahead, ahead, lost_undos
from piecework.amending import status_of
from piecework.cli.common import Progress, counted
from piecework.errors import BadArguments
from piecework.job import Filter, Finding, OperationRecord, Record, State
from piecework.operation import OperationSpec
from piecework.plan import Place, Plan, read_cursor, read_plan
from piecework.registry import Registry
from piecework.store import Store
from piecework.trail import COMPLETED, UNDONE

STATES = State.WAITING, State.RUNNING, State.AVAILABLE, State.PARKED, State.FAILED  # that have steps before them
PAGE = 500
NAMED = 20  # operations of each kind of trouble that are told by their ids; the others are counted
PLANS = 1000  # plans that are kept at a time


class Trouble(msgspec.Struct, frozen=True):
    """What some operations have in common: their name, and what the code does not know of their way."""

    name: str
    declared: bool
    missing: tuple[str, ...]
    jumps: tuple[str, ...]
    undos: tuple[str, ...] = ()


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
        self._plans: dict[str, Plan | None] = {}
        self._seen = self._older = 0
        self._troubles: dict[Trouble, int] = {}

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
            after = None
            while page := self._store.find(Filter(state=state, operations=True), after=after, limit=PAGE):
                yield page
                after = page[-1].id

    def _judge(self, record: Record, kept: OperationRecord, cursor: str) -> Iterator[Finding]:
        self._seen += 1
        plan = self._plan(kept.digest)
        code = self._code(record.task)
        if plan is None:
            yield _of(record, kept, self._store, "its plan is not in the store: somebody deleted it there")
            return
        try:
            found = ahead(code, plan, cursor)
        except BadArguments as error:
            yield _of(record, kept, self._store, str(error))
            return
        self._older += found.changed and not found.breaks and code is not None
        if found.breaks:
            yield from self._note(record, kept, code, found)
        if undos := self._undos_behind(record.id, lost_undos(code, plan)):
            self._count(Trouble(record.task, True, (), (), undos))
        if found.jumps and not found.breaks and code is not None:
            self._count(Trouble(record.task, True, (), found.jumps))

    def _note(
        self, record: Record, kept: OperationRecord, code: OperationSpec | None, found: Ahead
    ) -> Iterator[Finding]:
        trouble = Trouble(record.task, code is not None, found.missing if code is not None else (), ())
        if self._count(trouble) <= NAMED:
            yield _of(record, kept, self._store, _what(trouble, code))

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

    def _count(self, trouble: Trouble) -> int:
        self._troubles[trouble] = self._troubles.get(trouble, 0) + 1
        return self._troubles[trouble]

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
            if trouble.undos:
                yield Finding("warning", subject, f"{counted(n, 'operation')} would be parked {_undos(trouble)}")
            elif trouble.jumps:
                yield Finding("warning", subject, f"{counted(n, 'operation')} would be parked {_jumps(trouble)}")
            elif n > NAMED:
                yield Finding("error", subject, f"… and {n - NAMED:,} more: {_what(trouble, self._code(trouble.name))}")
        if self._seen:
            older = (
                f"; {self._older:,} of them {_one(self._older, 'finishes', 'finish')} on an older plan"
                if self._older
                else ""
            )
            yield Finding("ok", "operations", f"{self._seen:,} not ended or failed{older}")


def _one(n: int, one: str, many: str) -> str:
    return one if n == 1 else many


def _of(record: Record, kept: OperationRecord, store: Store, what: str) -> Finding:
    where = status_of(record, kept, store.now())
    return Finding("error", f"operation {record.id}", f"{record.task}, {where}: {what}")


def _what(trouble: Trouble, code: OperationSpec | None) -> str:
    """What is wrong, and what to do about it."""
    if not trouble.declared or code is None:
        return (
            f"this code declares no operation {trouble.name!r}, so it would be parked; declare it, name it among the "
            f'aliases= of another (aliases=["{trouble.name}"]), or let it end first'
        )
    steps = _listed(trouble.missing)
    return (
        f"this code does not have the {steps} before it, so it would be parked there; if it was renamed, "
        f"{_renamed(trouble.missing, code)}; else keep it with retired=[{', '.join(trouble.missing)}], or let those that are under "
        "way end first"
    )


def _renamed(missing: Sequence[str], code: OperationSpec) -> str:
    near = difflib.get_close_matches(missing[0], code.plan.steps(), n=1)
    new = near[0] if near else "new_name"
    return f'say step({new}, aliases=["{missing[0]}"])'


def _listed(names: Sequence[str]) -> str:
    return f"step{'' if len(names) == 1 else 's'} {', '.join(names)}"


def _undos(trouble: Trouble) -> str:
    return (
        f"if they failed or were cancelled with undo: they have completed the {_listed(trouble.undos)}, whose undo this "
        f"code does not have; give it one, or keep the step with its undo among retired"
    )


def _jumps(trouble: Trouble) -> str:
    return (
        f"if a step should jump to the {_listed(trouble.jumps)}, which this code does not have; "
        f"retired=[{', '.join(trouble.jumps)}] provides for that"
    )
