"""Hears that something may be fetched, over a connection of its own that listens; silence proves nothing.

Who lies down to sleep leaves a line that says so, and looks once more, and then twice more a little later: whoever had
just looked for lines before this one was there, and had not committed yet, tells nobody. Whoever makes a job available
takes the lines away and notifies, once for all of them: in a busy store nobody sleeps, and nobody notifies.

Who was woken lies down again a moment later; and later each time that it was woken for nothing, because others had
taken what there was, or it was nothing for this one. Else one who adds jobs one by one would pay for waking all that
are idle, for each job.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from piecework.store.listener import Listener
from piecework.store.postgres.database import Database
from piecework.store.postgres.transaction import Con, channel, quoted

FRUITFUL, FRUITLESS = 0.002, 0.1  # seconds awake after being woken: at least, and at most
ECHOES = (0.01, 0.05)  # seconds after the line was left at which one looks again: some were just about to commit


class Ear(Listener):
    """The listening connection of a store object; where a pooler stands between, the clock."""

    def __init__(self, db: Database, lie_down: Callable[[str], object]) -> None:
        super().__init__()
        self._db = db
        self._lie_down = lie_down  # leaves the line
        self._con: Con | None = None
        self._lying = False  # the line is there, as far as anybody knows
        self._echoes: list[float] = []  # moments, the next one last
        self._awake_for = FRUITFUL  # seconds for which it stays awake when it is woken
        self._awake_until = 0.0
        self._lain_at = 0.0
        self._fruitful = True  # something was fetched since it was woken last

    def found(self) -> None:
        """Something was fetched by this process."""
        self._fruitful = True

    def _turn(self, seconds: float, life: int) -> None:
        if self._db.place.pooler:
            time.sleep(seconds)
        else:
            super()._turn(seconds, life)

    def listen(self, seconds: float) -> None:
        try:
            self._listen(seconds)
        except psycopg.Error as error:
            self.hang_up()
            self._db.explain(error)

    def _listen(self, seconds: float) -> None:
        if self._con is None:
            self._con = self._db.connect()
            if self._db.place.pooler:  # as was only found out now
                self.hang_up()
                return
            self._con.execute(f"LISTEN {quoted(channel(self._db.place.schema))}".encode())
        if not self._lying:
            awake = self._awake_until - time.monotonic()
            if awake > 0:
                time.sleep(min(awake, seconds))
                return
            for _ in self._con.notifies(timeout=0):  # what was told to others meanwhile
                pass
            self._lie_down(self.id)
            self._lying = True
            self.heard()  # nobody told of what came before the line was there
            self._lain_at = time.monotonic()
            self._echoes = [self._lain_at + after for after in reversed(ECHOES)]
            return
        if self._echoes:
            seconds = min(seconds, max(0.0, self._echoes[-1] - time.monotonic()))
        for _ in self._con.notifies(timeout=seconds, stop_after=1):
            self._get_up()
        if self._echoes and time.monotonic() >= self._echoes[-1]:
            self._echoes.pop()
            self.heard()

    def _get_up(self) -> None:
        if self._lying:  # else it is a notification that was on its way when it lay down
            now = time.monotonic()
            long = now - self._lain_at > FRUITLESS  # asleep: this is no crowd
            self._awake_for = FRUITFUL if self._fruitful or long else min(2 * self._awake_for, FRUITLESS)
            self._awake_until = now + self._awake_for
            self._lying = self._fruitful = False
        self.heard()

    def hang_up(self) -> None:
        con, self._con, self._lying = self._con, None, False
        if con is not None:
            con.close()

    def forget(self) -> object:
        con, self._con, self._lying = self._con, None, False
        return con
