"""Cancels what is left of dead batches, where no fetch comes by: in paused queues, or due long from now.

It looks without the writer's lock and remembers where it stands, because a batch may have a million pieces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from piecework.store.sqlite import fanin
from piecework.store.sqlite.transaction import Transaction

PAGE = 1000  # pieces looked at in one read, and cancelled at most in one transaction
PAGES = 50  # … in one call
END = 1 << 62  # above every ordinal

Opened = Callable[[], AbstractContextManager[Transaction]]


class Sweeper:
    """Where one store object stands in the dead batches."""

    def __init__(self, read: Opened, write: Opened) -> None:
        self._read = read
        self._write = write
        self._lock = threading.Lock()
        self._batch = ""
        self._below = END

    def sweep(self, limit: int) -> None:
        """Some pages of up to `limit` dead batches, from where the last call stopped."""
        with self._lock:
            with self._read() as tx:
                dead = [row[0] for row in tx.rows("repair_dead", after=self._batch, limit=limit)]
                dead = dead or [row[0] for row in tx.rows("repair_dead", after="", limit=limit)]
            pages = PAGES
            for batch in dead:
                if batch != self._batch:
                    self._batch, self._below = batch, END
                while self._turn_page():
                    pages -= 1
                    if not pages:
                        return
            self._batch = dead[-1] + "\0" if dead else ""

    def _turn_page(self) -> bool:
        """One page of the batch; False at its end."""
        with self._read() as tx:
            lowest, n, ids = tx.row("sweep_look", batch=self._batch, below=self._below, limit=PAGE)
        if ids != "[]":
            with self._write() as tx:
                fanin.cancel_unstarted(tx, tx.rows("sweep_again", ids=ids), fanin.ENDED)
        self._below = lowest if n == PAGE else END
        return bool(n == PAGE)
