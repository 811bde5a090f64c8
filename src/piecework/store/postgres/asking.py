"""How jobs are added on any connection: the shelf's own, or a caller's, synchronous or asynchronous.

What is decided is written once, as coroutines over `Asking`. On a synchronous connection nothing in them ever waits for
an event loop, and `at_once` runs them to their end by one step.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from piecework.store.postgres.transaction import Transaction

T = TypeVar("T")


class Asking(Protocol):
    """A transaction whose statements are awaited."""

    async def post(self, title: str, **params: Any) -> None:
        """Sends a statement whose answer nobody reads."""

    async def run(self, title: str, **params: Any) -> int:
        """How many rows the statement changed."""

    async def row(self, title: str, **params: Any) -> Any:
        """The first row, or None."""

    async def rows(self, title: str, **params: Any) -> list[Any]:
        """All rows."""

    async def limit_locks(self, brief: bool) -> None:
        """Says that the statements from here on may wait for a unique key, and hold up who waits for this transaction."""

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Remembers that `n` jobs of a queue went from one state to another; None is being not stored."""


class Own:
    """A transaction on a connection of the shelf's own; nothing here waits for an event loop."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.moved = tx.moved

    async def post(self, title: str, **params: Any) -> None:
        self._tx.post(title, **params)

    async def run(self, title: str, **params: Any) -> int:
        return self._tx.run(title, **params)

    async def row(self, title: str, **params: Any) -> Any:
        return self._tx.row(title, **params)

    async def rows(self, title: str, **params: Any) -> list[Any]:
        return self._tx.rows(title, **params)

    async def limit_locks(self, brief: bool) -> None:
        self._tx.limit_locks(brief)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in which nothing waits for an event loop, on this thread."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("a coroutine on a synchronous connection waited for an event loop")
