"""Now or later, decided at the call: `app.later(process.call, …)` for methods of objects, and for tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from piecework.handle import Job
from piecework.options import CallKeywords, CallOptions, call_options
from piecework.split import Piece
from piecework.targets import target_of
from piecework.task import Task

if TYPE_CHECKING:
    from piecework.app import Piecework

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


class Calls:
    """Calls with options: what `app.using(…)` returns. Every argument but the first is the method's own."""

    def __init__(self, app: Piecework, options: tuple[CallKeywords, ...] = ()) -> None:
        self._app = app
        self._options = options

    def __repr__(self) -> str:
        return f"<calls of {self._app!r}>"

    def using(self, **options: Unpack[CallKeywords]) -> Calls:
        """The same with more options, on top of those before. Raises `BadOption`."""
        made = Calls(self._app, (*self._options, options))
        made._on_top_of(CallOptions())
        return made

    @overload
    def later(self, target: Task[P, C, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def later(self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def later(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    def later(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Stores a call of a method of an object, or of a task, and returns a handle to the job. See `Piecework.later`."""
        task, before = self._task(target)
        return task.later(*before, *args, **kwargs)

    @overload
    async def alater(self, target: Task[P, C, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    async def alater(
        self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...
    @overload
    async def alater(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    async def alater(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`later`, awaited."""
        task, before = self._task(target)
        return await task.alater(*before, *args, **kwargs)

    @overload
    def piece(self, target: Task[P, C, R], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...
    @overload
    def piece(self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...
    @overload
    def piece(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...

    def piece(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The call as a piece, for a splitter to yield or a batch to add. Nothing is stored by making one."""
        task, before = self._task(target)
        return task.piece(*before, *args, **kwargs)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _task(self, target: Any) -> tuple[Task[Any, Any, Any], tuple[Any, ...]]:
        """The task that a target is, with these options, and what stands before the call's own arguments."""
        before: tuple[Any, ...] = ()
        if isinstance(target, Task):
            task: Task[Any, Any, Any] = target
        else:
            spec, before = target_of(target, self._app.registry)
            task = self._app.task_of(spec)
        return task.with_options(self._on_top_of(task.options)) if self._options else task, before

    def _on_top_of(self, options: CallOptions) -> CallOptions:
        for given in self._options:
            options = call_options(given, options, "app.using")
        return options
