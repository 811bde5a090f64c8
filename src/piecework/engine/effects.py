"""The transaction of one run of a task with ``transaction=True``: what it wrote and that it completed, or neither."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from piecework.job import Fence
from piecework.outcome import Settlement

if TYPE_CHECKING:
    from piecework.store.protocol import Opened, Store


class Effects:
    """Opens a transaction when the task first asks for its connection; a task that never does costs nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stack = ExitStack()
        self._opened: Opened | None = None

    @property
    def connection(self) -> Any:
        """The driver's connection, in a transaction that is not the task's to end."""
        if self._opened is None:
            self._opened = self._stack.enter_context(self._store.transaction())
        return self._opened.connection

    def set_status(self, fence: Fence, status: str) -> bool:
        """Keeps a status in the run's own transaction; False where it has not begun one. Raises `LeaseLost`."""
        if self._opened is None:
            return False
        self._opened.set_status(fence, status)
        return True

    def settle(self, settlement: Settlement) -> None:
        """Ends the run in its own transaction, if it has one. Raises `LeaseLost` where somebody else has the job."""
        if self._opened is not None:
            self._opened.settle(settlement)

    def __enter__(self) -> Effects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
