"""Adding jobs on a caller's connection: in the caller's transaction, under a savepoint of piecework's own.

Three kinds of connection are spoken to, and each says no more than how one statement is asked. The savepoint makes a
call all or nothing; what it refuses leaves the caller's transaction as it was. Nothing is sent twice here: only the
caller knows what else the transaction did.
"""

from __future__ import annotations

import re
import threading
from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, Protocol
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.generators import send
from psycopg.rows import tuple_row

from piecework.errors import StoreError, StoreUnavailable, WithinNotSupported
from piecework.store.callers import Caller, never_again, no_connection, no_transaction
from piecework.store.postgres.asking import Asking
from piecework.store.postgres.database import IDENTITY, Database
from piecework.store.postgres.transaction import Collided, Counting, Row, Statements

TAKES = (
    "a connection to the store's own database: psycopg's Connection or AsyncConnection, a Connection or Session of "
    "SQLAlchemy (asynchronous ones too) or Django's connection"
)
DRIVERS = ("psycopg", "psycopg_async", "asyncpg")  # of SQLAlchemy
SAVE, KEEP = b"SAVEPOINT piecework", b"RELEASE SAVEPOINT piecework"
UNDO = b"ROLLBACK TO SAVEPOINT piecework"

PLAINLY = {"stream_results": False, "yield_per": None}  # to SQLAlchemy, whatever the caller asks it for

_NO_TRANSACTION, _FAILED_BEFORE, _READ_ONLY = "25P01", "25P02", "25006"
_PLACE = re.compile(rb"%(%|\((\w+)\)s)")

# Of each connection: its calls take turns, for the savepoints of two at once would have the same name.
_turns: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class Reply(NamedTuple):
    """What a statement answered."""

    rows: list[Any]
    changed: int


class Line(Protocol):
    """A connection of a caller's."""

    @property
    def driver(self) -> Any:
        """The driver's own connection, by which it is known again."""

    async def ask(self, statement: bytes, params: Mapping[str, Any]) -> Reply:
        """Sends one statement, with parameters named as psycopg names them, and waits for its answer."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Inside of it, no other call of piecework's speaks on the same connection."""

    def in_two_phases(self) -> bool:
        """Whether its transaction is to be prepared before it is committed, which the server refuses after a NOTIFY."""


# ── the kinds of connection ──────────────────────────────────────────────────────────────────────


