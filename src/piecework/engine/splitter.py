"""Runs a splitter: streams its pieces into the store in bites, so that the first run while the last are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.errors import BadArguments, JobCancelled
from piecework.failpoints import failpoint
from piecework.ids import new_ids
from piecework.job import NewBatch, NewJob, PieceResult, State
from piecework.outcome import Outcome, Seal
from piecework.registry import Registry, TaskSpec
from piecework.split import Offers, Piece, Pieces, check_piece
from piecework.verdicts import Verdict

if TYPE_CHECKING:
    from piecework.store.protocol import Store

FIRST_BITE = 50  # small, so that workers have something to do soon
LARGEST_BITE = 1000
BITE_SECONDS = 0.2  # a slow splitter stores what it has at least this often
PAGE = 500


class BatchEnded(JobCancelled):
    """The split's batch was stopped, or failed, while the splitter was still at it."""


def split(
    now: Running,
    spec: TaskSpec,
    registry: Registry,
    store: Store,
    clock: Clock,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Outcome:
    """Runs a split's generator to its end."""
    compose = spec.compose
    batch = NewBatch(
        now.job.id,
        then=now.job.id,
        on_failure=spec.on_failure,
        then_queue=compose.queue if compose else None,
        then_priority=compose.priority if compose else None,
    )
    return stream(now, Offers(spec.function(*args, **kwargs)), spec.name, batch, registry, store, clock)


def stream(
    now: Running, offers: Offers, where: str, batch: NewBatch, registry: Registry, store: Store, clock: Clock
) -> Outcome:
    """Offers every piece to the store, to the last one; run again after a crash, it stores none twice.

    Raises the verdict that the generator returned, and `BatchEnded`.
    """
    bites = _Bites(now, batch, store, clock)
    for offered in offers:
        bites.offer(check_piece(offered, where, registry))
    if isinstance(offers.returned, Verdict):
        raise offers.returned
    bites.flush()
    failpoint("split.before_seal")
    return Seal(bites.total)


class _Bites:
    """The bites of one splitter's run."""

    def __init__(self, now: Running, batch: NewBatch, store: Store, clock: Clock) -> None:
        self._now = now
        self._store = store
        self._clock = clock
        self._batch = batch
        self._root = now.job.root or now.job.id
        self._bite: list[Piece[Any]] = []
        self._size = FIRST_BITE
        self._flushed_at = clock.monotonic()
        self.total = 0

    def offer(self, piece: Piece[Any]) -> None:
        self._bite.append(piece)
        if len(self._bite) >= self._size or self._clock.monotonic() - self._flushed_at > BITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Stores the bite; the first one, even an empty one, opens the batch."""
        if not self._bite and self.total:
            return
        if self._now.stopping:
            raise BatchEnded("the split was asked to stop")
        failpoint("split.before_bite")
        jobs = placed(self._bite, self._batch.id, self._root, self.total)
        try:
            self._store.add(jobs, batch=self._batch, fence=self._now.job.fence)
        except JobCancelled as error:
            raise BatchEnded(str(error)) from error
        failpoint("split.after_bite")
        self.total += len(jobs)
        self._bite = []
        self._size = min(self._size * 2, LARGEST_BITE)
        self._flushed_at = self._clock.monotonic()


def placed(pieces: Sequence[Piece[Any]], batch: str, root: str, first: int) -> list[NewJob]:
    """Pieces as jobs to add, numbered from `first`."""
    jobs = []
    for n, (id, p) in enumerate(zip(new_ids(len(pieces)), pieces, strict=True), first):
        what = p.task, p.args, p.queue, p.priority, p.run_at, p.delay, None, p.options, p.expires, p.expires_at
        known = State.AVAILABLE, p.operation, p.identity, p.tags
        jobs.append(NewJob(id, *what, batch, root, n, p.key, *known))
    return jobs


def stored_pieces(store: Store, registry: Registry, batch: str) -> Pieces[Any]:
    """The pieces of a batch as its compose reads them: a page at a time."""
    record = store.batch(batch)
    if record is None:
        raise BadArguments(f"batch {batch} is not in the store any more")

    def decode(task: str, text: str | None) -> Any:
        return registry[task].outcome_codec.decode(text)

    return Pieces(
        total=record.total,
        completed=record.completed,
        failed=record.failed + record.cancelled,
        read=lambda failed: read_pieces(store, batch, failed=failed),
        decode=decode,
    )


def read_pieces(store: Store, batch: str, *, failed: bool) -> Iterator[PieceResult]:
    """The pieces of a batch in their order, or only those without a result; a page at a time."""
    after = -1
    while page := store.pieces(batch, after=after, limit=PAGE, failed=failed):
        yield from page
        after = page[-1].ordinal


def inline_pieces(found: list[PieceResult], registry: Registry) -> Pieces[Any]:
    """The same for a split that is run now."""

    def read(failed: bool) -> Iterator[PieceResult]:
        return iter([p for p in found if not failed or p.state is not State.COMPLETED])

    def decode(task: str, text: str | None) -> Any:
        return registry[task].outcome_codec.decode(text)

    completed = sum(p.state is State.COMPLETED for p in found)
    return Pieces(total=len(found), completed=completed, failed=len(found) - completed, read=read, decode=decode)
