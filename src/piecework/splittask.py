"""Splits: tasks whose pieces run as jobs and are composed once; called, all of that happens now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from piecework.codec import ResultCodec
from piecework.engine.splitter import inline_pieces
from piecework.errors import BadOption, SplitChanged, UsageError
from piecework.errortext import describe
from piecework.job import OnFailure, PieceResult, State
from piecework.options import CallOptions, call_options, check_queue
from piecework.registry import Compose, kind_of
from piecework.rows import Unit
from piecework.split import Offers, Piece, Pieces, check_piece, raise_failed
from piecework.task import Task
from piecework.verdicts import Cancel, Verdict

P = ParamSpec("P")
T = TypeVar("T")


class _Composer(Protocol[P]):
    """`@split.compose(…)` with options."""

    def __call__(
        self, function: Callable[Concatenate[Pieces[Any], P], T], /
    ) -> Callable[Concatenate[Pieces[Any], P], T]: ...


class Split(Task[P, Any, Any]):
    """A task whose pieces run as jobs and are composed once. Called, it does all of that now, with the same answer.

    Made by `@app.split` on a generator function that yields ``task.piece(…)``.

    Example::

        @app.split
        def total(numbers: list[int]) -> Iterator[Piece[int]]:
            for n in numbers:
                yield square.piece(n)

        @total.compose
        def add_up(pieces: Pieces[int], numbers: list[int]) -> int:
            return sum(pieces.results())
    """

    @overload
    def compose(
        self, function: Callable[Concatenate[Pieces[Any], P], T]
    ) -> Callable[Concatenate[Pieces[Any], P], T]: ...
    @overload
    def compose(self, *, queue: str | None = None, priority: int | None = None) -> _Composer[P]: ...

    def compose(
        self,
        function: Any = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
    ) -> Any:
        """Declares how the pieces are joined: a function of the `Pieces` and the split's own arguments.

        `queue` and `priority` are where the compose runs, if not where the split did. Its return value is the split's
        result, and its return annotation the result's type. Raises `BadOption`, and `UsageError` for a second one.
        """
        if queue is not None:
            check_queue(queue, f"{self.name}.compose: queue")
        if priority is not None:
            call_options({"priority": priority}, CallOptions(), f"{self.name}.compose")

        def declare(joined: Any) -> Any:
            if self._spec.compose is not None and self._spec.compose.function is not joined:
                raise UsageError(f"{self.name} has a compose already: {self._spec.compose.function.__qualname__}")
            if not callable(joined) or kind_of(joined) != "plain":
                raise BadOption(f"{self.name}.compose: {joined!r} must be a plain function")
            self._spec.compose = Compose(joined, ResultCodec(joined, self.name), queue, priority)
            return joined

        return declare if function is None else declare(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Runs the split now, in this thread: its pieces in order, each once, then the compose."""
        spec = self._spec
        found: list[PieceResult] = []
        offers = Offers(spec.function(*args, **kwargs))
        offered = _each_once(check_piece(piece, spec.name, self._app.registry) for piece in offers)
        first_failure: tuple[PieceResult, BaseException | None] | None = None
        for ordinal, piece in enumerate(offered):
            result, error = self._run_piece(ordinal, piece)
            found.append(result)
            if error is not None and first_failure is None:
                first_failure = result, error
                if spec.on_failure is OnFailure.FAIL_FAST:
                    break
        if isinstance(offers.returned, Verdict):
            return offers.returned
        if first_failure is not None and spec.on_failure is not OnFailure.COMPOSE:
            raise_failed(*first_failure)
        if spec.compose is None:
            return None
        value = spec.compose.function(inline_pieces(found, self._app.registry), *args, **kwargs)
        if isinstance(value, Verdict):
            return value
        return spec.compose.result.decode(spec.compose.result.encode(value, self._app.settings.max_payload))

    def _run_piece(self, ordinal: int, piece: Piece[Any]) -> tuple[PieceResult, Exception | None]:
        """One piece, its arguments and result sent through the codec, so that now and later see the same values."""
        spec = self._app.registry[piece.task]
        try:
            with closing(spec.signature.unit() or Unit()) as unit:
                args, kwargs = spec.signature.decode(piece.args, unit)
                value = self._app.task_of(spec)(*args, **kwargs)
                if spec.is_async:
                    value = finish(value)
                if isinstance(value, Verdict):
                    raise value
                text = spec.outcome_codec.encode(value, self._app.settings.max_payload)
        except Cancel as verdict:
            return PieceResult(ordinal, piece.key, "", piece.task, State.CANCELLED, None, None), verdict
        except Exception as error:
            info = describe(error)
            return PieceResult(ordinal, piece.key, "", piece.task, State.FAILED, None, info), error
        return PieceResult(ordinal, piece.key, "", piece.task, State.COMPLETED, text, None), None


def _each_once(offered: Iterable[Piece[Any]]) -> Iterator[Piece[Any]]:
    """The pieces that are offered. Raises `SplitChanged` for a key that came before."""
    keys: set[str] = set()
    for piece in offered:
        if piece.key in keys:
            raise SplitChanged(
                f"piece {piece.key!r} was offered twice; a split's keys must be different from each other"
            )
        if piece.key is not None:
            keys.add(piece.key)
        yield piece


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end from synchronous code, also where a loop runs in this very thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((asyncio.run(coroutine), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = box[0]
    if error is not None:
        raise error
    return value