class Psycopg:
    """psycopg's own; Django's, too."""

    def __init__(self, driver: Connection[Any]) -> None:
        self.driver = driver

    async def ask(self, statement: bytes, params: Mapping[str, Any]) -> Reply:
        cursor = Cursor(self.driver, row_factory=tuple_row).execute(statement, params)
        if self.driver.pgconn.pipeline_status:  # the caller's own
            with self.driver.lock:  # a sync leaves unsent what the network does not take at once
                self.driver.wait(send(self.driver.pgconn))
            with self.driver.pipeline() as pipeline:
                pipeline.sync()
        return Reply(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        with _turns.setdefault(self.driver, threading.RLock()):
            yield

    def in_two_phases(self) -> bool:
        return self.driver._tpc is not None  # nothing else tells


class AsyncPsycopg:
    """psycopg's own, awaited."""

    def __init__(self, driver: AsyncConnection[Any]) -> None:
        self.driver = driver

    async def ask(self, statement: bytes, params: Mapping[str, Any]) -> Reply:
        cursor: AsyncCursor[Row] = AsyncCursor(self.driver, row_factory=tuple_row)
        await cursor.execute(statement, params)
        if self.driver.pgconn.pipeline_status:
            async with self.driver.lock:
                await self.driver.wait(send(self.driver.pgconn))
            async with self.driver.pipeline() as pipeline:
                await pipeline.sync()
        return Reply(await cursor.fetchall() if cursor.description else [], cursor.rowcount)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with _turns.setdefault(self.driver, Lock()):
            yield

    def in_two_phases(self) -> bool:
        return self.driver._tpc is not None


class SqlAlchemy:
    """SQLAlchemy's connection, whichever driver it has; an asynchronous one inside its `run_sync`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbered = connection.dialect.driver == "asyncpg"

    @property
    def driver(self) -> Any:
        return self._connection.connection.driver_connection

    async def ask(self, statement: bytes, params: Mapping[str, Any]) -> Reply:
        if self._numbered:
            text, names = numbered(statement)
            result = self._connection.exec_driver_sql(text, tuple(params[name] for name in names), PLAINLY)
        else:
            result = self._connection.exec_driver_sql(statement.decode(), dict(params), PLAINLY)
        changed = result.rowcount
        return Reply(result.fetchall() if result.returns_rows else [], changed)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if not self._connection.dialect.is_async:
            with _turns.setdefault(self.driver, threading.RLock()):
                yield
            return
        from sqlalchemy.util import await_only

        lock = _turns.setdefault(self.driver, Lock())
        await_only(lock.acquire())
        try:
            yield
        finally:
            lock.release()

    def in_two_phases(self) -> bool:
        from sqlalchemy import TwoPhaseTransaction

        return isinstance(self._connection.get_transaction(), TwoPhaseTransaction)


@lru_cache(maxsize=256)
def numbered(statement: bytes) -> tuple[str, list[str]]:
    """The same statement with numbers for parameters, and whose number is which."""
    names: list[str] = []

    def number(found: re.Match[bytes]) -> bytes:
        if found[2] is None:
            return b"%"
        name = found[2].decode()
        if name not in names:
            names.append(name)
        return b"$%d" % (names.index(name) + 1)

    return _PLACE.sub(number, statement).decode(), names


def line_of(caller: Caller | None, within: Any) -> Line:
    """How what was handed in is spoken to. Raises `WithinNotSupported`."""
    if caller is None:
        raise no_connection(within, TAKES)
    if caller.commits_itself:
        raise no_transaction(caller)
    con = caller.connection
    if caller.sqlalchemy:
        dialect = con.dialect
        if dialect.name != "postgresql" or dialect.driver not in DRIVERS:
            raise WithinNotSupported(
                f"within= takes an engine of SQLAlchemy on postgresql+psycopg:// or postgresql+asyncpg://; this one is on "
                f"{dialect.name}+{dialect.driver}://"
            )
        return SqlAlchemy(con)
    if isinstance(con, AsyncConnection):
        return AsyncPsycopg(con)
    if isinstance(con, Connection):
        return Psycopg(con)
    raise no_connection(con, TAKES)


# ── the transaction ──────────────────────────────────────────────────────────────────────────────


class Theirs(Counting):
    """A part of a caller's transaction, as the shelf's statements are asked in it."""

    def __init__(self, line: Line, statements: Statements, now: float | None) -> None:
        super().__init__(statements.schema)
        self._line = line
        self._statements = statements
        self._now = now

    async def _ask(self, title: str, params: dict[str, Any]) -> Reply:
        return await self._line.ask(self._statements[title], params | {"now": self._now})

    async def post(self, title: str, **params: Any) -> None:
        await self._ask(title, params)

    async def run(self, title: str, **params: Any) -> int:
        return (await self._ask(title, params)).changed

    async def row(self, title: str, **params: Any) -> Any:
        return next(iter((await self._ask(title, params)).rows), None)

    async def rows(self, title: str, **params: Any) -> list[Any]:
        return (await self._ask(title, params)).rows

    async def limit_locks(self, brief: bool) -> None:
        """How long it waits is the caller's to say: nobody waits for it but who wants what it has taken."""

    async def finish(self) -> None:
        """Writes the counters; who sleeps is woken by the caller's commit, or finds the job by its poll."""
        self.wakes = self.wakes and not self._line.in_two_phases()
        for title, params in self.closing(softly=True):
            await self.post(title, **params)


class Within:
    """Writes in callers' transactions, on connections of which it was seen that they are to the store's database."""

    def __init__(self, db: Database, statements: Statements) -> None:
        self._db = db
        self._statements = statements

    async def write(
        self,
        caller: Caller,
        line: Line,
        now: float | None,
        body: Callable[[Asking], Awaitable[list[str]]],
        aside: Callable[[Callable[[], Row]], Awaitable[Row]],
    ) -> list[str]:
        """Runs a body in the caller's transaction, all or nothing.

        `aside` asks the store on a connection of its own.
        """
        async with line.turn():
            return await self._write(caller, line, now, body, aside)

    async def _write(
        self,
        caller: Caller,
        line: Line,
        now: float | None,
        body: Callable[[Asking], Awaitable[list[str]]],
        aside: Callable[[Callable[[], Row]], Awaitable[Row]],
    ) -> list[str]:
        try:
            await line.ask(SAVE, {})
        except Exception as error:
            self._explain(error, caller)
        try:
            await self._check_place(line, aside)
            tx = Theirs(line, self._statements, now)
            answer = await body(tx)
            await tx.finish()
            await line.ask(KEEP, {})
        except BaseException as error:
            await self._undo(line, error)
            if isinstance(error, Exception):
                self._explain(error, caller)
            raise
        return answer

    async def _undo(self, line: Line, error: BaseException) -> None:
        try:
            await line.ask(UNDO, {})
            await line.ask(KEEP, {})
        except Exception as more:
            if _of_the_driver(more) is None and isinstance(error, Exception):
                raise  # else it is a cancellation, and whoever waits for its end has to see it
            error.add_note(f"your transaction cannot go on either: {_said(more)}")

    async def _check_place(self, line: Line, aside: Callable[[Callable[[], Row]], Awaitable[Row]]) -> None:
        if self._db.knows(line.driver):
            return
        theirs = tuple((await line.ask(IDENTITY, {})).rows[0])
        if theirs != self._db.identity() and theirs != await aside(self._db.ask_identity):
            raise WithinNotSupported(
                f"within= takes a connection to {self._db.place.shown}, the store's own database; this one is to another"
            )
        self._db.remember(line.driver)

    def _explain(self, error: Exception, caller: Caller) -> NoReturn:
        """Raises what the driver said as the store's own error, and what to do, for nothing was or will be sent again."""
        if isinstance(error, Collided):
            raise StoreUnavailable(never_again(f"the store {self._db.place.shown} is too busy: {error}")) from error
        cause = _of_the_driver(error)
        if cause is None:
            raise error
        code = getattr(cause, "sqlstate", None)
        if code == _NO_TRANSACTION:
            raise no_transaction(caller) from error
        if code == _FAILED_BEFORE:
            raise StoreError(
                "an earlier statement of your transaction has failed, and the server takes no more in it; roll it back, or "
                "to a savepoint"
            ) from error
        if code == _READ_ONLY:
            raise WithinNotSupported(
                f"within= takes a transaction that may write, for it stores the job; yours is read-only ({_said(error)}): "
                "begin it as READ WRITE, on the primary server"
            ) from error
        try:
            self._db.tell(code, _said(error), error)
        except StoreUnavailable as told:
            raise type(told)(never_again(str(told))) from error


def _of_the_driver(error: BaseException) -> Any:
    """What the driver raised, below SQLAlchemy's or by itself; None for anything else."""
    below = getattr(error, "orig", None) if type(error).__module__ == "sqlalchemy.exc" else error
    return below if isinstance(below, psycopg.Error) or hasattr(below, "sqlstate") else None


def _said(error: BaseException) -> str:
    cause = _of_the_driver(error) or error
    said = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    return (said or str(cause) or type(cause).__name__).strip().split("\n")[0]
