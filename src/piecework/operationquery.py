"""Questions to the stored operations, and what is done to all that answer: `fulfil.where(subscription_id=7).retry()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from piecework.byhand import RETRIABLE
from piecework.changed import MOST_REFUSED, Changed
from piecework.errors import BadArguments, JobNotFound, UsageError
from piecework.job import Filter, Record, State
from piecework.operations import Operation
from piecework.plan import Place, read_cursor
from piecework.start import asked, plain_part
from piecework.terms import contains, term

if TYPE_CHECKING:
    from piecework.app import Piecework

S = TypeVar("S")

_plain = msgspec.json.Decoder().decode


PAGE = 200


class OperationQuery(Generic[S]):
    """Some operations: iterate over them in order of arrival, count them, or act on each.

    A verb takes what its fellow of `Operation` takes, and answers how many it changed; those that it does not fit stay
    as they are, as do those that have moved on from the state or step meanwhile, and the answer's `refused` says why. Each that it changed keeps a line of it: who, when and why.
    """

    def __init__(
        self,
        app: Piecework,
        names: Sequence[str] | None,
        part: Mapping[str, Any],
        state: State | None = None,
        step: str | None = None,
    ) -> None:
        self._app = app
        self._names = names
        self._part: dict[str, Any] = plain_part(part, app.settings.max_payload)
        self._terms = tuple(term(key, value) for key, value in self._part.items())
        self._state = state
        self._step = step

    def only(self, *, state: State | str | None = None, step: str | None = None) -> OperationQuery[S]:
        """Those of them that are in a state, or at a step. Raises `UsageError` for a state that does not exist."""
        try:
            wanted = self._state if state is None else State(state)
        except ValueError:
            raise UsageError(f"no state {state!r}; the states are {', '.join(State)}") from None
        if step is not None and not isinstance(step, str):
            raise BadArguments(f"only: step must be the name of a step, not {step!r:.100}")
        return OperationQuery(self._app, self._names, self._part, wanted, self._step if step is None else step)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def __iter__(self) -> Iterator[Operation[S]]:
        for record in self._records():
            yield Operation(self._app, record.id, record)

    def meant(self) -> Iterator[Operation[S]]:
        """The same, for what is done to each by hand: one that has moved on by then from that state or step refuses it."""
        for op in self:
            yield op if self._state is None and self._step is None else op.only_while(self._fits)

    def _fits(self, record: Record) -> bool:
        at_step = self._step is None or _is_at(record, self._step)
        return at_step and (self._state is None or record.state is self._state)

    def page(self, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Operation[S]]:
        """One page, in order of arrival or the reverse, beginning behind the operation `after`."""
        filters = self._filters()
        which = filters[0] if len(filters) == 1 else msgspec.structs.replace(filters[0], task=None)
        found = (record for record in self._walk(which, after, newest) if self._is_named(record))
        return [Operation(self._app, record.id, record) for record in islice(found, limit)]

    def first(self) -> Operation[S] | None:
        """The oldest, or None."""
        return next(iter(self), None)

    def count(self) -> int:
        """How many there are."""
        if self._step is not None or any(isinstance(value, list | dict) for value in self._part.values()):
            return sum(1 for _ in self._records())
        return sum(self._app.store.count(which) for which in self._filters())

    async def acount(self) -> int:
        """`count`, awaited."""
        return await self._app.edge.call(self.count)

    async def afirst(self) -> Operation[S] | None:
        """`first`, awaited."""
        return await self._app.edge.call(self.first)

    def _filters(self) -> list[Filter]:
        names: Sequence[str | None] = [None] if self._names is None else self._names
        terms = self._terms or None
        return [Filter(task=name, state=self._state, operations=True, terms=terms) for name in names]

    def _records(self) -> Iterator[Record]:
        for which in self._filters():
            yield from self._walk(which)

    def _walk(self, which: Filter, after: str | None = None, newest: bool = False) -> Iterator[Record]:
        while page := self._app.store.find(which, after=after, limit=PAGE, newest=newest):
            yield from self._matching(page)
            after = page[-1].id

    def _is_named(self, record: Record) -> bool:
        return self._names is None or record.task in self._names

    def _matching(self, page: Sequence[Record]) -> Iterator[Record]:
        """Those of a page whose globals contain what is asked for; the terms have narrowed it down, and no more."""
        there = [record for record in page if self._step is None or _is_at(record, self._step)]
        if not self._part:
            yield from there
            return
        kept = {one.id: one.globals for one in self._app.store.operations([record.id for record in there])}
        for record in there:
            if record.id in kept and contains(_plain(kept[record.id]), self._part):
                yield record

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def retry(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Retries those that failed, were cancelled or are parked."""
        return self._each(lambda op: op.retry(reason, by=by), RETRIABLE)

    def resume(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Lets those that were cancelled go on."""
        return self._each(lambda op: op.resume(reason, by=by), (State.CANCELLED,))

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None, undo: bool = False) -> Changed:
        """Cancels those that have not ended; with `undo`, after what they did was undone."""
        return self._each(lambda op: op.cancel(reason, by=by, undo=undo))

    def skip(self, reason: str = "", *, by: str | None = None, resume: bool = True) -> Changed:
        """Lets each go on behind the step where it is."""
        return self._each(lambda op: bool(op.skip(reason, by=by, resume=resume)))

    def jump_to(
        self, target: Any, step: Any = None, *, reason: str = "", by: str | None = None, resume: bool = True
    ) -> Changed:
        """Lets each go on at a branch or step; those whose plan does not have it are passed over, and are in `refused`.

        Raises `BadArguments` for what stands for no step.
        """

        def act(op: Operation[S]) -> bool:
            op.must_have(target, step)
            return bool(op.jump_to(target, step, reason=reason, by=by, resume=resume))

        return self._each(act)

    def set(
        self, globals: Mapping[str, Any] | None = None, /, *, reason: str = "", by: str | None = None, **more: Any
    ) -> Changed:
        """Sets some globals of each."""
        values = {**(globals or {}), **more}

        def act(op: Operation[S]) -> bool:
            op.set(values, reason=reason, by=by)
            return True

        return self._each(act)

    def unset(self, *names: str, reason: str = "", by: str | None = None) -> Changed:
        """Takes some globals away from each that has them all."""

        def act(op: Operation[S]) -> bool:
            if not set(names) <= set(op.globals):
                return False
            op.unset(*names, reason=reason, by=by)
            return True

        return self._each(act)

    def signal(self, name: str, payload: Any = None, *, by: str | None = None) -> Changed:
        """Sends a signal to those that have not completed."""
        return self._each(lambda op: op.signal(name, payload, by=by))

    def _each(self, act: Callable[[Operation[S]], bool], states: Sequence[State] = ()) -> Changed:
        """Acts on each, page by page; one that the verb does not fit hides none behind it."""
        done, left, refused = 0, 0, list[tuple[str, str]]()
        for op in self.meant():
            if states and op.known.state not in states:
                continue
            try:
                done += act(op)
            except BadArguments:  # of the call itself: it would be wrong for the others, too
                raise
            except (UsageError, JobNotFound) as error:  # of this one: it runs, it has completed, its key is taken
                left += 1
                if len(refused) < MOST_REFUSED:
                    refused.append((op.id, str(error)))
        return Changed(done, refused, left)


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
