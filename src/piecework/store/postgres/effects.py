"""The transaction of one run: what its task writes on `connection`, and the run's end, are committed together or not at all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn

import psycopg
from psycopg import Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from piecework.errors import LeaseLost, StoreError, TransactionEnded, UsageError
from piecework.job import Answer, Fence
from piecework.outcome import Settlement
from piecework.store.postgres.database import Database, Gate
from piecework.store.postgres.silence import silent_for
from piecework.store.postgres.transaction import Alone, Con, Row, Statements, Transaction
from piecework.store.sql.settle import Settling

# What the task's own transaction brings about, and would again in the next run: too long idle, too long open, told to
# be read-only, a limit of its own for statements.
ITS_OWN = ("25P03", "25P04", "25006", "57014")

# When a transaction began tells it from the one after, and no SQL of the task's can change it. As a number: what a
# moment looks like is a setting of the session.
BEGAN = b"SELECT (extract(epoch FROM now()) * 1000000)::bigint"

ENDED = (
    "the task ended the transaction of current.connection, by SQL as it seems; it is not the task's to end: leave that to "
    "the end of the job. What a COMMIT of its own has written stays"
)


class Effects:
    """A run's own transaction, on a connection that was made for it."""

    def __init__(self, con: Con, db: Database, statements: Statements, now: Callable[[], float | None]) -> None:
        self.connection = con
        self.settled = False
        self._db = db
        self._statements = statements
        self._now = now
        self._began = self._ask_when()
        self._status: str | None = None

    def settle(self, settlement: Settlement) -> None:
        """Ends the run here. The gate is taken only now: others do not wait for what the task does."""
        with self._ours():
            self._settle(settlement)

    def _settle(self, settlement: Settlement) -> None:
        self._check()
        try:
            try:
                answer = self._answer(settlement, Gate.SHARED)
            except Alone:
                answer = self._answer(settlement, Gate.ALONE)
        except psycopg.Error as error:
            _explain(self._db, error)
        if answer is not Answer.OK:
            raise _lost(settlement.id, settlement.run)
        self.settled = True

    def set_status(self, fence: Fence, status: str) -> None:
        """What the run says of its job is a part of what it writes.

        It is written at the end: until then its row would be locked, and who cancels the job would wait behind the
        gate.
        """
        with self._ours():
            self._set_status(fence, status)

    def _set_status(self, fence: Fence, status: str) -> None:
        self._check()
        tx = Transaction(self.connection, self._statements, self._now())
        try:
            with self.connection.transaction():  # a savepoint: what fails here leaves the rest in order
                mine = tx.row("fence_look", id=fence.id, run=fence.run)
        except psycopg.Error as error:
            self._db.explain(error)
        if not mine:
            raise _lost(fence.id, fence.run)
        self._status = status

    def _answer(self, settlement: Settlement, gate: Gate) -> Answer:
        with self.connection.transaction():  # a savepoint, with which the gate is let go
            tx = Transaction(self.connection, self._statements, self._now(), alone=gate is Gate.ALONE)
            self.connection.execute(self._db.opening(gate, patient=True))
            if self._status is not None:
                tx.post("set_status", id=settlement.id, run=settlement.run, status=self._status)
            (answer,) = Settling(tx, [settlement], careful=True).finish()
            tx.finish()
        return answer

    def _check(self) -> None:
        if self.connection.closed and not self.connection.broken:
            raise TransactionEnded("the task closed current.connection, which rolled back what it wrote; leave it open")
        status = self.connection.info.transaction_status
        if self.connection.pgconn.pipeline_status or status is TransactionStatus.ACTIVE:
            raise UsageError(
                "the task left a pipeline, a COPY or a stream on current.connection open; end it before the task does"
            )
        if status is TransactionStatus.IDLE:
            raise TransactionEnded(ENDED)
        if status is TransactionStatus.INERROR:
            raise UsageError(
                "a statement on current.connection failed and the task went on; the server takes no more in this "
                "transaction. Put what may fail inside `with current.connection.transaction():`, a savepoint"
            )
        try:
            began = self._ask_when()
        except psycopg.Error as error:
            _explain(self._db, error)
        if began != self._began:  # it is another transaction, which goes on after the task's
            raise TransactionEnded(ENDED)

    def _ours(self) -> AbstractContextManager[None]:
        """What is said inside of it is piecework's, and does not take as long as a task likes."""
        return silent_for(self.connection, self._db.place.silence or math.inf)

    def _ask_when(self) -> Row | None:
        return Cursor(self.connection, row_factory=tuple_row).execute(BEGAN).fetchone()


def _lost(id: str, run: int) -> LeaseLost:
    return LeaseLost(f"run {run} of job {id} does not own its job any more; what it wrote is rolled back")


def _explain(db: Database, error: psycopg.Error) -> NoReturn:
    """Raises the store's error, after which nothing of the transaction is left.

    What is the task's own doing is no fault of the store, or it would be run again for ever.
    """
    if error.sqlstate in ITS_OWN:
        raise StoreError(
            "the server took no more in the transaction of current.connection, which was open or idle for longer than it "
            "allows, or told to be read-only, or its statements to be quick "
            f"({error.sqlstate}, {type(error).__name__}: {str(error).strip()})"
        ) from error
    db.explain(error)


@contextmanager
def _given_back(con: Con) -> Iterator[None]:
    """Where the task left a COPY or a stream open, that has the driver's lock, and a rollback would wait for it for ever."""
    try:
        yield
    finally:
        if con.info.transaction_status is TransactionStatus.ACTIVE:
            con.pgconn.finish()  # which rolls back
            con.lock = threading.Lock()


@contextmanager
def opened(db: Database, statements: Statements, now: Callable[[], float | None]) -> Iterator[Effects]:
    """Committed at the end where the run was settled in it, else rolled back."""
    con = db.connect_for_task()
    effects: Effects | None = None
    try:
        with con.transaction() as block:  # in which the driver lets nobody commit or roll back
            effects = Effects(con, db, statements, now)
            with silent_for(con, math.inf), _given_back(con):
                yield effects
            if not effects.settled:
                raise psycopg.Rollback(block)
    except psycopg.Error as error:
        if (
            con.broken and effects is not None and effects.settled
        ):  # at the commit: whether it came through, the worker's own settlement tells
            _explain(db, error)
        raise
    finally:
        con.close()
