"""What every verb on the PostgreSQL shelf stands on: the database, its schema at first use, kinds of transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

from psycopg import Pipeline

from piecework.clock import Clock, SystemClock
from piecework.errors import StoreError
from piecework.job import NewJob
from piecework.store.postgres import enqueue, schema
from piecework.store.postgres.asking import Own, at_once
from piecework.store.postgres.database import Database, Gate
from piecework.store.postgres.transaction import Alone, Con, Statements, Transaction
from piecework.store.postgres.url import parse
from piecework.store.sql.parting import PartsOnRows

log = logging.getLogger("piecework.store")

FOLD_LINES = 1000  # lines of counters after which a process folds them

T = TypeVar("T")


class Ground:
    """One schema of a database. `parts` has the verbs of distributed jobs, which need nothing else of the shelf."""

    def __init__(self, url: str, clock: Clock) -> None:
        place = parse(url)
        self.url = place.shown
        self.clock = clock
        self._server_time = type(clock) is SystemClock  # one that does more than tell the time is a clock of its own
        self._statements = Statements(place.schema, server_time=self._server_time)
        self.db = Database(place)
        self._ready = False
        self._lines = 0  # of counters, since this process last folded them
        self._unfolded = False  # whether folding them failed the last time
        self.parts = PartsOnRows(read=self._read, write=self._write, add=_add)

    def _set_up(self) -> None:
        """A database without tables gets them at first use; old ones have to be migrated by hand."""
        if not self._ready:
            schema.ensure(self.db)
            self._ready = True

    def _now(self) -> float | None:
        return None if self._server_time else self.clock.now()

    def _in(self, gate: Gate, body: Callable[[Transaction], T], *, silence: float = math.inf) -> T:
        self._set_up()

        def work(con: Con, pipeline: Pipeline | None) -> T:
            locks = self.db.locks(again=pipeline is None)
            tx = Transaction(con, self._statements, self._now(), pipeline, alone=gate is Gate.ALONE, locks=locks)
            answer = body(tx)
            self._lines += tx.finish()
            return answer

        answer = self.db.write(work, gate, silence=silence)
        self._wrote(0)
        return answer

    def _wrote(self, lines: int) -> None:
        """Lines of counters; many of them are folded.

        What wrote them is stored, so a fold that fails is not its error.
        """
        self._lines += lines
        if self._lines < FOLD_LINES:
            return
        self._lines = 0
        try:
            self._in(Gate.OPEN, lambda tx: tx.run("tally_fold"))
            self._unfolded = False
        except StoreError as error:
            if not self._unfolded:
                log.warning("the counters are right but grow: they could not be folded: %s", error)
            self._unfolded = True

    def _plainly(self, body: Callable[[Transaction], T]) -> T:
        return self._in(Gate.OPEN, body)

    def _write(self, body: Callable[[Transaction], T]) -> T:
        return self._in(Gate.SHARED, body)

    def _alone(self, body: Callable[[Transaction], T]) -> T:
        return self._in(Gate.ALONE, body)

    def _beside(self, body: Callable[[Transaction], T]) -> T:
        try:
            return self._write(body)
        except Alone:
            return self._alone(body)

    def _read(self, body: Callable[[Transaction], T]) -> T:
        self._set_up()
        return self.db.read(lambda con: body(Transaction(con, self._statements, self._now())))

    def close(self) -> None:
        self.db.close()
        self._ready = False


def _add(tx: Transaction, jobs: list[NewJob]) -> None:
    """Stores follow-ups."""
    at_once(enqueue.add(Own(tx), jobs, None, None))
