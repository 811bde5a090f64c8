"""A thread that sleeps until a store has something new to tell it."""

from __future__ import annotations

import threading

from piecework.errors import StoreUnavailable
from piecework.store import Store


def quiet(store: Store) -> None:
    """Waits until a store has nothing new to tell this thread; it lies down for that."""
    while store.wait(0.15):
        pass


class Waiter:
    """A thread that has found all quiet and waits for something new; what its wait came to."""

    def __init__(self, store: Store, seconds: float = 30.0) -> None:
        self._store = store
        self._seconds = seconds
        self._waits = threading.Event()
        self._came_to: list[bool | StoreUnavailable] = []
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        assert self._waits.wait(20)

    def _wait(self) -> None:
        quiet(self._store)
        self._waits.set()
        try:
            self._came_to.append(self._store.wait(self._seconds))
        except StoreUnavailable as error:
            self._came_to.append(error)

    def ended(self) -> bool | StoreUnavailable:
        self._thread.join(20)  # less than the wait itself: a wait that only ran out has noticed nothing
        assert not self._thread.is_alive()
        return self._came_to[0]
