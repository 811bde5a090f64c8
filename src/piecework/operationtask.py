"""Operations as they are declared: called they run now, `later` stores one, `where` and `get` find those that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from piecework.codec import MAX_PAYLOAD, ResultCodec
from piecework.declare import apart, declare
from piecework.documents import with_changes
from piecework.errors import BadArguments, BadOption, Duplicate, DuplicateTask, JobNotFound
from piecework.errortext import shown
from piecework.ids import new_id, new_ids
from piecework.inline import run_now
from piecework.job import Change, Filter, NewJob, NewOperation
from piecework.operation import OperationSpec
from piecework.operationquery import OperationQuery
from piecework.operations import Operation
from piecework.options import CallKeywords, CallOptions, call_options, overrides_of
from piecework.plan import Place, Plan
from piecework.registry import TaskSpec, task_name
from piecework.split import Piece
from piecework.start import Globals, as_changes, asked
from piecework.task import Task, expires_of

if TYPE_CHECKING:
    from piecework.app import Piecework

P = ParamSpec("P")
S = TypeVar("S")

_PLAIN = CallOptions()


class OperationKeywords(CallKeywords, total=False):
    """The options of an operation's `using`, as type checkers see them."""

    again: bool


class OperationTask(Task[P, S, S], Generic[P, S]):
    """A declared operation. Calling it runs all its steps now; `later` stores it, to be walked by workers step by step.

    Made by `Piecework.operation`. It takes its globals by name, or those of its declared state.
    """

    def __init__(self, app: Piecework, spec: TaskSpec, options: CallOptions = _PLAIN, again: bool = False) -> None:
        super().__init__(app, spec, options)
        self._again = again
        assert spec.operation is not None
        self._operation: OperationSpec = spec.operation
        self._globals = cast(Globals, spec.signature)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    @property
    def plan(self) -> Plan:
        """Its branches and the names of their steps, as new ones walk them."""
        return self._operation.plan

    # ── now ──────────────────────────────────────────────────────────────────────────────────────

    @overload
    def __call__(self, state: S, /) -> S: ...
    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> S: ...

    def __call__(self, /, *args: Any, **kwargs: Any) -> S:
        """Runs all steps now, in this thread, and returns the globals that they come to, or the declared state.

        Jumps, branches, splits and size limits are as later; no step is tried again, and no delay is waited for. When a
        step raises, what was done is undone, newest first, and the error propagates. Raises `UsageError`, before
        anything runs, for an operation that has a step which waits for a signal, and at the step that says so by itself.
        """
        return cast(S, self._spec.function(*args, **kwargs))

    # ── later ────────────────────────────────────────────────────────────────────────────────────

    def using(self, **options: Unpack[OperationKeywords]) -> OperationTask[P, S]:
        """The same operation with options for the starts that follow; they are those of `Task.using`.

        `queue`, `priority`, `attempts`, `retry` and `timeout` hold for every step that does not say otherwise. `at` and
        `delay` say when the first step begins. An operation keeps its `key` when it has ended: a second start with it gives
        that one, unless ``again=True``, which starts anew where the one that has the key has ended.
        Raises `BadOption`.

        Example: ``fulfil.using(key="order-7", queue="low").later(subscription_id=1)``
        """
        said: dict[str, Any] = dict(options)
        again = said.pop("again", self._again)
        if not isinstance(again, bool):
            raise BadOption(f"{self.name}.using: again must be True or False, not {again!r:.100}")
        return type(self)(self._app, self._spec, call_options(said, self._options, f"{self.name}.using"), again)

    def with_options(self, options: CallOptions) -> OperationTask[P, S]:
        """The same operation with these very options for its starts."""
        return type(self)(self._app, self._spec, options, self._again)

    @overload
    def later(self, state: S, /) -> Operation[S]: ...
    @overload
    def later(self, /, *args: P.args, **kwargs: P.kwargs) -> Operation[S]: ...

    def later(self, /, *args: Any, **kwargs: Any) -> Operation[S]:
        """Stores an operation with these globals, and returns a handle to it.

        Globals are plain values by name, or those of the declared state, whose object may be given as it is. Raises
        `BadArguments` (or `NotSerializable`, `TooLarge`) for what cannot be a global; nothing is stored then. Raises
        `Duplicate` where the key is carried by a job of another kind, and with ``on_duplicate="raise"`` by any other.
        """
        job = self._new_job(new_id(), args, kwargs)
        (stored,) = self._app.add([job], **self._where())
        if stored != job.id:
            self._is_ours(stored, job.key)
        return Operation(self._app, stored)

    @overload
    async def alater(self, state: S, /) -> Operation[S]: ...
    @overload
    async def alater(self, /, *args: P.args, **kwargs: P.kwargs) -> Operation[S]: ...

    async def alater(self, /, *args: Any, **kwargs: Any) -> Operation[S]:
        """`later`, awaited. With `within`, an asynchronous connection's statements are awaited too."""
        if self._options.after_commit is not None:
            return self.later(*args, **kwargs)  # nothing is asked of the store yet; the session is this thread's
        if self._options.within is None:
            return await self._app.edge.call(self.later, *args, **kwargs)
        job = self._new_job(new_id(), args, kwargs)
        (stored,) = await self._app.aadd([job], within=self._where()["within"])
        if stored != job.id:
            await self._app.edge.call(self._is_ours, stored, job.key)
        return Operation(self._app, stored)

    def later_many(self, calls: Iterable[Any]) -> list[Operation[S]]:  # type: ignore[override]
        """Stores many operations at once, all or none. Each is a dict of its globals, or an object of the state.

        Example: ``fulfil.later_many([{"subscription_id": 1}, {"subscription_id": 2}])``
        """
        return [Operation(self._app, id) for id in self._app.add(self._new_jobs(calls), **self._where())]

    async def alater_many(self, calls: Iterable[Any]) -> list[Operation[S]]:  # type: ignore[override]
        """`later_many`, awaited. With `within`, an asynchronous connection's statements are awaited too."""
        if self._options.after_commit is not None:
            return self.later_many(calls)
        if self._options.within is None:
            return await self._app.edge.call(self.later_many, calls)
        stored = await self._app.aadd(self._new_jobs(calls), within=self._where()["within"])
        return [Operation(self._app, id) for id in stored]

    @overload
    def piece(self, state: S, /) -> Piece[S]: ...
    @overload
    def piece(self, /, *args: P.args, **kwargs: P.kwargs) -> Piece[S]: ...

    def piece(self, /, *args: Any, **kwargs: Any) -> Piece[S]:
        """The operation as a piece, for a splitter to yield or a batch to add; its result is its globals at the end.

        Nothing is stored by making one.
        """
        self._piece_options()
        job = self._new_job("", args, kwargs)
        assert job.operation is not None
        return Piece(
            job.task,
            job.args,
            job.queue,
            job.priority,
            job.run_at,
            job.delay,
            job.key,
            job.options,
            job.expires,
            job.expires_at,
            job.operation,
            job.identity,
            job.tags,
        )

    # ── those that are stored ────────────────────────────────────────────────────────────────────

    def where(self, globals: Mapping[str, Any] | None = None, /, **more: Any) -> OperationQuery[S]:
        """The operations of this name whose globals contain these; all of them without any.

        Of an object a subset of its keys is enough, of a list a subset of its items, in any order; scalars are equal and
        of one type: 7 is not "7". Raises `BadArguments` for what cannot be a global: also for a name that is no field of a
        declared state which forbids others. Of any other state, and without one, steps may set globals of any name, so that a
        name which no operation has is no error: it finds none.

        Example: ``fulfil.where(subscription_id=7).first()``
        """
        names = self._app.registry.names_of(self.name)
        return OperationQuery(self._app, names, self._globals.part(asked(globals, more)))

    def get(self, id: str | None = None, *, key: str | None = None) -> Operation[S]:
        """A stored operation of this name, by its id, or the last that took a unique key. Raises `JobNotFound`."""
        if (id is None) == (key is None):
            raise BadArguments(f"{self.name}.get: give an id, or key=")
        which = Filter(key=key, operations=True) if id is None else Filter(ids=(id,), operations=True)
        names = self._app.registry.names_of(self.name)
        found = [record for record in self._app.store.find(which, newest=True) if record.task in names]
        if not found:
            what = f"with the key {key!r}" if id is None else f"{id}"
            raise JobNotFound(f"no operation {self.name} {what}: it never existed, or was pruned")
        return Operation(self._app, found[0].id, found[0])

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _new_job(self, id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewJob:
        text, changes = self._globals.begin(args, kwargs, self._app.settings.max_payload)
        plan = self._operation.plan
        operation = NewOperation(plan.first.cursor, self._operation.digest, plan.text, changes, self._again)
        return self.begun(id, text, operation, plan.first)

    def _new_jobs(self, calls: Iterable[Any]) -> list[NewJob]:
        if self._options.key is not None:
            raise BadOption(f"{self.name}.later_many: one unique key cannot be carried by many; call later for each")
        jobs = []
        begins = list(calls)
        for n, (id, begin) in enumerate(zip(new_ids(len(begins)), begins, strict=True)):
            try:
                given = (begin, {}) if not isinstance(begin, Mapping) else (None, dict(begin))
                jobs.append(self._new_job(id, () if given[0] is None else (given[0],), given[1]))
            except BadArguments as error:
                raise type(error)(f"{self.name}.later_many: call {n}, {shown(begin)}: {error}") from error
        return jobs

    def begun(self, id: str, text: str, operation: NewOperation, place: Place) -> NewJob:
        """The job of an operation that begins at a place: where and when that step says, or else this start."""
        spec, said = self._spec, self._options
        step = self._operation.step(place.step)
        assert step is not None
        run_at, delay = (said.run_at, said.delay) if _said_when(said) else (step.at, step.delay)
        own = step.options
        return NewJob(
            id,
            spec.name,
            text,
            own.get("queue", said.queue or spec.options.queue),
            own.get("priority", spec.options.priority if said.priority is None else said.priority),
            run_at,
            delay,
            said.key,
            overrides_of(said, moves=True),
            expires_of(spec.options.expires, said),
            said.expires_at,
            operation=operation,
            identity=self._identity((), {}),
            tags=self._tags(),
        )

    def edited(self, text: str, values: dict[str, Any]) -> tuple[str, tuple[Change, ...]]:
        """Globals with some others in their place, as JSON text and as what a new operation begins with."""
        edits = self._globals.edits(text, values, self._app.settings.max_payload)
        after = with_changes(text, edits)
        return after, as_changes(after)

    def present_name(self, step: str) -> str:
        """The name that a step has now."""
        return self._operation.aliases.get(step, step)

    def _is_ours(self, stored: str, key: str | None) -> None:
        """Raises `Duplicate` where a key is carried by what this start may not stand for."""
        found = self._app.store.get([stored])
        if self._options.on_duplicate == "raise":
            raise Duplicate(f"operation {stored} carries the unique key {key!r}", stored)
        if found and found[0].task not in self._app.registry.names_of(self.name):
            raise Duplicate(
                f"the unique key {key!r} is carried by job {stored}, which is no operation {self.name}, but "
                f"{found[0].task}; give {self.name} keys of its own",
                stored,
            )


def _said_when(options: CallOptions) -> bool:
    return options.run_at is not None or options.delay is not None


# ── its specification ────────────────────────────────────────────────────────────────────────────


class _FinalGlobals(ResultCodec):
    """The result of an operation: its globals at the end."""

    def __init__(self, globals: Globals) -> None:
        self._globals = globals

    def encode(self, value: Any, limit: int = MAX_PAYLOAD) -> str | None:
        """The globals as JSON text."""
        return self._globals.begin((value,), {}, limit)[0]

    def decode(self, text: str | None) -> Any:
        """The globals, or the declared state."""
        return None if text is None else self._globals.value(text)


def declared_operation(app: Piecework, name: str, bare: tuple[Any, ...], main: Any, more: dict[str, Any]) -> TaskSpec:
    """What `Piecework.operation` was given, as a task of the registry. Raises `BadOption` and `DuplicateTask`."""
    where = f"the operation {name!r}"
    if bare:
        raise BadOption(f"{where}: steps are given as branches, and never bare; say main=[first_step, …]")
    own = {key: more.pop(key) for key in ("branches", "state", "max_steps", "retired") if key in more}
    branches, options = apart(main, own.pop("branches", None), more, where)
    operation = declare(name, branches, options, **own)
    if name in app.registry:
        raise DuplicateTask(f"{name!r} is declared already; an operation is declared once, under a name of its own")
    globals = Globals(name, operation.state)

    def run(*args: Any, **kwargs: Any) -> Any:
        text, _ = globals.begin(args, kwargs, app.settings.max_payload)
        return globals.value(run_now(app, operation, text))

    run.__name__ = run.__qualname__ = task_name(run, name, "operation")
    run.__doc__ = f"The operation {name}."
    return TaskSpec(name, run, operation.options, globals, _FinalGlobals(globals), operation=operation)
