"""Adding jobs on a caller's connection: in the caller's transaction, under a savepoint of piecework's own.

Nothing is sent twice here: only the caller knows what else the transaction did.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from piecework.errors import StoreUnavailable, WithinNotSupported
from piecework.store.callers import Caller, caller_of, never_again, no_connection, no_transaction
from piecework.store.sqlite.database import Database
from piecework.store.sqlite.transaction import Transaction

TAKES = (
    "a connection to the store's own file: an sqlite3.Connection, a Connection or Session of SQLAlchemy (asynchronous ones "
    "too) or Django's connection"
)


class Plain:
    """A connection of sqlite3, whose rows are read as plain tuples whatever its `row_factory` makes of them."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver

    def execute(self, statement: str, params: Mapping[str, Any] | Sequence[Any] = ()) -> sqlite3.Cursor:
        cursor = self.driver.cursor()
        cursor.row_factory = None
        return cursor.execute(statement, params)


class SqlAlchemy:
    """SQLAlchemy's connection; an asynchronous one inside its `run_sync`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def driver(self) -> Any:
        return self._connection.connection.driver_connection

    def execute(self, statement: str, params: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        return self._connection.exec_driver_sql(
            statement, dict(params) if isinstance(params, Mapping) else tuple(params)
        )


Line = Plain | SqlAlchemy


@contextmanager
def theirs(within: Any, db: Database, now: Callable[[], float]) -> Iterator[Transaction]:
    """A part of the caller's transaction: all or nothing, and made to last by the caller's commit."""
    caller = caller_of(within)
    line = _line_of(caller, within)
    with _no_second_time(), db.speaking_plainly():
        _check_file(line, db)
        assert caller is not None
        _begin(line, caller)
        line.execute("SAVEPOINT piecework")
        try:
            tx = Transaction(line, now())
            yield tx
            tx.finish()
        except BaseException as error:
            _undo(line, error)
            raise
        line.execute("RELEASE piecework")


def _line_of(caller: Caller | None, within: Any) -> Line:
    if caller is None:
        raise no_connection(within, TAKES)
    if caller.commits_itself:
        raise no_transaction(caller)
    if caller.sqlalchemy:
        dialect = caller.connection.dialect
        if dialect.name != "sqlite":
            raise WithinNotSupported(f"within= takes {TAKES}; this engine of SQLAlchemy is on {dialect.name}://")
        return SqlAlchemy(caller.connection)
    if not isinstance(caller.connection, sqlite3.Connection):
        raise no_connection(caller.connection, TAKES)
    return Plain(caller.connection)


def _check_file(line: Line, db: Database) -> None:
    """Raises `WithinNotSupported` for a connection to another file than the store's."""
    found = line.execute("PRAGMA database_list").fetchall()
    main = next(str(row[2]) for row in found if row[1] == "main")
    if db.memory or not main or not os.path.samefile(main, db.path):
        raise WithinNotSupported(
            f"within= takes a connection to {db.path}, the store's own file; this one is to {main or 'memory'}"
        )


def _begin(line: Line, caller: Caller) -> None:
    """Begins the transaction that the caller's connection would begin at its next write; some never would."""
    driver = line.driver
    if driver.in_transaction:
        return
    if driver.isolation_level is None or getattr(driver, "autocommit", None) is True:
        raise no_transaction(caller)
    line.execute("BEGIN IMMEDIATE")


def _undo(line: Line, error: BaseException) -> None:
    try:
        line.execute("ROLLBACK TO piecework")
        line.execute("RELEASE piecework")
    except Exception as more:
        if not line.driver.in_transaction:  # SQLite itself has rolled all of it back
            error.add_note(f"your transaction was rolled back as a whole: {more}")
        else:
            raise


@contextmanager
def _no_second_time() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable(never_again(str(error))) from error
