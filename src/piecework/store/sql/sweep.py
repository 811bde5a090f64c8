"""Cancels what is left of dead batches, where no fetch comes by: in paused queues, or due long from now.

It looks beside all others and remembers where it stands, because a batch may have a million pieces.
"""

from __future__ import annotations

import threading

from piecework.store.sql import fanin
from piecework.store.sql.transaction import Opened

PAGE = 1000  # pieces looked at in one read, and cancelled at most in one transaction
PAGES = 50  # … in one call
END = (1 << 31) - 1  # above every ordinal, on every shelf


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
            dead = self._dead(self._batch, limit) or self._dead("", limit)
            pages = PAGES
            for batch in dead:
                if batch != self._batch:
                    self._batch, self._below = batch, END
                while self._turn_page():
                    pages -= 1
                    if not pages:
                        return
            self._batch = dead[-1] + "\x01" if dead else ""  # behind it

    def _dead(self, after: str, limit: int) -> list[str]:
        return [row[0] for row in self._read(lambda tx: tx.rows("repair_dead", after=after, limit=limit))]

    def _turn_page(self) -> bool:
        """One page of the batch; False at its end."""
        asked = {"batch": self._batch, "below": self._below, "limit": PAGE}
        lowest, n, ids = self._read(lambda tx: tx.row("sweep_look", **asked))
        if ids != "[]":
            self._write(lambda tx: fanin.cancel_unstarted(tx, tx.rows("sweep_again", ids=ids), fanin.ENDED))
        self._below = lowest if n == PAGE else END
        return bool(n == PAGE)
