"""The front door: an app, with its tasks, its store and its settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, overload
from weakref import WeakValueDictionary

from msgspec import UNSET, UnsetType

from piecework.aftercommit import Held, hold
from piecework.aio import Edge
from piecework.appref import importing_for_pool, place_of, pool_command
from piecework.batch import Batch
from piecework.branches import DeclaredBranch
from piecework.calls import Calling, Calls, aimed
from piecework.clock import Clock, SystemClock
from piecework.codec import ResultCodec
from piecework.config import Settings, current_settings
from piecework.distributed import DistributedJob, pages_of
from piecework.engine.embedded import EmbeddedWorker
from piecework.engine.process import PoolSettings
from piecework.errors import BadOption, BadSettings, UsageError
from piecework.handle import Job
from piecework.ids import new_id
from piecework.job import NewJob, OnFailure, Record
from piecework.jobs import Jobs
from piecework.objects import ObjectRegistry
from piecework.operationquery import Operations
from piecework.operations import Operation
from piecework.operationtask import OperationTask, declared_operation
from piecework.options import (
    CallKeywords,
    DeclaredKeywords,
    FunctionKeywords,
    check_name,
    check_queues,
    check_seconds,
    task_options,
)
from piecework.outbox import KEEP_CARRIED, Outbox, kept
from piecework.parts import DistributedRecord, DistributedState
from piecework.plan import walks
from piecework.recording import watch
from piecework.registry import TaskSpec, check_aliases, task_name
from piecework.rows import Rows
from piecework.split import Piece, check_piece, job_of
from piecework.splittask import Split
from piecework.store import Store, open_store
from piecework.store.callers import is_awaited
from piecework.task import Task
from piecework.taskspec import check_class, check_split, split_spec, task_spec

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

Steps = Sequence[Any] | DeclaredBranch

# A coroutine of a task sends and yields `object`, not Any: where a type holds Any, mypy cannot choose among overloads.


class Piecework(Calling):
    """A background-job system: tasks that run now or later, and the database in which later is kept.

    `url` is the store's: ``sqlite:///jobs.db``; without one, ``$PIECEWORK_URL``, ``[tool.piecework] url``, or
    ``sqlite:///piecework.db``. `max_payload` bounds arguments and results (bytes, 1 MiB); `lease` is how long a silent
    worker machine keeps its jobs (seconds, 20); `keep_completed` is how long completed jobs are kept (days, 7; None:
    for ever).
    `outbox` is the URL of a second store, an SQL database: `using(within=…)` then keeps jobs there, in the caller's
    transaction, and workers carry them over.
    Nothing is opened before it is needed, and nothing is global: two apps can live in one process.
    Raises `BadSettings`.

    Example::

        app = Piecework("sqlite:///jobs.db")

        @app.task
        def send_report(user_id: int) -> str: ...

        send_report(42)              # now
        send_report.later(42)        # later; returns a handle
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        max_payload: int | None = None,
        lease: float | None = None,
        keep_completed: float | UnsetType | None = UNSET,
        outbox: str | UnsetType | None = UNSET,
        clock: Clock | None = None,
    ) -> None:
        self.settings: Settings = current_settings(
            url=UNSET if url is None else url,
            max_payload=UNSET if max_payload is None else max_payload,
            lease=UNSET if lease is None else lease,
            keep_completed=keep_completed,
            outbox=outbox,
        )
        self.clock: Clock = clock or SystemClock()
        self.rows = Rows()
        self.registry = ObjectRegistry(self.rows)
        self.store: Store = open_store(self.settings.url, clock=self.clock)
        self.edge = Edge()
        self.jobs = Jobs(self)
        self.operations = Operations(self)
        self._tasks: dict[str, Task[Any, Any, Any]] = {}
        self.outbox = self._open_outbox()
        self.held: WeakValueDictionary[str, Held] = WeakValueDictionary()  # by the ids of jobs behind a commit

    def __repr__(self) -> str:
        return f"<piecework app with {len(self.registry)} tasks on {self.store.url}>"

    # ── declaring ────────────────────────────────────────────────────────────────────────────────

    @overload
    def task(self, function: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]
    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, Coroutine[object, object, R], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def task(
        self, *, name: str | None = None, aliases: Iterable[str] = (), **options: Unpack[FunctionKeywords]
    ) -> _TaskDecorator: ...

    def task(
        self, function: Any = None, *, name: str | None = None, aliases: Iterable[str] = (), **options: Any
    ) -> Any:
        """Registers a function, `def` or `async def`, as a task; or a class, whose public methods `later` then takes.

        A class is returned as it is. `name` is the stable name under which its jobs are stored (its module and
        qualified name, unless given); `aliases` are names that it had before, under which jobs may still be stored.
        Options: `queue`, `priority` (lower runs sooner; 0), `attempts` (10), `retry` (`exponential(…)`, `fixed(…)` or
        seconds), `timeout` (seconds), `expires` (seconds after it is due in which it must have been started, else it is
        cancelled). `retry_on` names the exceptions that are tried again (all, unless given; a mapping gives each a
        policy of its own), `give_up_on` those that never are. `tags` are words by which its jobs are found. `identity`
        is the business key by which `status` and `in_progress` are asked for: a function of the arguments, or names of
        some; with ``one_per_identity=True`` no second job of one is stored while a first is unfinished. `on_missing`
        is what becomes of a job whose row is gone: "fail", "cancel" or "retry". ``pool="process"`` runs the function in
        another process: on another core, and with a timeout that kills; `grace` is how long it may take to end once it
        was asked to stop (seconds, 5). With ``transaction=True`` what a `def` writes on `current.connection` is
        committed together with the job's end, or not at all. Raises `BadOption` and `DuplicateTask`.

        Example::

            @app.task(queue="mail", attempts=3, retry=fixed(60))
            def send_report(user_id: int) -> str: ...
        """
        declare = _TaskDecorator(self, name, check_aliases(aliases, "@app.task"), options)
        return declare if function is None else declare(function)

    @overload
    def split(self, function: Callable[P, Iterator[Piece[Any]]]) -> Split[P]: ...
    @overload
    def split(
        self,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        on_failure: OnFailure | Literal["fail_fast", "finish", "compose"] = "finish",
        **options: Unpack[DeclaredKeywords],
    ) -> Callable[[Callable[P, Iterator[Piece[Any]]]], Split[P]]: ...

    def split(
        self,
        function: Any = None,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        on_failure: OnFailure | Literal["fail_fast", "finish", "compose"] = "finish",
        **options: Any,
    ) -> Any:
        """Registers a generator function as a split: what it yields runs as jobs, and its compose joins their results.

        `on_failure` says what becomes of the batch when a piece fails for good: ``"fail_fast"`` fails it at once,
        ``"finish"`` lets the others run to their end and then fails it, ``"compose"`` composes with the failures
        visible.
        Other options are those of `task`, but for `pool`, `grace` and `transaction`. Raises `BadOption` and
        `DuplicateTask`.

        Example::

            @app.split(on_failure="fail_fast")
            def export(topic_id: int) -> Iterator[Piece[str]]:
                for post_id in posts_of(topic_id):
                    yield render.piece(post_id)
        """
        check_split(options, on_failure)
        before = check_aliases(aliases, "@app.split")

        def declare(splitter: Any) -> Any:
            return self._register(Split[Any](self, split_spec(splitter, name, options, on_failure, self.rows)), before)

        return declare if function is None else declare(function)

    @overload
    def operation(
        self,
        name: str,
        /,
        *,
        main: Steps,
        state: Callable[P, T],
        branches: Mapping[str, Steps] | None = None,
        aliases: Iterable[str] = (),
        max_steps: int | None = None,
        retired: Sequence[Any] = (),
        **more: Any,
    ) -> OperationTask[P, T]: ...
    @overload
    def operation(
        self,
        name: str,
        /,
        *,
        main: Steps,
        state: None = None,
        branches: Mapping[str, Steps] | None = None,
        aliases: Iterable[str] = (),
        max_steps: int | None = None,
        retired: Sequence[Any] = (),
        **more: Any,
    ) -> OperationTask[..., dict[str, Any]]: ...

    def operation(
        self, name: str, /, *bare: Any, main: Any = None, aliases: Iterable[str] = (), **more: Any
    ) -> OperationTask[Any, Any]:
        """Declares an operation: named steps, each recorded and retried by itself, and not run again once completed.

        `name` is the stable name under which it is stored, and `aliases` are names that it had before. It begins with
        the first step of `main`; other branches are keywords of their names (``red=[set_up_red]``), or in `branches`,
        and are come to by a step's `jump_to`. A step is a function or class of a `Step`, a task or a split, `step(…)`
        or `wait_for(…)`; a branch is a list of them, or `branch(…, then=…)`. `state` is a dataclass, Struct or pydantic
        model of its globals. `max_steps` bounds how many steps one operation comes to, so that no loop is endless
        (1,000, or ten for each declared). `retired` are steps that operations may still come to which began before they
        were taken out.
        Other keywords are the options of `task`, for every step that does not say otherwise.
        Raises `BadOption` and `DuplicateTask`.

        Example::

            fulfil = app.operation("fulfilment", main=[charge, set_up, email], red=[set_up_red], queue="orders")
            fulfil(subscription_id=1)                # now
            fulfil.later(subscription_id=1)          # later; returns a handle
        """
        spec = declared_operation(self, name, bare, main, more)
        task: OperationTask[Any, Any] = self._register(
            OperationTask(self, spec), check_aliases(aliases, f"the operation {name!r}")
        )
        return task

    def _register(self, task: Any, aliases: Iterable[str]) -> Any:
        self.registry.add(task._spec, aliases)
        self._tasks[task.name] = task
        return task

    def _register_class(self, kind: type, name: str | None, aliases: Iterable[str], options: dict[str, Any]) -> type:
        stable = task_name(kind, name)
        watch(kind)
        self.registry.add_class(kind, stable, task_options(options, f"the task {stable}"), aliases)
        return kind

    # ── running ──────────────────────────────────────────────────────────────────────────────────

    def using(self, **options: Unpack[CallKeywords]) -> Calls:
        """`later`, `alater` and `piece` with options; they are those of `Task.using`. Raises `BadOption`.

        Example: ``app.using(queue="low", priority=5, delay=60).later(process.call, 1)``
        """
        return Calls(self).using(**options)

    def batch(
        self,
        then: Piece[Any] | None = None,
        *,
        on_failure: OnFailure | Literal["fail_fast", "finish", "compose"] = "finish",
    ) -> Batch:
        """A batch to be put together by hand; `then` is what runs once, when all its pieces have settled.

        `on_failure` is as for `split`. Raises `BadOption`.

        Example::

            with app.batch(then=report.piece(day)) as batch:
                for url in urls:
                    batch.add(fetch.piece(url))
            batch.then.result(timeout=60)
        """
        if on_failure not in list(OnFailure):
            raise BadOption(f"on_failure must be one of {', '.join(OnFailure)}, not {on_failure!r}")
        return Batch(self, then, OnFailure(on_failure))

    def distributed_job(
        self,
        token: str,
        *,
        ttl: float | timedelta | None = None,
        then: Piece[Any] | None = None,
        otherwise: Piece[Any] | None = None,
    ) -> DistributedJob:
        """The distributed job of a token: it keeps track of parts that are worked on anywhere, by any queue.

        Nothing is read or written by making it; it begins to exist with its first push. `then` is stored as a job in
        the very transaction of the `done` that finishes it, and so cannot be lost; `otherwise` in that which stops it,
        or lets it fail. Each runs once; those of the first push stay. `ttl` is for how long the job is kept after its
        end (seconds or a timedelta; a day, unless somebody said otherwise), counted anew by each change. Until its end
        it is kept.
        Raises `BadToken` and `BadOption`.

        Example::

            job = app.distributed_job("import-7", then=report.piece(7))
            for day, part in job.push_each(days):
                celery_app.send_task("import_day", (day, job.token, part))
        """
        return DistributedJob(
            self.store.parts,
            token,
            ttl=ttl,
            then=self._follow_up(then, "then"),
            otherwise=self._follow_up(otherwise, "otherwise"),
        )

    def distributed_jobs(
        self, state: DistributedState | str | None = None, *, newest: bool = True
    ) -> Iterator[DistributedRecord]:
        """All distributed jobs, or those in one state, read page by page: their tokens, counts and moments.

        Raises `BadOption` for a state that there is not.
        """
        try:
            wanted = None if state is None else DistributedState(state)
        except ValueError:
            raise BadOption(f"state must be one of {', '.join(DistributedState)}, not {state!r}") from None
        return pages_of(self.store.parts, wanted, newest)

    def _follow_up(self, piece: Piece[Any] | None, which: str) -> NewJob | None:
        if piece is None:
            return None
        where = f"app.distributed_job({which}=…)"
        check_piece(piece, where, self.registry, given=True)
        if piece.key is not None or piece.expires is not None or piece.expires_at is not None:
            raise BadOption(
                f"{where}: key= and expires= do not apply to what follows a distributed job: it is never left out"
            )
        return job_of(piece, new_id(), run_at=piece.run_at, delay=piece.delay)

    def worker(
        self,
        *,
        concurrency: int = 10,
        queues: Sequence[str] | None = None,
        burst: bool = False,
        pool_size: int | None = None,
        name: str = "embedded",
        shutdown_timeout: float = 25.0,
    ) -> EmbeddedWorker:
        """A worker inside this process, to be used with ``with`` or ``async with``; nothing runs before it is entered.

        `queues` are the only ones that it takes from; `burst` ends it when nothing is due; `name` is shown in lists.
        Leaving finishes what runs, for up to `shutdown_timeout` seconds, and hands the rest back unspent.
        Entering raises `StoreError` where the store cannot be used, and `UsageError` where the worker runs already.

        `pool_size` is how many processes run the jobs of ``pool="process"`` (the number of processors). They import the
        app anew, so it must be a module's own name; where it is not, such jobs are parked with that reason.

        Example::

            with app.worker(concurrency=4):
                job.result(timeout=10)
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 10_000:
            raise BadOption(f"concurrency must be a whole number, 1 or more, not {concurrency!r}")
        if importing_for_pool():
            raise UsageError(
                "the app's module starts a worker while a process of another worker's pool imports it; put that under: "
                'if __name__ == "__main__":'
            )
        place = place_of(self)
        if pool_size is not None and (type(pool_size) is not int or not 1 <= pool_size <= 1000):
            raise BadOption(f"pool_size must be a whole number from 1 to 1,000, not {pool_size!r}")
        size = pool_size or os.cpu_count() or 1
        return EmbeddedWorker(
            self.registry,
            self.store,
            self.clock,
            self.settings,
            concurrency=concurrency,
            queues=None if queues is None else check_queues(queues, "queues"),
            burst=burst,
            name=check_name(name, "name"),
            shutdown_timeout=check_seconds(shutdown_timeout, "shutdown_timeout"),
            processes=None if place is None else PoolSettings(pool_command(place), size, dict(os.environ), os.getcwd()),
            beside=None if self.outbox is None else partial(self.outbox.carrier, burst=burst),
        )

    def migrate(self) -> list[str]:
        """Brings the schema of the store, and of the outbox, to this version; returns the names of what it applied.

        Forward only; safe to run twice, or on two machines at once. A store that is new is set up at first use, too.
        """
        return [name for store in self.stores() for name in store.migrate()]

    def close(self) -> None:
        """Lets go of the store's connections; the next use opens them again."""
        self.edge.close()
        self.store.close()
        if self.outbox is not None:
            self.outbox.close()

    def _open_outbox(self) -> Outbox | None:
        url = self.settings.outbox
        if url is None:
            return None
        box = Piecework(url, keep_completed=KEEP_CARRIED, lease=self.settings.lease, outbox=None, clock=self.clock)
        if _place(box.store) == _place(self.store):
            raise BadSettings(
                f"outbox= names the store itself ({self.store.url}), in which within= keeps jobs anyway; leave outbox= out"
            )
        return Outbox(box, self.store)

    def _aimed(self, target: Any) -> tuple[Task[Any, Any, Any], tuple[Any, ...]]:
        return aimed(self, target)

    # ── for the other rooms ──────────────────────────────────────────────────────────────────────

    def stores(self) -> list[Store]:
        """The store, and the outbox's where there is one."""
        return [self.store] if self.outbox is None else [self.store, self.outbox.box.store]

    def add(self, jobs: Sequence[NewJob], *, within: Any = None, after_commit: Any = None) -> list[str]:
        """Stores jobs that tasks have made: at once, in a caller's transaction, or when that has been committed."""
        if after_commit is not None:
            held = hold(jobs, after_commit, self.store.add)
            self.held.update(dict.fromkeys(held.ids, held))
            return held.ids
        if within is not None and self.outbox is not None:
            return self.outbox.add(jobs, within)
        return self.store.add(jobs, within=within)

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any) -> list[str]:
        """The same within a transaction, awaited; a synchronous connection is used on this very thread."""
        if not is_awaited(within):
            return self.add(jobs, within=within)
        if self.outbox is not None:
            jobs = kept(jobs)
        return await self.stores()[-1].aadd(jobs, within=within, aside=self.edge.call)

    def task_of(self, spec: TaskSpec) -> Task[Any, Any, Any]:
        """The task of a specification: the one that was registered with it, or one made of a method."""
        return self._tasks.get(spec.name) or Task(self, spec)

    def handle(self, id: str, record: Record) -> Job[Any]:
        """A handle to a stored job: an operation's where it is one, which its cursor tells."""
        return Operation(self, id, record) if walks(record) else Job(self, id, record)

    def decode_result(self, record: Record) -> Any:
        """A job's result as its task's annotation says; plain JSON types where this process does not know the task."""
        spec = self.registry.get(record.task)
        if spec is None:
            return ResultCodec(lambda: None, record.task).decode(record.result)
        return spec.outcome_codec.decode(record.result)


def _place(store: Store) -> str:
    """Where a store is: of two URLs of one file, the file."""
    url = store.url.partition("?")[0]
    return os.path.realpath(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else store.url


class _TaskDecorator:
    """`@app.task(…)` with options, typed for both colours."""

    def __init__(self, app: Piecework, name: str | None, aliases: tuple[str, ...], options: dict[str, Any]) -> None:
        self._app = app
        self._name = name
        self._aliases = aliases
        self._options = options
        task_options(options, "@app.task")  # a bad option is told where it is given, not where the function follows

    @overload
    def __call__(self, function: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, Coroutine[object, object, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...

    def __call__(self, function: Any, /) -> Any:
        if isinstance(function, type):
            check_class(function, self._options)
            return self._app._register_class(function, self._name, self._aliases, self._options)
        spec = task_spec(function, self._name, self._options, self._app.rows)
        task: Task[Any, Any, Any] = Task(self._app, spec)
        return self._app._register(task, self._aliases)
