"""Questions to the queue: `app.jobs.get(id)`, `app.jobs.where(queue="mail", state="failed").retry()`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.alike import FailureKind, FailureKinds
from piecework.bringback import BringBack
from piecework.byhand import RETRIABLE, UNFINISHED, why_and_who
from piecework.changed import Changed
from piecework.errors import UsageError
from piecework.failures import ErrorNode
from piecework.handle import Job
from piecework.job import Filter, Record, State, check_asked
from piecework.labels import identity_text
from piecework.options import check_moment, check_queue, check_tags
from piecework.paging import pages

if TYPE_CHECKING:
    from piecework.app import Piecework

__all__ = ["ErrorNode", "Job", "Jobs", "Query", "Queue"]

PAGE = 200
BITE = 1000


class Jobs:
    """The queue as a table to be asked: ``app.jobs.where(queue="toxic", state="failed").count()``."""

    def __init__(self, app: Piecework) -> None:
        self._app = app

    def get(self, id: str) -> Job[Any]:
        """A handle to a stored job. Raises `JobNotFound`, and `UsageError` for what cannot be an id."""
        found: Job[Any] = Job(self._app, id)
        record = found.record()
        job = self._app.handle(record.id, record)
        job._known = found._known  # nothing is known for good of what is still in the outbox
        return job

    async def aget(self, id: str) -> Job[Any]:
        """`get`, awaited."""
        return await self._app.edge.call(self.get, id)

    def where(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        state: State | str | None = None,
        batch: str | None = None,
        root: str | None = None,
        key: str | None = None,
        worker: str | None = None,
        identity: Any = None,
        tags: str | Iterable[str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
    ) -> Query:
        """The jobs that match everything that is given.

        `identity` is that of a call (7 and "7" are one); `tags` is one, or several that a job must all have. Moments
        are aware datetimes, those after which included and those before which not; only what has ended has finished.
        Raises `UsageError` for a state that does not exist, for what is no moment, tag or identity, and for text that
        no store could keep.

        Example: ``app.jobs.where(tags="import", state="failed", finished_after=yesterday).retry()``
        """
        if state is not None:
            try:
                state = State(state)
            except ValueError:
                raise UsageError(f"no state {state!r}; the states are {', '.join(State)}") from None
        return Query(
            self._app,
            Filter(
                queue=queue,
                task=task,
                state=state,
                batch=batch,
                root=root,
                key=key,
                worker=worker,
                identity=identity_text(identity, "where: identity"),
                tags=None if tags is None else check_tags(tags, "where: tags"),
                created_from=check_moment(created_after, "where: created_after"),
                created_before=check_moment(created_before, "where: created_before"),
                finished_from=check_moment(finished_after, "where: finished_after"),
                finished_before=check_moment(finished_before, "where: finished_before"),
            ),
        )

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self.where())

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs are in each (queue, state), from maintained counters."""
        return self._app.store.counts()

    # ── queues ───────────────────────────────────────────────────────────────────────────────────

    def queues(self) -> list[Queue]:
        """Every queue that has jobs or is paused, by name."""
        store = self._app.store
        counts, oldest, paused = store.counts(), store.oldest_due(), set(store.paused())
        names = {queue for (queue, _), n in counts.items() if n} | paused
        return [
            Queue(
                name=name,
                counts={state: counts[name, state] for state in State if counts.get((name, state))},
                oldest_due=oldest.get(name),
                paused=name in paused,
            )
            for name in sorted(names)
        ]

    def pause(self, queue: str) -> None:
        """Stops the fetching of a queue, in every worker; what runs goes on. Raises `BadOption` for what is no name."""
        self._app.store.pause(check_queue(queue, "pause"), True)

    def unpause(self, queue: str) -> None:
        """Lets a paused queue be fetched again."""
        self._app.store.pause(check_queue(queue, "unpause"), False)

    def paused(self) -> list[str]:
        """The queues that are paused."""
        return self._app.store.paused()


