"""Now or later, decided at the call: `app.later(process.call, …)` for methods of objects, and for tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class Calling(ABC):
    """What an app and `app.using(…)` have in common: a call of an object's method, or of a task, as a job or a piece."""

    @abstractmethod
    def _aimed(self, target: Any) -> tuple[Task[Any, Any, Any], tuple[Any, ...]]:
        """The task that a target is, and what stands before the call's own arguments."""

    @overload
    def later(self, target: Task[P, C, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def later(self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def later(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    def later(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Stores a call of an object's method as a job, and returns a handle to it.

        The object's class, or a base of it, is registered with `@app.task`. The worker builds the object anew, from the
        arguments that it was constructed with, and calls the method. Classmethods, staticmethods and tasks are taken,
        too.
        Raises `UnknownTask` for what no worker could find, `BadArguments` for what cannot run or travel; nothing is
        stored then. Raises `StoreUnavailable` where the store could not be reached.

        Example::

            process = SomeProcess("ee6f1d66")
            process.call(1)                                   # now
            app.later(process.call, 1)                        # later
            app.using(queue="low", delay=60).later(process.call, 1)
        """
        task, before = self._aimed(target)
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
        task, before = self._aimed(target)
        return await task.alater(*before, *args, **kwargs)

    @overload
    def piece(self, target: Task[P, C, R], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...
    @overload
    def piece(self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...
    @overload
    def piece(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Piece[R]: ...

    def piece(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The call as a piece, for a splitter to yield or a batch to add. Nothing is stored by making one."""
        task, before = self._aimed(target)
        return task.piece(*before, *args, **kwargs)


class Calls(Calling):
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

    def _aimed(self, target: Any) -> tuple[Task[Any, Any, Any], tuple[Any, ...]]:
        task, before = aimed(self._app, target)
        return task.with_options(self._on_top_of(task.options)) if self._options else task, before

    def _on_top_of(self, options: CallOptions) -> CallOptions:
        for given in self._options:
            options = call_options(given, options, "app.using")
        return options


def aimed(app: Piecework, target: Any) -> tuple[Task[Any, Any, Any], tuple[Any, ...]]:
    """The task that a target is, and what stands before the call's own arguments. Raises `UnknownTask`."""
    if isinstance(target, Task):
        return target, ()
    spec, before = target_of(target, app.registry)
    return app.task_of(spec), before
