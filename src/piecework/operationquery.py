"""Questions to the stored operations, and what is done to all that answer: `fulfil.where(subscription_id=7).retry()`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from piecework.alike import FailureKind, FailureKinds, StepCount, StepCounts
from piecework.bringback import BringBack
from piecework.byhand import RETRIABLE, UNFINISHED, why_and_who
from piecework.changed import Changed
from piecework.deeds import Made, Many, Refusals, editing, jumping, skipping, unsetting
from piecework.documents import signal_payload
from piecework.errors import BadArguments, JobNotFound, UsageError
from piecework.ids import new_id
from piecework.job import FINISHED, Filter, NewSignal, OperationRecord, Record, State
from piecework.operations import Operation
from piecework.paging import pages
from piecework.plan import Place, read_cursor
from piecework.start import asked, plain_part
from piecework.terms import contains, term

if TYPE_CHECKING:
    from piecework.app import Piecework

S = TypeVar("S")

_plain = msgspec.json.Decoder().decode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

ALL = tuple(State)
PAGE = 200
BITE = 500  # operations that a verb reads at once, and changes in as few trips as the store allows
ENDED = frozenset({*FINISHED, State.PARKED}) - {State.COMPLETED}  # in which none moves on by itself, and few are


class OperationQuery(Generic[S]):
    """Some operations: iterate over them in order of arrival, count them, or act on each.

    A verb takes what its fellow of `Operation` takes, and answers how many it changed; those that it does not fit stay
    as they are, and the answer's `refused` says why. Each that it changed keeps a line of it: who, when and why.
    """

    def __init__(
        self,
        app: Piecework,
        names: Sequence[str] | None,
        part: Mapping[str, Any],
        state: State | None = None,
        step: str | None = None,
        *,
        among: Sequence[State] = ALL,
        until: float | None = None,
        tell: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._app = app
        self._names = names
        self._part: dict[str, Any] = plain_part(part, app.settings.max_payload)
        self._terms = tuple(term(key, value) for key, value in self._part.items())
        self._state = state
        self._step = step
        self._until = until
        self._before = None if until is None else math.nextafter(until, math.inf)
        self._among = tuple(state for state in among if self._state in (None, state))
        self._tell = tell

    def only(self, *, state: State | str | None = None, step: str | None = None) -> OperationQuery[S]:
        """Those of them that are in a state, or at a step. Raises `UsageError` for a state that does not exist."""
        try:
            wanted = self._state if state is None else State(state)
        except ValueError:
            raise UsageError(f"no state {state!r}; the states are {', '.join(State)}") from None
        if step is not None and not isinstance(step, str):
            raise BadArguments(f"only: step must be the name of a step, not {step!r:.100}")
        return OperationQuery(
            self._app,
            self._names,
            self._part,
            wanted,
            self._step if step is None else step,
            among=self._among,
            until=self._until,
            tell=self._tell,
        )

    def among(
        self, states: Sequence[State], *, until: float | None = None, tell: Callable[[int], None] = lambda done: None
    ) -> OperationQuery[S]:
        """Those of them that are in some states, and had arrived at a moment of the store's time.

        `tell` hears from verbs how many they have done.
        """
        return OperationQuery(
            self._app, self._names, self._part, self._state, self._step, among=states, until=until, tell=tell
        )

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def __iter__(self) -> Iterator[Operation[S]]:
        for record in self._records():
            yield Operation(self._app, record.id, record)

    def page(self, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Operation[S]]:
        """One page, in order of arrival or the reverse, beginning behind the operation `after`."""
        names = self._each_name()
        which = self._filter(names[0] if len(names) == 1 else None, self._state)
        pages = self._pages(which, after=after, newest=newest)
        found = (record for page in pages for record in page if self._is_named(record))
        return [Operation(self._app, record.id, record) for record in islice(found, limit)]

    def first(self) -> Operation[S] | None:
        """The oldest, or None."""
        return next(iter(self), None)

    def count(self) -> int:
        """How many there are."""
        if self._step is not None or any(isinstance(value, list | dict) for value in self._part.values()):
            return sum(1 for _ in self._records())
        some: Sequence[State | None] = [None] if len(self._among) == len(ALL) else self._among
        return sum(self._app.store.count(self._filter(name, state)) for name in self._each_name() for state in some)

    def counts(self) -> list[StepCount]:
        """How many of them stand where: by name, state and step, for what they wait, and since when.

        Of those that have not completed, unless they are asked for: ``only(state="completed")``. It reads them state by
        state, a page at a time: one that goes from one state to another meanwhile may be counted twice, or not at all.

        Example: ``[(at.status, at.count) for at in fulfil.where(batch="may").counts()]``
        """
        counts, store = StepCounts(self._app.store.now()), self._app.store
        for page in self._surveyed([state for state in State if state is not State.COMPLETED]):
            asked = [record.id for record in page if record.state in counts.NEED]
            counts.add(page, {one.id: one for one in store.operations(asked)} if asked else {})
        return counts.told()

    def failures(self) -> list[FailureKind]:
        """What went wrong with them: failures that are alike counted together, the most frequent first.

        Of those that failed or are parked; or of those in the state that is asked for, as ``only(state="available")``
        for what will be tried again. It reads them once, a page at a time.

        Example: ``[(kind.step, kind.error, kind.message, kind.count) for kind in fulfil.where().failures()]``
        """
        kinds = FailureKinds()
        for page in self._surveyed((State.FAILED, State.PARKED)):
            kinds.add(page)
        return kinds.told()

    async def acount(self) -> int:
        """`count`, awaited."""
        return await self._app.edge.call(self.count)

    async def afirst(self) -> Operation[S] | None:
        """`first`, awaited."""
        return await self._app.edge.call(self.first)

    def _filters(self, states: Sequence[State] = ALL) -> list[Filter]:
        """What to ask the store for those in some states.

        Where these are such in which none moves on by itself, each is asked for by itself: few are in them. Else all are, in
        one go: one that moves on meanwhile would be missed, or come twice.
        """
        wanted = [state for state in states if state in self._among]
        some: Sequence[State | None] = wanted if len(wanted) <= 1 or ENDED.issuperset(wanted) else [None]
        return [self._filter(name, state) for name in self._each_name() for state in some]

    def _each_name(self) -> Sequence[str | None]:
        return [None] if self._names is None else self._names

    def _filter(self, name: str | None, state: State | None) -> Filter:
        return Filter(task=name, state=state, operations=True, terms=self._terms or None, created_before=self._before)

    def _records(self) -> Iterator[Record]:
        return chain.from_iterable(page for which in self._filters() for page in self._pages(which))

    def _surveyed(self, states: Sequence[State]) -> Iterator[list[Record]]:
        """Those in some states, or in the one that is asked for, state by state: what is passed over is not read."""
        for state in states if self._state is None else (self._state,):
            for name in self._each_name() if state in self._among else ():
                yield from self._pages(self._filter(name, state), limit=BITE)

    def _pages(
        self, which: Filter, *, after: str | None = None, newest: bool = False, limit: int = PAGE
    ) -> Iterator[list[Record]]:
        for page in pages(self._app.store, which, limit=limit, after=after, newest=newest):
            yield list(self._matching(page))

    def _is_named(self, record: Record) -> bool:
        return self._names is None or record.task in self._names

    def _matching(self, page: Sequence[Record]) -> Iterator[Record]:
        """Those of some whose globals contain what is asked for; the terms have narrowed it down, and no more."""
        there = [record for record in page if self._is_meant(record)]
        if not self._part:
            yield from there
            return
        kept = {one.id: one.globals for one in self._app.store.operations([record.id for record in there])}
        for record in there:
            if record.id in kept and contains(_plain(kept[record.id]), self._part):
                yield record

    def _is_meant(self, record: Record) -> bool:
        return record.state in self._among and (self._step is None or _is_at(record, self._step))

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def retry(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Retries those that failed, were cancelled or are parked; those that cannot come back stay as they are."""
        return self._bring_back(RETRIABLE, *why_and_who("retry", reason, by), resume=False)

    def resume(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Lets those that were cancelled go on; those that cannot come back stay as they are."""
        return self._bring_back((State.CANCELLED,), *why_and_who("resume", reason, by), resume=True)

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None, undo: bool = False) -> Changed:
        """Cancels those that have not ended; with `undo`, after what they did was undone."""
        (why, who), refusals = why_and_who("cancel", reason, by), Refusals()

        def bite(records: Sequence[Record]) -> int:
            there = self._still_at(records, refusals)
            return self._app.store.cancel(self._those(there), reason=why, by=who, undo=undo, limit=len(there))

        return self._each(bite, refusals, UNFINISHED)

    def skip(self, reason: str = "", *, by: str | None = None, resume: bool = True) -> Changed:
        """Lets each go on behind the step where it is."""
        why, who = why_and_who("skip", reason, by)
        return self._amend(skipping(who, why, resume=resume), follows=False)

    def jump_to(
        self, target: Any, step: Any = None, *, reason: str = "", by: str | None = None, resume: bool = True
    ) -> Changed:
        """Lets each go on at a branch or step; those whose plan does not have it are passed over, and are in `refused`.

        Raises `BadArguments` for what stands for no step.
        """
        why, who = why_and_who("jump_to", reason, by)
        return self._amend(jumping(self._app, target, step, who, why, resume=resume, many=True))

    def set(
        self, globals: Mapping[str, Any] | None = None, /, *, reason: str = "", by: str | None = None, **more: Any
    ) -> Changed:
        """Sets some globals of each. Raises `BadArguments` for what cannot be a global of any of the first that it finds."""
        why, who = why_and_who("set", reason, by)
        return self._amend(editing({**(globals or {}), **more}, who, why, limit=self._app.settings.max_payload))

    def unset(self, *names: str, reason: str = "", by: str | None = None) -> Changed:
        """Takes some globals away from each that has them all."""
        why, who = why_and_who("unset", reason, by)
        return self._amend(unsetting(names, who, why), lambda kept: set(names) <= _raw(kept.globals).keys())

    def signal(self, name: str, payload: Any = None, *, by: str | None = None) -> Changed:
        """Sends a signal to those that have not completed."""
        name, text = signal_payload(name, payload, self._app.settings.max_payload)
        (_, who), refusals = why_and_who("signal", "", by), Refusals()

        def bite(records: Sequence[Record]) -> int:
            there = self._still_at(records, refusals)
            sent = [(record.id, NewSignal(id=new_id(), name=name, payload=text, by=who)) for record in there]
            return sum(self._app.store.signal_many(sent))

        return self._each(bite, refusals, [state for state in State if state is not State.COMPLETED])

    def _bring_back(self, states: Sequence[State], why: str, who: str, *, resume: bool) -> Changed:
        store, refusals = self._app.store, Refusals()
        back = BringBack(
            store,
            states,
            lambda which: store.retry(which, resume=resume, by=who, reason=why, limit=BITE),
            self._those,
        )

        def bite(records: Sequence[Record]) -> int:
            there = [record for record in self._still_at(records, refusals) if record.state in states]
            return back.bite(there) if there else 0

        done = self._each(bite, refusals, states)
        refusals.take(back.told(0))
        return refusals.answer(int(done))

    def _amend(
        self, made: Made, fits: Callable[[OperationRecord], bool] | None = None, *, follows: bool = True
    ) -> Changed:
        refusals = Refusals()
        many = Many(self._app, made, self._matching, refusals, fits, follows=follows)
        return self._each(many.bite, refusals)

    def _still_at(self, records: Sequence[Record], refusals: Refusals) -> Sequence[Record]:
        """Those that are still what was asked for, for what the store itself does not fence by that."""
        if self._step is None and not self._part:
            return records
        found = self._app.store.get([record.id for record in records])
        there = list(self._matching(found))
        refusals.note_moved(found, there, self._app.store.now)
        return there

    def _those(self, records: Sequence[Record]) -> Filter:
        """These, as far as they are still in the state that is asked for."""
        return Filter(ids=tuple(record.id for record in records), state=self._state)

    def _each(
        self, bite: Callable[[Sequence[Record]], int], refusals: Refusals, states: Sequence[State] = ALL
    ) -> Changed:
        """Acts page by page, in order of arrival: what a page is left as it is hides none behind it."""
        done = 0
        for which in self._filters(states):
            for page in self._pages(which, limit=BITE):
                meant = [record for record in page if record.state in states]
                done += bite(meant) if meant else 0
                self._tell(done)
        return refusals.answer(done)


def _is_at(record: Record, step: str) -> bool:
    place = read_cursor(record.cursor or "")
    return isinstance(place, Place) and step in (place.step, place.name)


class Operations:
    """All operations that are stored, whatever their name: ``app.operations.where(customer="acme").count()``."""

    def __init__(self, app: Piecework) -> None:
        self._app = app

    def where(self, globals: Mapping[str, Any] | None = None, /, **more: Any) -> OperationQuery[Any]:
        """The operations whose globals contain these; see `OperationTask.where`."""
        return OperationQuery(self._app, None, asked(globals, more))

    def get(self, id: str) -> Operation[Any]:
        """A stored operation. Raises `JobNotFound`, also for the id of another job."""
        found = self._app.store.find(Filter(ids=(id,), operations=True))
        if not found:
            raise JobNotFound(f"no operation {id}: it never existed, was pruned, or is a job of another kind")
        return cast(Operation[Any], self._app.handle(id, found[0]))

    def __iter__(self) -> Iterator[Operation[Any]]:
        return iter(self.where())
