"""The transaction of one run: what its task writes on `connection`, and the run's end, are committed together or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from piecework.errors import LeaseLost, TransactionEnded, UsageError, WithinNotSupported
from piecework.job import Answer, Fence
from piecework.outcome import Settlement
from piecework.store.sql.settle import Settling
from piecework.store.sqlite.database import Database
from piecework.store.sqlite.transaction import Transaction

_NOT_YOURS = "the job's end ends the transaction of current.connection, and the task leaves it open"


class TaskConnection(sqlite3.Connection):
    """A connection whose transaction is not its user's to end."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise UsageError(f"{_NOT_YOURS}: no commit(), no rollback(), no `with connection:`, no executescript()")

    commit = rollback = executescript = __enter__ = _refuse


class Effects:
    """A run's own transaction, on a connection that was made for it."""

    def __init__(self, con: sqlite3.Connection, db: Database, now: Callable[[], float]) -> None:
        self.connection = con
        self.settled = False
        self._db = db
        self._now = now

    def settle(self, settlement: Settlement) -> None:
        """Ends the run here."""
        with self._transaction() as tx:
            (answer,) = Settling(tx, [settlement], careful=True).finish()
            tx.finish()
        if answer is not Answer.OK:
            raise _lost(settlement.id, settlement.run)
        self.settled = True

    def set_status(self, fence: Fence, status: str) -> None:
        """What the run says of its job is a part of what it writes."""
        with self._transaction() as tx:
            changed = tx.run("set_status", id=fence.id, run=fence.run, status=status)
        if not changed:
            raise _lost(fence.id, fence.run)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """piecework's own words on the task's connection, which may have been told to answer in another way."""
        if not self.connection.in_transaction:
            raise TransactionEnded(f"{_NOT_YOURS}: it was ended before")
        before, self.connection.row_factory = self.connection.row_factory, None
        try:
            with self._db.speaking_plainly():
                yield Transaction(self.connection, self._now())
        finally:
            self.connection.row_factory = before


def _lost(id: str, run: int) -> LeaseLost:
    return LeaseLost(f"run {run} of job {id} does not own its job any more; what it wrote is rolled back")


@contextmanager
def opened(db: Database, now: Callable[[], float]) -> Iterator[Effects]:
    """Committed at the end where the run was settled in it, else rolled back.

    Nobody else writes to the file meanwhile.
    """
    if db.memory:
        raise WithinNotSupported(
            "a store in memory has one connection, which is its own; transaction=True needs a file"
        )
    con = db.connect_for_task(TaskConnection)
    try:
        with db.speaking_plainly():
            con.execute("BEGIN IMMEDIATE")
        effects = Effects(con, db, now)
        yield effects
        if effects.settled:
            with db.speaking_plainly():
                sqlite3.Connection.commit(con)
    finally:
        con.close()  # rolls back what was not committed
