"""Tasks: functions that run now when they are called, and later when that is what the call says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast

from msgspec import UnsetType

from piecework.errors import BadArguments, BadOption, Duplicate
from piecework.errortext import shown
from piecework.handle import Job
from piecework.ids import new_id, new_ids
from piecework.job import NewJob, State
from piecework.labels import key_for
from piecework.options import CallKeywords, CallOptions, call_options, overrides_of
from piecework.registry import TaskSpec
from piecework.split import Piece
from piecework.standing import Asked

if TYPE_CHECKING:
    from piecework.app import Piecework

P = ParamSpec("P")
C = TypeVar("C")  # what a call returns: a value, or a coroutine
R = TypeVar("R")  # what the job's result is

_PLAIN = CallOptions()
_IN_NO_BATCH = (None, None, None, None)  # batch, root, ordinal, key of a piece

# Task, queue, priority, run_at, delay, the options that travel, and by when it must have been started.
_Shared = tuple[str, str, int, float | None, float | None, str | None, float | None, float | None]


class Task(Asked[P, R], Generic[P, C, R]):
    """A registered function. Calling it calls the function; `later` stores the same call as a job.

    Made by `@app.task`. Its parameters are the function's own, for type checkers too.

    Example::

        send_report(42)                                     # now
        send_report.later(42)                               # later
        send_report.using(queue="low", delay=60).later(42)  # later, and otherwise
    """

    def __init__(self, app: Piecework, spec: TaskSpec, options: CallOptions = _PLAIN) -> None:
        self._app = app
        self._spec = spec
        self._options = options
        self._shared: _Shared | None = None
        self.__wrapped__ = spec.function
        self.__doc__ = spec.function.__doc__
        self.__name__ = spec.function.__name__
        self.__qualname__ = spec.function.__qualname__
        self.__module__ = spec.function.__module__

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return cast(C, self._spec.function(*args, **kwargs))

    def using(self, **options: Unpack[CallKeywords]) -> Task[P, C, R]:
        """The same task with options for the calls that follow.

        `queue`, `priority` (lower runs sooner), `attempts`, `retry`, `timeout` (seconds) override the task's own, and
        so does `expires`: seconds after the job is due, or an aware datetime, until which it must have been begun.
        `delay` (seconds or timedelta) or `at` (aware datetime) say when. `key` is a unique key: while an unfinished job
        carries it, no second one is stored; `later` then returns the first, or raises `Duplicate` with
        ``on_duplicate="raise"``. `identity` is this call's (None: it has none), and `one_per_identity` makes a unique
        key of it; `tags` are words by which the job is found, beside the task's own. For a piece, `key` is its key in
        its batch. `within` is a connection or session of the caller's in whose transaction the job is stored: it lives
        and dies with it. `after_commit` is a session of SQLAlchemy or Django's connection, whatever the store is: the
        job is held in memory until that has committed, and forgotten when it is rolled back. Raises `BadOption`.

        Example: ``send_report.using(priority=1, delay=60).later(42)``
        """
        return self.with_options(call_options(options, self._options, f"{self.name}.using"))

    @property
    def options(self) -> CallOptions:
        """What was said of the calls of this task by `using`."""
        return self._options

    def with_options(self, options: CallOptions) -> Task[P, C, R]:
        """The same task with these very options for its calls."""
        return type(self)(self._app, self._spec, options)

    # ── later ────────────────────────────────────────────────────────────────────────────────────

    def later(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Stores the call as a job, and returns a handle to it.

        Raises `BadArguments` (or `NotSerializable`, `TooLarge`) where the arguments do not fit or cannot travel
        unchanged; nothing is stored then. Raises `StoreUnavailable` where the store could not be reached.
        """
        job = self._new_job(new_id(), args, kwargs)
        (stored,) = self._app.add([job], **self._where())
        return self._stored(job, stored)

    async def alater(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`later`, awaited. With `within`, an asynchronous connection's statements are awaited too."""
        if self._options.after_commit is not None:
            return self.later(*args, **kwargs)  # nothing is asked of the store yet; the session is this thread's
        if self._options.within is None:
            return await self._app.edge.call(self.later, *args, **kwargs)
        job = self._new_job(new_id(), args, kwargs)
        (stored,) = await self._app.aadd([job], within=self._where()["within"])
        return self._stored(job, stored)

    def later_many(self, calls: Iterable[tuple[Any, ...]]) -> list[Job[R]]:
        """Stores many calls at once, all or none. Each is the tuple of its positional arguments.

        Raises as `later` does, naming the call; and `BadOption` for a unique key, which many jobs cannot carry.

        Example: ``send_report.later_many([(1,), (2,)])``
        """
        return [Job(self._app, id) for id in self._app.add(self._new_jobs(calls), **self._where())]

    async def alater_many(self, calls: Iterable[tuple[Any, ...]]) -> list[Job[R]]:
        """`later_many`, awaited. With `within`, an asynchronous connection's statements are awaited too."""
        if self._options.after_commit is not None:
            return self.later_many(calls)
        if self._options.within is None:
            return await self._app.edge.call(self.later_many, calls)
        stored = await self._app.aadd(self._new_jobs(calls), within=self._where()["within"])
        return [Job(self._app, id) for id in stored]

    def piece(self, *args: P.args, **kwargs: P.kwargs) -> Piece[R]:
        """The call as a piece, for a splitter to yield or a batch to add. Nothing is stored by making one.

        Raises `BadArguments` as `later` does, and `BadOption` for options that are not for pieces.
        """
        self._piece_options()
        text = self._spec.signature.encode(args, kwargs, self._app.settings.max_payload)
        task, queue, priority, run_at, delay, travelling, expires, expires_at = self._common()
        key, identity, tags = self._options.key, self._identity(args, kwargs), self._tags()
        when = run_at, delay
        return Piece(task, text, queue, priority, *when, key, travelling, expires, expires_at, None, identity, tags)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _where(self) -> dict[str, Any]:
        """In whose transaction the jobs are stored, or behind which. Raises `BadOption` for what is not known then."""
        within, after_commit = self._options.within, self._options.after_commit
        if self._options.on_duplicate == "raise":
            late = "after_commit=" if after_commit is not None else "within= with an outbox"
            if after_commit is not None or (within is not None and self._app.outbox is not None):
                raise BadOption(
                    f'{self.name}: on_duplicate="raise" cannot be kept with {late}: whether the key is free is seen when the '
                    "job comes to the store, and the handle leads to the job that has it then"
                )
        return {"within": within, "after_commit": after_commit}

    def _piece_options(self) -> None:
        """Raises `BadOption` for what `using` may say of a job, and not of a piece."""
        if self._options.within is not None:
            raise BadOption(f"{self.name}: within= does not apply to a piece; its split stores it")
        if self._options.after_commit is not None:
            raise BadOption(f"{self.name}: after_commit= does not apply to a piece; its split stores it")
        if self._options.on_duplicate != _PLAIN.on_duplicate:
            raise BadOption(f"{self.name}: on_duplicate= does not apply to a piece; its key is its key in its batch")
        if self._one_per_identity:
            raise BadOption(
                f"{self.name}: one_per_identity does not apply to a piece, whose batch waits for it; say "
                "using(one_per_identity=False)"
            )

    def _new_job(self, id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewJob:
        text = self._spec.signature.encode(args, kwargs, self._app.settings.max_payload)
        task, queue, priority, run_at, delay, travelling, expires, expires_at = self._common()
        identity = self._identity(args, kwargs)
        key = self._key(identity)
        return NewJob(
            id, task, text, queue, priority, run_at, delay, key, travelling, expires, expires_at,
            identity=identity, tags=self._tags(),
        )  # fmt: skip

    def _new_jobs(self, calls: Iterable[tuple[Any, ...]]) -> list[NewJob]:
        if self._options.key is not None:
            raise BadOption(
                f"{self.name}.later_many: one unique key cannot be carried by many jobs; call later for each"
            )
        if self._one_per_identity and self._options.on_duplicate == "raise":
            raise BadOption(f'{self.name}.later_many: on_duplicate="raise" is for one call; call later for each')
        texts: list[str] = []
        identities: list[str | None] = []
        alike = self._spec.identity is None and not self._one_per_identity  # one identity and no key, whatever the call
        encode, limit = self._spec.signature.encode, self._app.settings.max_payload
        for n, call in enumerate(calls):
            if not isinstance(call, tuple | list):
                raise BadArguments(
                    f"{self.name}.later_many: call {n} is {shown(call)}; each must be a tuple of arguments"
                )
            try:
                texts.append(encode(call, {}, limit))
                if not alike:
                    identities.append(self._identity(call, {}))
            except BadArguments as error:
                raise type(error)(f"{self.name}.later_many: call {n}, {shown(call)}: {error}") from error
        task, queue, priority, run_at, delay, travelling, expires, expires_at = self._common()
        tags, ids = self._tags(), new_ids(len(texts))
        if alike:
            when, ends = (run_at, delay, None), (travelling, expires, expires_at)
            rest = (queue, priority, *when, *ends, *_IN_NO_BATCH, State.AVAILABLE, None, self._identity((), {}), tags)
            return [NewJob(id, task, text, *rest) for id, text in zip(ids, texts, strict=True)]
        return [
            NewJob(
                id, task, text, queue, priority, run_at, delay, self._key(identity), travelling, expires, expires_at,
                identity=identity, tags=tags,
            )
            for id, text, identity in zip(ids, texts, identities, strict=True)
        ]  # fmt: skip

    def _tags(self) -> tuple[str, ...]:
        """The task's own tags, and those of this call: each once."""
        own, more = self._spec.options.tags, self._options.tags
        return tuple(dict.fromkeys(own + more)) if more else own

    def _identity(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """The identity of a call: as it says, else as the task does."""
        said = self._options.identity
        if not isinstance(said, UnsetType):
            return said
        return None if self._spec.identity is None else self._spec.identity.of(args, kwargs)

    @property
    def _one_per_identity(self) -> bool:
        said = self._options.one_per_identity
        return self._spec.options.one_per_identity if said is None else said

    def _key(self, identity: str | None) -> str | None:
        """The unique key of a job: its own, or that of its identity. Raises `BadOption` where it would have two."""
        key = self._options.key
        if not self._one_per_identity:
            return key
        if self._spec.identity is None and isinstance(self._options.identity, UnsetType):
            raise BadOption(f"{self.name}: one_per_identity needs an identity; say identity=, too")
        if identity is None:
            return key
        if key is not None:
            raise BadOption(f"{self.name}: one_per_identity makes the unique key; give no key= beside it")
        return key_for(self.name, identity)

    def _stored(self, job: NewJob, stored: str) -> Job[R]:
        """The handle of what was stored; raises `Duplicate` for another's, where that was asked for."""
        if stored != job.id and self._options.on_duplicate == "raise":
            raise Duplicate(f"job {stored} carries the unique key {job.key!r} and has not finished", stored)
        return Job(self._app, stored)

    def _common(self) -> _Shared:
        """What all jobs of this task with these options share."""
        if self._shared is None:
            self._shared = self._work_out()
        return self._shared

    def _work_out(self) -> _Shared:
        spec, options = self._spec, self._options
        return (
            spec.name,
            options.queue or spec.options.queue,
            options.priority if options.priority is not None else spec.options.priority,
            options.run_at,
            options.delay,
            overrides_of(options),
            expires_of(spec.options.expires, options),
            options.expires_at,
        )


def expires_of(declared: float | None, options: CallOptions) -> float | None:
    """In how many seconds after it is due a job must have been begun: as the call says, else as the task does."""
    if options.expires_at is not None:
        return None
    return declared if isinstance(options.expires, UnsetType) else options.expires
