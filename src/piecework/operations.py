"""Handles to operations: where one stands, what became of its steps, and what may be done to it by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from piecework.amending import (
    awaits,
    check_why,
    must_be_movable,
    must_not_be_undone,
    skipped,
    status_of,
    step_of,
)
from piecework.byhand import RETRIABLE, whoami, why_and_who, why_not_back
from piecework.deeds import TRIES, Made, Seen, editing, has_moved_on, jumping, lines_of, name_of, skipping, unsetting
from piecework.documents import signal_payload
from piecework.errors import JobNotFound, UsageError
from piecework.forking import fork
from piecework.handle import Job
from piecework.ids import new_id
from piecework.job import (
    Amendment,
    AmendmentRecord,
    Answer,
    AttemptRecord,
    NewSignal,
    OperationRecord,
    Record,
    State,
)
from piecework.options import check_text
from piecework.overview import StepView, overview
from piecework.plan import Place, Plan, read_cursor, read_plan
from piecework.registry import TaskSpec
from piecework.start import Globals
from piecework.stepping import S
from piecework.trail import Event, StepRun, step_runs, timeline


class Operation(Job[S]):
    """A handle to one stored operation. Every property reads the store anew.

    What is done by hand leaves a line: who, when and why; `timeline()` shows it. `by` is who does it: unless given, the
    user and host of this process.

    Example::

        op = fulfil.where(subscription_id=7).first()
        op.status                     # 'failed at main/set_up'
        op.retry()                    # main/charge has completed, and is not run again
    """

    def __repr__(self) -> str:
        return f"<operation {self.id}>"

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def kept(self) -> OperationRecord:
        """What the store keeps of the operation beside its job, now. Raises `JobNotFound`."""
        found = self._app.store.operations([self.id])
        if found:
            return found[0]
        before, record = self.id, self.record()
        if self.id != before:  # its key was that of another, to which the handle leads by now
            return self.kept()
        raise JobNotFound(f"no operation {self.id}: {record.reason or f'this is a job of {record.task}'}")

    @property
    def globals(self) -> dict[str, Any]:
        """The globals as they are stored now."""
        return cast(dict[str, Any], Globals(self.id).value(self.kept().globals))

    @property
    def values(self) -> S:
        """The globals as they are stored now, as the operation's declared state; a dict without one.

        Raises `BadArguments` where they do not fit it.
        """
        return cast(S, self._globals().value(self.kept().globals))

    @property
    def at(self) -> Place | None:
        """The step where it is, or where it ended: its branch, name and visit. None while it looks for what to undo."""
        return step_of(self.record())

    @property
    def failed_at(self) -> Place | None:
        """The step that failed, where the operation has failed, also where what it did before was undone then."""
        record = self.record()
        if record.state is not State.FAILED:
            return None
        place = step_of(record)
        if place is not None:
            return place
        failed = [run.place for run in self.runs() if run.outcome == "failed" and not run.place.undoing]
        return failed[-1] if failed else None

    @property
    def waits_for(self) -> str | None:
        """The name of the signal that it waits for now."""
        wait = self.kept().wait
        return wait.name if wait is not None and awaits(self.record()) else None

    @property
    def status(self) -> str:
        """Where it stands, in a few words: "scheduled", "running main/charge", "failed at main/set_up", …"""
        return status_of(self.record(), self.kept(), self._app.store.now())

    @property
    def plan(self) -> Plan:
        """The plan that it walks: the one with which it began, whatever the code says now."""
        digest = self.kept().digest
        text = self._app.store.plan(digest)
        if text is None:
            raise JobNotFound(f"the plan of operation {self.id} ({digest}) is not in the store")
        return read_plan(text)

    @property
    def forked_from(self) -> str | None:
        """The id of the operation from which it was forked."""
        return self.kept().forked_from

    @property
    def steps(self) -> list[StepView]:
        """Its steps at a glance: those that it came to, in that order, then those of its plan that it did not.

        Example: ``[(step.name, step.state, step.attempts) for step in op.steps]``
        """
        record, store = self.record(), self._app.store
        runs = step_runs(record.args, self._lines(), self.amendments())
        return overview(record, self.plan, runs, self.amendments(), store.now())

    def runs(self) -> Iterator[StepRun]:
        """Every attempt of every step, oldest first, with its error, its changes, and the globals after it.

        They are read a page at a time. Of a step that was tried often, the first 10 and the last 100 attempts are kept.
        """
        return step_runs(self.record().args, self._lines(), self.amendments())

    def timeline(self) -> Iterator[Event]:
        """Its steps, the signals that came, and what was done by hand, by time."""
        store = self._app.store
        return timeline(self._lines(), self.amendments(), store.signals(self.id))

    def amendments(self) -> list[AmendmentRecord]:
        """What was done to it by hand, oldest first."""
        return self._app.store.amendments(self.id)

    def _lines(self) -> Iterator[AttemptRecord]:
        return lines_of(self._app, self.id)

    # ── signals ──────────────────────────────────────────────────────────────────────────────────

    def signal(self, name: str, payload: Any = None, *, by: str | None = None) -> bool:
        """Sends a signal, which is kept until a step waits for it. False where the operation has completed.

        One that failed for want of it, was cancelled or is parked takes it when it is retried. `payload` is of plain values. Raises `BadArguments` for what is not, and `JobNotFound`.
        """
        (called, text), who = signal_payload(name, payload, self._app.settings.max_payload), _who(by)
        self.kept()
        return self._app.store.signal(self.id, NewSignal(id=new_id(), name=called, payload=text, by=who))

    async def asignal(self, name: str, payload: Any = None, *, by: str | None = None) -> bool:
        """`signal`, awaited."""
        return await self._app.edge.call(self.signal, name, payload, by=by)

    # ── by hand ──────────────────────────────────────────────────────────────────────────────────

    def retry(self, reason: str = "", *, by: str | None = None) -> bool:
        """Makes a failed, cancelled or parked operation go on at the step where it is, its attempts begun anew.

        What has completed is not run again. False if it has not ended badly. Raises `UsageError` with the reason where it
        has, and cannot come back; one that was undone is forked, or jumps.
        """
        must_not_be_undone(self.record(), RETRIABLE)
        return super().retry(reason, by=by)

    def resume(self, reason: str = "", *, by: str | None = None) -> bool:
        """Lets a cancelled operation go on where it was. False if it was not cancelled.

        Raises `UsageError` with the reason where it was, and cannot come back.
        """
        must_not_be_undone(self.record(), (State.CANCELLED,))
        return super().resume(reason, by=by)

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None, undo: bool = False) -> bool:
        """Cancels the operation; a running step is asked to stop. False if it had ended.

        With `undo`, the steps that have completed are undone first, newest first, by a worker; also one that comes to its
        end all the same while it is asked to stop, and be it the last.
        """
        why, who = why_and_who("cancel", reason, by)
        return self._cancel(why, who, undo=undo)

    async def acancel(
        self, reason: str = "cancelled by its caller", *, by: str | None = None, undo: bool = False
    ) -> bool:
        """`cancel`, awaited."""
        return await self._app.edge.call(self.cancel, reason, by=by, undo=undo)

    def skip(self, reason: str = "", *, by: str | None = None, resume: bool = True) -> Place:
        """Goes on behind the step where it is, which is not run (again); returns that step.

        One that has failed, was cancelled or is parked goes on, unless ``resume=False``. Raises `UsageError` where there
        is nothing to skip: while the step runs or waits for its pieces, and when the operation has completed; and where it
        comes to another step at this very moment.
        """
        skip, found = skipping(_who(by), check_why(reason), resume=resume), list[str | None]()

        def made(seen: Seen, id: str) -> Amendment:
            if found and found[0] != seen.record.cursor:
                raise UsageError(has_moved_on(seen.record, self._app.store.now()))
            found[:] = [seen.record.cursor]
            return skip(seen, id)

        seen, _ = self._amend(made)
        return skipped(seen.record)[0]

    def jump_to(
        self, target: Any, step: Any = None, *, reason: str = "", by: str | None = None, resume: bool = True
    ) -> Place:
        """Goes on at a branch or step, as a step's own `jump_to` says it; returns that place.

        It is due after the `delay` of that step, or at its `at`. One that has failed, was cancelled or is parked goes on
        with that, unless ``resume=False``: then a retry lets it, at once. What was being undone is not undone any further.
        Raises `BadArguments` for what is not on its plan, and `UsageError` while a step runs.
        """
        self.kept()
        made = jumping(self._app, target, step, _who(by), check_why(reason), resume=resume)
        _, amendment = self._amend(made)
        return cast(Place, read_cursor(amendment.cursor or ""))

    def set(
        self, globals: dict[str, Any] | None = None, /, *, reason: str = "", by: str | None = None, **more: Any
    ) -> None:
        """Sets some globals; what steps and others set of the rest meanwhile stays.

        A step that runs has read them already. Raises `BadArguments` for what cannot be a global.
        """
        limit = self._app.settings.max_payload
        self._amend(editing({**(globals or {}), **more}, _who(by), check_why(reason), limit=limit))

    def unset(self, *names: str, reason: str = "", by: str | None = None) -> None:
        """Takes some globals away. Raises `BadArguments` where the declared state cannot be without them."""
        self._amend(unsetting(names, _who(by), check_why(reason)))

    def fork(
        self,
        globals: dict[str, Any] | None = None,
        /,
        *,
        after: Any = None,
        reason: str = "",
        by: str | None = None,
        **more: Any,
    ) -> Operation[S]:
        """Stores a new operation which begins behind a completed step of this one, with the globals that there were then.

        `after` is the number of a visit, a step of `steps()`, or a step's name or function (its last completion); without
        it, the new one begins at the beginning. Globals that are given replace those of their names. It walks the plan of
        the code as it is now. Raises `UsageError` for a step that has not completed, or behind which there is none.
        """
        who, why = _who(by), check_why(reason)
        made = fork(self._app, self, after, {**(globals or {}), **more})
        self._note("forked", f"{made}: {why}" if why else made, who)
        return Operation(self._app, made)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _amend(self, made: Made) -> tuple[Seen, Amendment]:
        """Makes an amendment of the operation as it is, and anew where it has moved on before that was stored."""
        id = new_id()
        for _ in range(TRIES):
            record = self.record()
            if record.cursor is None:
                raise UsageError(f"job {self.id} is no operation")
            seen = Seen(self._app, record)
            amendment = made(seen, id)
            if self._app.store.amend(self.id, record.cursor, amendment) is not Answer.STALE:
                return seen, amendment
            if amendment.cursor is not None:
                must_be_movable(record)
        if amendment.resume and record.state in RETRIABLE:
            raise UsageError(f"operation {self.id} cannot go on: {why_not_back(self._app.store, record)}")
        raise UsageError(f"operation {self.id} moves on faster than it could be {amendment.what}; cancel it first")

    def _note(self, what: str, reason: str, by: str | None) -> None:
        """Leaves a line of what is done to it."""
        who, why = _who(by), check_why(reason)
        self._amend(lambda _, id: Amendment(id=id, what=what, by=who, reason=why))

    def _spec(self) -> TaskSpec | None:
        return self._app.registry.get(self.task)

    def _globals(self) -> Globals:
        spec = self._spec()
        return Globals(self.task) if spec is None or spec.operation is None else cast(Globals, spec.signature)

    def name_of(self, target: Any) -> str:
        """The name of a step or branch; a function or class stands for its step. Raises `BadArguments`."""
        return name_of(self._spec(), self.task, target)

    def _result(self, record: Record) -> Any:
        return self._globals().value(self.kept().globals)


def _who(by: str | None) -> str:
    return whoami() if by is None else check_text(by, "by", longest=200)
