"""What a program may hand in as `within=`: its own connection, session or Django's, and how a transaction is begun on it.

Nothing is imported here that the program has not imported itself: what it hands in, it has made with its library.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from piecework.errors import WithinNotSupported

T = TypeVar("T")


class Aside(Protocol):
    """Runs what blocks where it holds up no event loop, and awaits its answer."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class Caller(NamedTuple):
    """A caller's connection, taken out of what was handed in."""

    connection: Any  # of a driver, or of SQLAlchemy
    sqlalchemy: bool
    begin: str  # how a transaction is begun on it, for those who have none
    commits_itself: bool = False  # known already: outside of `transaction.atomic()`


def is_awaited(within: Any) -> bool:
    """Whether the statements on what was handed in are awaited."""
    return _is(within, "psycopg", "AsyncConnection") or is_awaited_sqlalchemy(within)


def is_awaited_sqlalchemy(within: Any) -> bool:
    """Whether it is one of SQLAlchemy's that has `run_sync`."""
    return _is(within, "sqlalchemy.ext.asyncio", "AsyncConnection", "AsyncSession", "async_scoped_session")


def refuse_awaited(within: Any) -> None:
    """Raises `WithinNotSupported` for what a synchronous call cannot write on."""
    if is_awaited(within):
        raise WithinNotSupported(
            f"later writes on synchronous connections; {_named(within)} is asynchronous: await alater instead"
        )


def synchronous_half(within: Any) -> Any:
    """SQLAlchemy's session or connection that `run_sync` is asked of."""
    return within() if _is(within, "sqlalchemy.ext.asyncio", "async_scoped_session") else within


def caller_of(within: Any) -> Caller | None:
    """The connection in what was handed in; None where it is nothing that has one."""
    if _is(within, "sqlalchemy.orm", "scoped_session"):
        within = within()
    if _is(within, "sqlalchemy.orm", "Session"):
        return Caller(_of_session(within), True, "leave out isolation_level='AUTOCOMMIT'")
    if _is(within, "sqlalchemy", "Connection"):
        return Caller(within, True, "leave out isolation_level='AUTOCOMMIT'")
    if _is(within, "django.utils.connection", "ConnectionProxy") or _is(
        within, "django.db.backends.base.base", "BaseDatabaseWrapper"
    ):
        commits_itself = within.get_autocommit()  # connects, if need be
        return Caller(within.connection, False, "call it inside `with transaction.atomic():`", commits_itself)
    if _is(within, "psycopg", "Connection", "AsyncConnection"):
        return Caller(within, False, "call it inside `with connection.transaction():`")
    if _is(within, "sqlite3", "Connection"):
        return Caller(within, False, 'connection.execute("BEGIN IMMEDIATE") first')
    return None


def no_connection(within: Any, takes: str) -> WithinNotSupported:
    """What was handed in is nothing that this store could write on."""
    return WithinNotSupported(f"within= takes {takes}; this is {_named(within)}")


def no_transaction(caller: Caller) -> WithinNotSupported:
    """The connection commits each statement by itself."""
    return WithinNotSupported(
        "within= takes a connection with a transaction, which decides about the job too; this one commits each "
        f"statement by itself: {caller.begin}. Or leave out within=, and the job is stored at once"
    )


def never_again(said: str) -> str:
    """What went wrong in a caller's transaction, and what to do: nothing is sent again there."""
    return f"{said}; nothing was sent again, for it is part of your transaction: roll that back and do all of it anew"


def _of_session(session: Any) -> Any:
    from sqlalchemy.exc import UnboundExecutionError

    try:
        return session.connection()
    except UnboundExecutionError as error:
        raise WithinNotSupported(
            "this session has several databases and does not know which one is meant; hand in the connection: "
            "within=session.connection(bind_arguments={'mapper': Model})"
        ) from error


def _is(given: Any, module: str, *names: str) -> bool:
    """Whether something is of these classes, of a module that the program may have imported."""
    found = sys.modules.get(module)
    return found is not None and isinstance(given, tuple(getattr(found, name) for name in names))


def _named(given: Any) -> str:
    kind = type(given)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
