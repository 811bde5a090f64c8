"""Pieces: what a splitter yields, and what its compose reads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from piecework.errors import BadArguments, PieceFailed
from piecework.job import ErrorInfo, NewJob, NewOperation, PieceResult, State
from piecework.registry import Registry

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Reads pieces in order, all of them or the failed ones only, a page at a time.
Reader = Callable[[bool], Iterator[PieceResult]]
Decoder = Callable[[str, str | None], Any]


class Piece(msgspec.Struct, Generic[R_co], frozen=True, gc=False):
    """One job of a split or batch, not yet stored: which task, with which arguments, and what else was said of it.

    Made by ``task.piece(…)``; yielded by a splitter, or given to ``batch.add``.
    """

    task: str
    args: str
    queue: str
    priority: int
    run_at: float | None = None
    delay: float | None = None
    key: str | None = None
    options: str | None = None
    expires: float | None = None
    expires_at: float | None = None
    operation: NewOperation | None = None
    identity: str | None = None
    tags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        named = f", key={self.key!r}" if self.key is not None else ""
        return f"<piece {self.task}({self.args[:80]}){named}>"


class Offers:
    """What a splitter yields, one by one; `returned` is what its generator returned, once it has ended."""

    def __init__(self, pieces: Generator[Any, None, Any]) -> None:
        self._pieces = pieces
        self.returned: Any = None

    def __iter__(self) -> Iterator[Any]:
        self.returned = yield from self._pieces


class FailedPiece(msgspec.Struct, frozen=True):
    """A piece without a result.

    It failed for good; or, where `error` is None, it was cancelled, or parked for crashing. `id` is its job's, None in
    a split that is run now.
    """

    ordinal: int
    key: str
    id: str | None
    error: ErrorInfo | None


class Pieces(Generic[R]):
    """What a compose reads: the pieces in their order, streamed from the store, never all in memory at once.

    `total`, `completed` and `failed` are numbers; `failed` counts the cancelled ones too.

    Example::

        @export_topic.compose
        def join(pieces: Pieces[str], topic_id: int) -> str:
            return ";".join(pieces.results())
    """

    def __init__(self, *, total: int, completed: int, failed: int, read: Reader, decode: Decoder) -> None:
        self.total = total
        self.completed = completed
        self.failed = failed
        self._read = read
        self._decode = decode

    def __len__(self) -> int:
        return self.total

    def __repr__(self) -> str:
        return f"<{self.total} pieces: {self.completed} completed, {self.failed} failed>"

    def results(self) -> Iterator[R]:
        """The results of the pieces that completed, in order."""
        for _, result in self.items():
            yield result

    def items(self) -> Iterator[tuple[str, R]]:
        """The key and the result of each piece that completed, in order."""
        for piece in self._read(False):
            if piece.state is State.COMPLETED:
                yield key_of(piece), self._decode(piece.task, piece.result)

    def failures(self) -> Iterator[FailedPiece]:
        """The pieces that failed or were cancelled, in order."""
        for piece in self._read(True):
            yield FailedPiece(piece.ordinal, key_of(piece), piece.id or None, piece.error)


def key_of(piece: PieceResult) -> str:
    """A piece's key, which is its ordinal unless it was given one."""
    return piece.key if piece.key is not None else str(piece.ordinal)


def check_piece(offered: Any, where: str, registry: Registry, *, given: bool = False) -> Piece[Any]:
    """Raises `BadArguments` for anything but a piece, and `UnknownTask` for one of a task that this app does not have.

    `where` is the split that yielded it, or the call that it was `given` to.
    """
    if isinstance(offered, Piece):
        if offered.task not in registry:
            registry[offered.task]  # says what is near
        return offered
    did, do = ("was given", "give it") if given else ("yielded", "yield")
    raise BadArguments(
        f"{where} {did} {type(offered).__name__} {str(offered)[:80]!r}; {do} some_task.piece(…), which names the task and "
        "its arguments"
    )


def job_of(piece: Piece[Any], id: str, **more: Any) -> NewJob:
    """A piece as a job that is in no batch; whatever says when it is due, and by which key, is `more`."""
    return NewJob(
        id=id,
        task=piece.task,
        args=piece.args,
        queue=piece.queue,
        priority=piece.priority,
        options=piece.options,
        operation=piece.operation,
        identity=piece.identity,
        tags=piece.tags,
        **more,
    )


def why_failed(piece: PieceResult) -> ErrorInfo:
    """The error of a batch whose piece failed, in the words that every store uses."""
    if piece.error is None:
        return ErrorInfo("PieceFailed", f"piece {key_of(piece)} was {piece.state}")
    error = piece.error
    return ErrorInfo("PieceFailed", f"piece {key_of(piece)} failed: {error.type}: {error.message}", error.traceback)


def raise_failed(piece: PieceResult, cause: BaseException | None) -> None:
    """What a caller sees who ran a split now."""
    raise PieceFailed(why_failed(piece).message) from cause
