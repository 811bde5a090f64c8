"""The arguments of a run that takes rows: loaded before the call, and let go after it, whatever happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from piecework.engine.context import Running
from piecework.errors import BadArguments, RowGone
from piecework.errortext import describe
from piecework.outcome import Cancelled, Errored, Failed, Outcome, Park

if TYPE_CHECKING:
    from piecework.registry import TaskSpec
    from piecework.rows import Unit

T = TypeVar("T")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Unbound(Exception):
    """The arguments are not to be had; `outcome` is what the run comes to."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def with_rows(now: Running, spec: TaskSpec, unit: Unit) -> Arguments:
    """The arguments with their rows.

    Raises `Unbound` where they do not fit or a row is gone, and what a database raises.
    """
    try:
        return spec.signature.decode(now.job.args, unit)
    except BadArguments as error:
        raise Unbound(Park(str(error))) from error
    except RowGone as error:
        raise Unbound(outcome_of_gone(error, now)) from error


def outcome_of_gone(error: RowGone, now: Running) -> Outcome:
    """What a row that is gone means for its job, by the task's `on_missing`."""
    told = describe(error.with_traceback(None))  # no line of the user's code has run
    policy = now.options.on_missing if now.options is not None else "fail"
    if policy == "cancel":
        return Cancelled(str(error))
    return Errored(told) if policy == "retry" else Failed(told)


async def call_with_rows(call: Callable[..., Any], load: Callable[[], Arguments], unit: Unit) -> Any:
    """Calls a coroutine function with its rows.

    They are loaded on a thread, so that other coroutines go on meanwhile.
    """

    def loaded() -> Arguments:
        try:
            return load()
        finally:
            unit.leave()

    try:
        args, kwargs = await _on_a_thread(loaded)
        return await call(*args, **kwargs)
    finally:
        await _on_a_thread(unit.close)


async def _on_a_thread(work: Callable[[], T]) -> T:
    """Waits for the thread even when cancelled: no two threads may use one session at a time."""
    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # one is enough to end the run, which it does below
        if not future.cancelled():
            future.exception()  # has been looked at: the run is cancelled, whatever became of the rows
        raise
