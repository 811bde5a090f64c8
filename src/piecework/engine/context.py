"""What a running job may touch: `current`."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.errors import BadArguments, JobCancelled, JobTimeout, UsageError
from piecework.errortext import clean
from piecework.job import Fetched, Progress
from piecework.labels import status_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from piecework.engine.effects import Effects
    from piecework.engine.spots import Spot
    from piecework.options import TaskOptions
    from piecework.registry import TaskSpec


class Running(msgspec.Struct, eq=False):
    """One run of a job inside this process: what was fetched, what it says of itself, and whether it should stop."""

    job: Fetched
    spec: TaskSpec | None
    options: TaskOptions | None
    progress: Progress | None = None
    stopping: bool = False
    begun: bool = False
    deadline: float | None = None
    monotonic: Callable[[], float] | None = None
    task: Any = None  # the asyncio task, where it runs on the loop
    abandoned: bool = False  # it did not end in time; whatever it still comes to is not heard
    spot: Spot | None = None  # where on its plan it is, if it is an operation …
    effects: Effects | None = None  # its own transaction, where its task is declared with one
    keep_status: Callable[[Running, Any], None] | None = None  # what `current.set_status` comes to
    held_since: float = 0.0  # … and since when this worker has had it, without a fetch between its steps

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        if self.spot is not None:
            return self.spot.is_async
        return self.spec is not None and self.spec.is_async

    @property
    def splits(self) -> bool:
        """Whether it talks to the store itself, about pieces."""
        if self.spot is not None:
            return self.spot.splits
        return self.spec is not None and self.spec.is_split

    @property
    def undoes(self) -> bool:
        """Whether it is the undo of an operation's step."""
        return self.spot is not None and getattr(self.spot.place, "undoing", False)


running: ContextVar[Running | None] = ContextVar("piecework_running", default=None)


class Current:
    """The job that this code runs in.

    Outside of a job, `progress` and `check` do nothing, so that the same code runs now.

    Example::

        for n, row in enumerate(rows):
            current.check()                       # raises if the job was cancelled or is past its timeout
            current.progress(n, len(rows), "importing")
    """

    @property
    def inside(self) -> bool:
        """Whether this code runs in a job."""
        return running.get() is not None

    @property
    def id(self) -> str:
        """The job's id. Raises `UsageError` outside of a job."""
        return self._running().job.id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._running().job.attempt + 1

    @property
    def run(self) -> int:
        """How often the job was fetched, this time included; it only grows, so it can fence outside effects."""
        return self._running().job.run

    @property
    def queue(self) -> str:
        """The queue that the job was taken from."""
        return self._running().job.queue

    @property
    def connection(self) -> Any:
        """The connection of a task with ``transaction=True``, as the driver of the store makes them.

        What is written on it and that the job completed are committed together, at the end of the job, or not at all.
        The transaction begins when the connection is first asked for, and is not the task's to end; it belongs to this
        thread. Raises `UsageError` in a task without ``transaction=True`` and outside of a job; `StoreUnavailable`.

        Example: ``current.connection.execute(statement, parameters)``
        """
        now = self._running()
        if now.effects is None:
            raise UsageError("current.connection is there in tasks that are declared with @app.task(transaction=True)")
        return now.effects.connection

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""
        now = running.get()
        return now is not None and now.stopping

    def check(self) -> None:
        """Raises `JobCancelled` when the job was asked to stop, `JobTimeout` when it is past its timeout."""
        now = running.get()
        if now is None:
            return
        if now.stopping:
            raise JobCancelled(f"job {now.job.id} was asked to stop")
        if now.deadline is not None and now.monotonic is not None and now.monotonic() > now.deadline:
            assert now.options is not None
            raise JobTimeout(f"job {now.job.id} ran longer than its timeout of {now.options.timeout:g} s")

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Says how far the job is; cheap enough for every row, written about twice a second.

        `total` is None while nobody knows it. Raises `BadArguments` for numbers that cannot be.
        """
        for name, value in (("done", done), ("total", total)):
            if value is None and name == "total":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise BadArguments(f"progress: {name} must be a number, 0 or more, not {value!r:.100}")
        now = running.get()
        if now is not None:
            now.progress = Progress(_plain(done), None if total is None else _plain(total), clean(str(note)[:500], 500))

    def set_status(self, status: Mapping[str, Any]) -> None:
        """Says how it stands with the job, for whoever asks by its identity: `task.status(…)`, and by `job.said`.

        It is stored before this returns, in place of what was said before, and stays when the job has ended. In a task
        with ``transaction=True`` that has asked for its connection it is a part of that transaction. Raises
        `BadArguments`, `NotSerializable` or `TooLarge` for what is no dict of plain JSON values of up to `max_payload`
        bytes; `LeaseLost` where the job is not this run's any more; `StoreUnavailable`. Outside of a job it is only
        checked.

        Example: ``current.set_status({"success": False, "errors": ["Credit expire date not given"]})``
        """
        now = running.get()
        if now is None or now.keep_status is None:
            status_text(status)
        else:
            now.keep_status(now, status)

    def _running(self) -> Running:
        now = running.get()
        if now is None:
            raise UsageError("this code does not run in a job, so there is no current one; ask current.inside first")
        return now


def _plain(value: float) -> float:
    """A number that JSON can carry: of no subclass, and an int only where it is not too large for one."""
    return int(value) if isinstance(value, int) and value < 1 << 53 else float(value)


current = Current()
