"""Where a run of an operation is on its plan, and what is called there: worked out once for all operations that come by.

What is known of a place depends on the plan, the cursor and the call's own options, and on nothing else of the operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from piecework.errors import BadArguments, StoreError
from piecework.job import Fetched, Record
from piecework.operation import OperationSpec, StepSpec
from piecework.options import TaskOptions, effective
from piecework.outcome import Outcome, Park, Release
from piecework.plan import OTHER_PLAN, Place, Plan, Undoing, read_cursor, read_plan
from piecework.registry import TaskSpec
from piecework.stepping import OTHER_STATE
from piecework.store.protocol import Store
from piecework.walk import Walk

MAX_SPOTS, MAX_PLANS = 20_000, 1000  # kept in memory; then they are worked out anew


class Spot(msgspec.Struct, frozen=True, eq=False):
    """A place on a plan, as this worker's code knows it.

    `step` is what is called: the step, or its undo; None while it is looked for what is to be undone, and where a step is
    skipped, or is not run because the operation is to be undone.
    """

    operation: OperationSpec
    plan: Plan
    place: Place | Undoing
    step: StepSpec | None
    walk: Walk
    options: TaskOptions
    is_async: bool
    splits: bool
    plan_text: str | None = None  # for a process, which does not ask the store for it
    renamed: Mapping[str, str] = {}  # today's names of steps to those that this plan has


class Older(NamedTuple):
    """A plan that is not the code's: as it is stored, and read."""

    text: str
    plan: Plan


class Spots:
    """Every place that operations came to in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spots: dict[tuple[str, str, str | None, str, bool], Spot] = {}
        self._older: dict[str, Older] = {}  # by their digests

    def spot(self, job: Fetched, spec: TaskSpec, plan_text: str | None = None) -> Spot | Outcome:
        """Where a job's run is; or what it comes to, where this worker cannot run it. Raises `ValueError` for options
        that cannot be read.
        """
        operation, run = spec.operation, job.operation
        if operation is None:
            return Park(f"{spec.name!r} is no operation in this worker's code")
        if run is None or job.cursor is None:
            return Park(f"{spec.name!r} is an operation in this worker's code, and the job is none")
        ends = run.ending is not None
        key = run.digest, job.cursor, job.options, spec.name, ends
        known = self._spots.get(key)
        if known is not None and known.operation is operation:
            return known
        try:
            older = self._older_plan(run.digest, operation, plan_text)
            found = _spot(operation, older, job.cursor, effective(spec.options, job.options), ends=ends)
        except StoreError as error:
            return Release(str(error))
        except BadArguments as error:
            return Park(str(error))
        if len(self._spots) >= MAX_SPOTS:
            self._spots.clear()
        self._spots[key] = found
        return found

    def could_run(self, record: Record, spec: TaskSpec) -> Spot | None:
        """Where a parked operation is, if this worker's code can go on with it. Raises `ValueError` as `spot` does."""
        kept = self._store.operations([record.id])
        if spec.operation is None or record.cursor is None or not kept:
            return None
        try:
            older = self._older_plan(kept[0].digest, spec.operation)
            ends = kept[0].ending is not None
            if older is not None and not ends and (record.reason or "").startswith(OTHER_PLAN):
                return None  # its step would run, and jump there again
            if (record.reason or "").startswith(OTHER_STATE) and not spec.signature.reads(kept[0].globals):
                return None
            return _spot(spec.operation, older, record.cursor, effective(spec.options, record.options), ends=ends)
        except BadArguments:
            return None

    def _older_plan(self, digest: str, operation: OperationSpec, text: str | None = None) -> Older | None:
        """The plan that an operation began with, where that is not the one of the code; `text`, where it is known.

        Read once, for a plan may be long. Raises `BadArguments`.
        """
        if digest == operation.digest and text is None:
            return None
        known = self._older.get(digest)
        if known is not None:
            return known
        text = text or self._store.plan(digest)
        if text is None:
            raise BadArguments(f"the plan that it began with ({digest}) is not in the store")
        try:
            older = Older(text, read_plan(text))
        except msgspec.MsgspecError as error:
            raise BadArguments(f"the plan that it began with cannot be read: {error}") from error
        if len(self._older) >= MAX_PLANS:
            self._older.clear()
        self._older[digest] = older
        return older


def _spot(operation: OperationSpec, older: Older | None, cursor: str, own: TaskOptions, *, ends: bool) -> Spot:
    """Raises `BadArguments` with the reason for which an operation is parked.

    One that ends as soon as it is undone does not run the step where it is, also where the code does not know that.
    """
    plan = operation.plan if older is None else older.plan
    place = read_cursor(cursor)
    if not isinstance(place, Undoing) and not plan.has_place(place):
        raise BadArguments(f"its plan has no step {place.branch}/{place.step}")
    walk = Walk(operation, plan, place, own.queue, own.priority)
    if isinstance(place, Undoing) or place.skipping or (ends and not place.undoing):  # no step is called, known or not
        options = msgspec.structs.replace(own, pool="thread", timeout=None)
        return Spot(operation, plan, place, None, walk, options, is_async=False, splits=isinstance(place, Undoing))
    step = called(operation, place)
    options = msgspec.structs.replace(own, **step.options)
    task = step.task
    splits = step.kind == "pieces" or (task is not None and task.is_split)
    if splits or step.kind == "wait":
        options = msgspec.structs.replace(options, pool="thread")  # it talks to the store, or calls nothing
    is_async = step.kind == "async" or (task is not None and task.is_async)
    if older is None:
        return Spot(operation, plan, place, step, walk, options, is_async, splits)
    renamed = _renamed(operation, plan)
    return Spot(operation, plan, place, step, walk, options, is_async, splits, older.text, renamed)


def called(operation: OperationSpec, place: Place) -> StepSpec:
    """The step, or the undo, that is called at a place. Raises `BadArguments` where the code has none."""
    step = operation.step(place.step)
    if step is None:
        raise BadArguments(
            f"unknown step {place.step!r}: the operation {operation.name!r} has no step of that name in this worker's code"
        )
    if not place.undoing:
        return step
    if step.undo is None:
        raise BadArguments(f"the step {place.step!r} has no undo in this worker's code")
    return step.undo


def _renamed(operation: OperationSpec, plan: Plan) -> dict[str, str]:
    """Today's names of steps, and the names that they have on a plan of before."""
    return {new: old for old, new in operation.aliases.items() if plan.has_step(old) and not plan.has_step(new)}
