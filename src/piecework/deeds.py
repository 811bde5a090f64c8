"""What is done to operations by hand: each deed is made of an operation as it was read, for one or for many at once.

A deed holds for the place where the operation was seen. Where that has moved on before the deed was stored, the operation
is read again, and the deed is made anew, if it still fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from piecework.amending import must_be_movable, skipped, status_of, whereabouts
from piecework.byhand import RETRIABLE, why_not_back
from piecework.changed import MOST_REFUSED, Changed
from piecework.errors import BadArguments, JobNotFound, KeyHeld, UsageError
from piecework.ids import new_id
from piecework.job import Amendment, Answer, AttemptRecord, Change, Deed, OperationRecord, Record
from piecework.plan import Place, Plan, read_cursor, read_plan
from piecework.registry import TaskSpec
from piecework.start import Globals
from piecework.stepping import branch_and_step
from piecework.trail import step_runs

if TYPE_CHECKING:
    from piecework.app import Piecework

LINES = 500
TRIES = 10  # so often a deed is made anew for an operation that moved on meanwhile


class Seen:
    """An operation as it was read; what else is needed of it is read when somebody asks. `plans` has those read before."""

    def __init__(
        self,
        app: Piecework,
        record: Record,
        kept: OperationRecord | None = None,
        plans: dict[str, Plan] | None = None,
    ) -> None:
        self._app = app
        self._kept = kept
        self._plans = {} if plans is None else plans
        self.record = record

    @property
    def kept(self) -> OperationRecord:
        """What the store keeps of it beside its job. Raises `JobNotFound`."""
        if self._kept is None:
            found = self._app.store.operations([self.record.id])
            if not found:
                raise JobNotFound(f"no operation {self.record.id}: {self.record.reason or 'it was deleted'}")
            self._kept = found[0]
        return self._kept

    @property
    def plan(self) -> Plan:
        """The plan that it walks. Raises `JobNotFound`."""
        digest = self.kept.digest
        if digest not in self._plans:
            text = self._app.store.plan(digest)
            if text is None:
                raise JobNotFound(f"the plan of operation {self.record.id} ({digest}) is not in the store")
            self._plans[digest] = read_plan(text)
        return self._plans[digest]

    @cached_property
    def spec(self) -> TaskSpec | None:
        """How the code declares it, if it does."""
        return self._app.registry.get(self.record.task)

    @property
    def codec(self) -> Globals:
        """How its globals travel."""
        if self.spec is None or self.spec.operation is None:
            return Globals(self.record.task)
        return cast(Globals, self.spec.signature)

    def name(self, target: Any) -> str:
        """The name of a step or branch on its own plan, which may have the one that it had before.

        Raises `BadArguments` for what stands for no step.
        """
        name = name_of(self.spec, self.record.task, target)
        if self.spec is None or self.spec.operation is None or name in (*self.plan.branches, *self.plan.steps()):
            return name
        before = (old for old, new in self.spec.operation.aliases.items() if new == name and old in self.plan.steps())
        return next(before, name)

    def last_visit(self) -> int:
        """The highest number of a visit that was given; also to a step that left no line, since it was split or waited
        when somebody had the operation undone.
        """
        place = read_cursor(self.record.cursor or "")
        if isinstance(place, Place) and not place.undoing:
            return place.visit
        amendments = self._app.store.amendments(self.record.id)
        by_hand = [read_cursor(at) for line in amendments for at in (line.cursor_before, line.cursor) if at]
        passed = [there.visit for there in by_hand if isinstance(there, Place)]
        runs = step_runs(self.record.args, lines_of(self._app, self.record.id), amendments)
        return max([*passed, *(run.visit for run in runs)], default=0)


def _cannot_go_on(app: Piecework, record: Record) -> str:
    return f"operation {record.id} cannot go on: {why_not_back(app.store, record)}"


def has_moved_on(record: Record, now: float) -> str:
    """Why nothing is done to an operation that was found elsewhere."""
    return f"operation {record.id} has moved on from where it was found: {status_of(record, None, now)}"


def name_of(spec: TaskSpec | None, task: str, target: Any) -> str:
    """The name of a step or branch; a function or class stands for its step. Raises `BadArguments`."""
    if isinstance(target, str):
        return str.__str__(target)
    name = None if spec is None or spec.operation is None else spec.operation.names(target)
    if name is None:
        raise BadArguments(f"{target!r:.100} is no step of {task}; give the name of a step or branch")
    return name


def lines_of(app: Piecework, id: str) -> Iterator[AttemptRecord]:
    """What is kept of the runs of an operation, a page at a time."""
    after = -1
    while page := app.store.attempts(id, after=after, limit=LINES):
        yield from page
        after = page[-1].run


# ── deeds ────────────────────────────────────────────────────────────────────────────────────────

Made = Callable[[Seen, str], Amendment]  # of an operation as it was read, and the id of the amendment


def skipping(by: str, why: str, *, resume: bool) -> Made:
    """It goes on behind the step where it is."""

    def made(seen: Seen, id: str) -> Amendment:
        _, behind = skipped(seen.record)
        return Amendment(id=id, what="skipped", by=by, reason=why, cursor=behind, resume=resume)

    return made


def jumping(app: Piecework, target: Any, step: Any, by: str, why: str, *, resume: bool, many: bool = False) -> Made:
    """It goes on at a branch or step of its plan; of `many`, one whose plan does not have it is passed over."""
    target, step = branch_and_step(target, step)

    def there(seen: Seen) -> str:
        names = seen.name(target), None if step is None else seen.name(step)
        try:
            return seen.plan.target(*names)
        except BadArguments as error:
            if not many:
                raise
            raise UsageError(f"the plan of operation {seen.record.id}: {error}") from None

    def made(seen: Seen, id: str) -> Amendment:
        place = seen.plan.at(there(seen), seen.last_visit() + 1)
        known = None if seen.spec is None else seen.spec.operation
        where: dict[str, Any] = {}
        if seen.spec is not None and known is not None:
            where = whereabouts(known, seen.spec.options, seen.record, place, app.store.now)
        return Amendment(
            id=id, what="jumped", by=by, reason=why, cursor=place.cursor, onward=True, resume=resume, **where
        )

    return made


def editing(values: Mapping[str, Any], by: str, why: str, *, limit: int) -> Made:
    """Some of its globals are set. Raises `BadArguments` without any."""
    if not values:
        raise BadArguments("set: say what to set, such as set(subscription_id=7)")
    return _edit(lambda seen: seen.codec.edits(seen.kept.globals, values, limit), by, why)


def unsetting(names: Sequence[str], by: str, why: str) -> Made:
    """Some of its globals are taken away."""
    return _edit(lambda seen: seen.codec.without(seen.kept.globals, names), by, why)


def _edit(changes: Callable[[Seen], tuple[Change, ...]], by: str, why: str) -> Made:
    def made(seen: Seen, id: str) -> Amendment:
        return Amendment(id=id, what="edited", by=by, reason=why, changes=changes(seen))

    return made


# ── for many ─────────────────────────────────────────────────────────────────────────────────────


class Refusals:
    """Which of many a verb on all of them left as they were, with the reasons of the first."""

    def __init__(self) -> None:
        self.left = 0
        self._told: list[tuple[str, str]] = []

    def note(self, id: str, why: str | Callable[[], str]) -> None:
        """One that is left as it was; a reason that has to be looked for is asked of the first alone."""
        self.left += 1
        if len(self._told) < MOST_REFUSED:
            self._told.append((id, why if isinstance(why, str) else why()))

    def note_moved(self, found: Sequence[Record], meant: Sequence[Record], now: Callable[[], float]) -> None:
        """Those of some that are not meant any more; `now` asks the store for its time."""
        still = {record.id for record in meant}
        if gone := [record for record in found if record.id not in still]:
            moment = now()
            for record in gone:
                self.note(record.id, partial(has_moved_on, record, moment))

    def take(self, changed: Changed) -> None:
        """Those that another call has left."""
        self.left += changed.left
        self._told += changed.refused[: MOST_REFUSED - len(self._told)]

    def answer(self, done: int) -> Changed:
        """What the verb answers that has changed so many."""
        return Changed(done, self._told, self.left)


class Many:
    """One deed, done to many operations, some at a time: each is read, amended, and told where it could not be.

    `still` says which of some operations that moved on are still meant, and with `follows` the deed goes after those to
    another step; `fits` says whether one is meant, by what is kept of it.
    """

    def __init__(
        self,
        app: Piecework,
        made: Made,
        still: Callable[[Sequence[Record]], Iterable[Record]],
        refusals: Refusals,
        fits: Callable[[OperationRecord], bool] | None = None,
        *,
        follows: bool = True,
    ) -> None:
        self._app = app
        self._made = made
        self._follows = follows
        self._still = still
        self._refusals = refusals
        self._fits = fits
        self._plans: dict[str, Plan] = {}
        self._began = False

    def bite(self, records: Sequence[Record]) -> int:
        """How many of these it was done to.

        Raises `BadArguments` where the first of all fit it as little as the rest of their bite: it is the call that is wrong.
        """
        ids, done, left = {record.id: new_id() for record in records}, 0, list(records)
        for _ in range(TRIES):
            deeds = self._deeds(left, ids)
            said = self._amended(deeds) if deeds else []
            done += sum(answer in (Answer.OK, Answer.ALREADY) for answer in said)
            left = self._again([one for one, answer in zip(deeds, said, strict=True) if answer is Answer.STALE])
            self._began = self._began or done > 0
            if not left:
                return done
        for record in left:
            self._refusals.note(record.id, f"operation {record.id} moves on faster than it could be changed")
        return done

    def _amended(self, deeds: Sequence[tuple[Record, Deed]]) -> list[Answer | None]:
        """What the store says of each; None for one whose key somebody holds, which is told then."""
        try:
            return list(self._app.store.amend_many([deed for _, deed in deeds]))
        except KeyHeld:  # by a transaction of somebody's that is still open: of which of them, nobody says
            return [self._amended_alone(deed) for _, deed in deeds]

    def _amended_alone(self, deed: Deed) -> Answer | None:
        try:
            return self._app.store.amend(deed.id, deed.cursor, deed.amendment)
        except KeyHeld as error:
            self._refusals.note(deed.id, str(error))
            return None

    def _deeds(self, records: Sequence[Record], ids: Mapping[str, str]) -> list[tuple[Record, Deed]]:
        kept = {one.id: one for one in self._app.store.operations([record.id for record in records])}
        deeds: list[tuple[Record, Deed]] = []
        wrong: list[tuple[str, UsageError | JobNotFound]] = []
        for record in records:
            if self._fits is not None and record.id in kept and not self._fits(kept[record.id]):
                continue
            try:
                amendment = self._made(Seen(self._app, record, kept.get(record.id), self._plans), ids[record.id])
                if amendment.cursor is not None:
                    must_be_movable(record)
                deeds.append((record, Deed(record.id, record.cursor or "", amendment)))
            except (UsageError, JobNotFound) as error:  # it runs, it has completed, it was deleted, it does not fit
                wrong.append((record.id, error))
        if wrong and not (deeds or self._began) and all(isinstance(why, BadArguments) for _, why in wrong):
            raise wrong[0][1]
        for id, why in wrong:
            self._refusals.note(id, str(why))
        return deeds

    def _again(self, stale: Sequence[tuple[Record, Deed]]) -> list[Record]:
        """Those that moved on, as they are now, where they are still meant; what cannot go on is told."""
        if not stale:
            return []
        found = {record.id: record for record in self._app.store.get([record.id for record, _ in stale])}
        moved = []
        for before, deed in stale:
            now = found.get(before.id)
            if now is None:
                continue
            same = (now.cursor, now.state, now.run) == (before.cursor, before.state, before.run)
            if same and deed.amendment.resume and now.state in RETRIABLE:
                self._refusals.note(now.id, partial(_cannot_go_on, self._app, now))
            else:
                moved.append(now)
        return self._meant(moved, {before.id: before.cursor for before, _ in stale})

    def _meant(self, moved: Sequence[Record], places: Mapping[str, str | None]) -> list[Record]:
        """Those of some that moved on which are meant all the same; the others are told."""
        meant = [now for now in self._still(moved) if self._follows or now.cursor == places[now.id]]
        self._refusals.note_moved(moved, meant, self._app.store.now)
        return meant
