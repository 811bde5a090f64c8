"""Batches put together by hand: ``with app.batch(then=report.piece()) as batch: batch.add(fetch.piece(url))``."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from piecework.engine.splitter import placed
from piecework.errors import BadOption, UsageError
from piecework.handle import Job
from piecework.ids import new_id
from piecework.job import BatchRecord, Filter, NewBatch, NewJob, OnFailure, State
from piecework.operations import Operation
from piecework.split import Piece, check_piece, job_of

if TYPE_CHECKING:
    from piecework.app import Piecework

BITE = 500


class Batch:
    """A set of pieces with a continuation, stored while the block runs and sealed at its end.

    The continuation is stored first, waiting; it runs once, when the batch is sealed and every piece has settled. When
    the block raises, the batch is stopped: pieces that have not started never do, and the continuation does not run.
    """

    def __init__(self, app: Piecework, then: Piece[Any] | None, on_failure: OnFailure) -> None:
        self._app = app
        self._then = None if then is None else check_piece(then, "app.batch(then=…)", app.registry, given=True)
        if then is not None and (then.expires is not None or then.expires_at is not None):
            raise BadOption("app.batch: expires= does not apply to what follows a batch, which waits for its pieces")
        self._on_failure = on_failure
        self._line: list[Piece[Any]] = []
        self._total = 0
        self._opened = False
        self._sealed = False
        self.id = new_id()
        self._then_id = None if then is None else new_id()

    @property
    def then(self) -> Job[Any] | None:
        """The handle of the continuation."""
        if self._then is None or self._then_id is None:
            return None
        kind = Job if self._then.operation is None else Operation
        return kind(self._app, self._then_id)

    @property
    def record(self) -> BatchRecord | None:
        """The batch's counters, now; None before the first pieces are stored."""
        return self._app.store.batch(self.id)

    def add(self, piece: Piece[Any]) -> None:
        """Adds a piece. Pieces are stored in bites, and run as soon as they are stored."""
        if self._sealed:
            raise UsageError("this batch is sealed; it takes no further pieces")
        self._line.append(check_piece(piece, "batch.add", self._app.registry, given=True))
        if len(self._line) >= BITE:
            self.flush()

    def flush(self) -> None:
        """Stores what was added so far."""
        if not self._opened:
            self._open()
        if self._line:
            jobs = placed(self._line, self.id, self._then_id or self.id, self._total)
            self._app.store.add(jobs)
            self._total += len(jobs)
            self._line = []

    def seal(self) -> None:
        """Fixes the number of pieces; what the end of the block does."""
        self.flush()
        self._app.store.seal(self.id)
        self._sealed = True

    def stop(self, reason: str) -> None:
        """Stops the batch: what has not started never does, and the continuation does not run."""
        self._app.store.cancel(Filter(ids=(self._then_id or self.id,)), reason=reason)
        self._sealed = True

    def _open(self) -> None:
        batch = NewBatch(self.id, then=self._then_id, on_failure=self._on_failure)
        self._app.store.add(self._continuation(), batch=batch)
        self._opened = True

    def _continuation(self) -> list[NewJob]:
        then = self._then
        if then is None or self._then_id is None:
            return []
        return [job_of(then, self._then_id, state=State.WAITING)]

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.seal()
        elif self._opened:
            self.stop(f"the code that built the batch raised {type(error).__name__}")