class Queue(msgspec.Struct, frozen=True):
    """A queue at one moment; `oldest_due` is for how many seconds its oldest due job has been due, None without one."""

    name: str
    counts: dict[str, int]
    oldest_due: float | None
    paused: bool


class Query:
    """Some jobs: iterate over them in order of arrival, count them, or act on them in bounded bites.

    Each operation among them keeps a line of who did it, when and why.
    """

    def __init__(self, app: Piecework, which: Filter) -> None:
        self._app = app
        self._which = which

    def __iter__(self) -> Iterator[Job[Any]]:
        for page in pages(self._app.store, self._which, limit=PAGE):
            for record in page:
                yield self._app.handle(record.id, record)

    def page(self, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Job[Any]]:
        """One page, beginning behind the job `after`."""
        if after is not None:
            check_asked("after", after)
        records = self._app.store.find(self._which, after=after, limit=limit, newest=newest)
        return [self._app.handle(record.id, record) for record in records]

    def first(self) -> Job[Any] | None:
        """The oldest, or None."""
        return next(iter(self.page(limit=1)), None)

    def count(self) -> int:
        """How many there are; by queue and state alone, from counters."""
        return self._app.store.count(self._which)

    def failures(self) -> list[FailureKind]:
        """What went wrong with them: failures that are alike counted together, the most frequent first.

        Of those that failed or are parked; or of those in the state that is asked for, as ``state="available"`` for what
        will be tried again. It reads them once, a page at a time.

        Example: ``for kind in app.jobs.where(queue="mail").failures(): print(kind.count, kind.task, kind.message)``
        """
        kinds = FailureKinds()
        for state in (State.FAILED, State.PARKED) if self._which.state is None else (self._which.state,):
            for page in pages(self._app.store, msgspec.structs.replace(self._which, state=state), limit=BITE):
                kinds.add(page)
        return kinds.told()

    def retry(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Retries all that failed, were cancelled or are parked; how many.

        Those that cannot come back stay as they are.

        The answer's `left` says how many these are, and `refused` which, with the reason; see `Changed`. `reason` and
        `by` (unless given, the user and host of this process) are kept with operations.
        """
        return self._bring_back(RETRIABLE, *why_and_who("retry", reason, by), resume=False)

    def resume(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Lets all that were cancelled go on; how many. Those that cannot come back stay as they are, as with `retry`.

        `reason` and `by` (unless given, the user and host of this process) are kept with operations.
        """
        return self._bring_back((State.CANCELLED,), *why_and_who("resume", reason, by), resume=True)

    def _bring_back(self, states: Sequence[State], why: str, who: str, *, resume: bool) -> Changed:
        store = self._app.store
        back = BringBack(
            store,
            states,
            lambda which: store.retry(which, limit=BITE, resume=resume, by=who, reason=why),
        )
        return back.told(self._by_state(states, back.bite))

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None) -> int:
        """Cancels all that have not ended; how many."""
        why, who = why_and_who("cancel", reason, by)
        return self._by_state(
            UNFINISHED,
            lambda page: self._app.store.cancel(
                Filter(ids=tuple(record.id for record in page)), reason=why, by=who, limit=BITE
            ),
        )

    def _by_state(self, states: Sequence[State], act: Callable[[Sequence[Record]], int]) -> int:
        """Acts page by page, in order of arrival: a page of which nothing changes hides none.

        The pages are read beside the work of others; only the change of a page takes the store's lock.
        """
        done = 0
        for state in states if self._which.state is None else {self._which.state} & set(states):
            for page in pages(self._app.store, msgspec.structs.replace(self._which, state=state), limit=BITE):
                done += act(page)
        return done

    def delete(self) -> int:
        """Deletes all that ended or are parked, with all below them; how many that were.

        A piece is kept while its root has not completed: it goes with its root. Nothing brings back what was deleted.
        """
        done = 0
        while n := self._app.store.delete(self._which, limit=BITE):
            done += n
        return done
