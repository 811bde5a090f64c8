"""Held behind SQLAlchemy's sessions and connections, neither of which says by itself when it has committed for good.

A session tells of its commit, and of what is rolled back; what is held is kept in its own notes. Where its connection
had begun a transaction before, or where a bare connection was given, it is that transaction that tells.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from piecework.aftercommit.held import Held
from piecework.errors import BadOption

# ── sessions ─────────────────────────────────────────────────────────────────────────────────────

_KEPT = "piecework.held"  # in the session's own notes: (the transaction in which it was asked for, what is held)


def session_of(behind: Any) -> Any:
    """SQLAlchemy's synchronous session in what was given; None where there is none."""
    orm, aio = sys.modules.get("sqlalchemy.orm"), sys.modules.get("sqlalchemy.ext.asyncio")
    if orm is None:
        return None
    if isinstance(behind, orm.scoped_session) or (aio is not None and isinstance(behind, aio.async_scoped_session)):
        behind = behind()
    if aio is not None and isinstance(behind, aio.AsyncSession):
        behind = behind.sync_session
    return behind if isinstance(behind, orm.Session) else None


def behind_session(session: Any, held: Held) -> None:
    if not session.in_transaction():
        if not session.autobegin:
            raise _not_begun("session")
        session.begin()  # as with `session.add`: what is asked for is part of what is committed or rolled back next
    root = session.get_transaction()
    if _has_committed(root):  # asked for by a listener to that very commit, before ours or after it
        _committed(session)
        _behind_all(_still_open(root), held)
    elif session.bind in _connections(within := session.get_nested_transaction() or root):
        behind_connection(session.bind, held)  # whose transaction it may have joined, or its savepoint by now
    else:
        _listen(session)
        kept = session.info[_KEPT]
        if kept and not _is_in(kept[-1][0], root):
            kept.clear()  # of a transaction that was closed without a commit
        kept.append((within, held))
        _make_sure_of(root)


def _listen(session: Any) -> None:
    if _KEPT in session.info:
        return
    from sqlalchemy import event

    session.info[_KEPT] = []
    event.listen(session, "after_commit", _committed, insert=True)  # before the other listeners of this session
    event.listen(session, "after_soft_rollback", _forget)


def _committed(session: Any) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was let go
    root, kept = session.get_transaction(), session.info.get(_KEPT, [])
    still_open = _still_open(root)
    while kept:
        within, held = kept.pop(0)
        if _is_in(within, root):  # and not of a transaction that was closed without a commit
            _behind_all(still_open, held)


def _make_sure_of(root: Any) -> None:
    """Has what is held added even where a listener raises that is called before ours, as those of a whole class are."""
    orm: Any = sys.modules["sqlalchemy.orm"]
    if type(root) is orm.SessionTransaction:
        kind: Any = orm.SessionTransaction
        root.__class__ = _sure(kind)


@cache
def _sure(kind: Any) -> type:
    def commit(self: Any, _to_root: bool = False) -> None:
        try:
            kind.commit(self, _to_root)
        except BaseException:
            if _has_committed(self):
                _committed(self.session)
            raise

    return type(kind.__name__, (kind,), {"__slots__": (), "commit": commit})


def _forget(session: Any, over: Any) -> None:
    """Forgets what was held in a transaction that is rolled back, and in savepoints within it."""
    session.info[_KEPT] = [(within, held) for within, held in session.info[_KEPT] if not _is_in(within, over)]


def _is_in(transaction: Any, over: Any) -> bool:
    while transaction is not None and transaction is not over:
        transaction = transaction.parent
    return transaction is over


def _has_committed(root: Any) -> bool:
    return getattr(root._state, "name", None) == "COMMITTED"


def _connections(transaction: Any) -> list[Any]:
    """The connections that a transaction of a session has come to: SQLAlchemy has no public name for them."""
    return [connection for connection in transaction._connections if connection_of(connection) is not None]


def _still_open(root: Any) -> list[Any]:
    """The transactions that a session had joined, and which its own commit has not committed."""
    return [open for connection in _connections(root) if (open := connection.get_transaction()) is not None]


# ── connections ──────────────────────────────────────────────────────────────────────────────────


class _Line:
    """What is held behind the transaction of one connection, and how much was when each of its savepoints began.

    A savepoint that is not noted began before anything was held.
    """

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] = []
        self.savepoints: list[int] = []

    def undone(self) -> None:
        """The innermost savepoint was rolled back."""
        del self.held[self.savepoints.pop() if self.savepoints else 0 :]

    def let_go(self) -> None:
        """The innermost savepoint was let go."""
        if self.savepoints:
            self.savepoints.pop()


_lines: WeakKeyDictionary[Any, _Line] = WeakKeyDictionary()  # by root transaction


def connection_of(behind: Any) -> Any:
    """SQLAlchemy's synchronous connection in what was given; None where there is none."""
    core, aio = sys.modules.get("sqlalchemy"), sys.modules.get("sqlalchemy.ext.asyncio")
    if aio is not None and isinstance(behind, aio.AsyncConnection):
        behind = behind.sync_connection
    return behind if core is not None and isinstance(behind, core.Connection) else None


def behind_connection(connection: Any, held: Held) -> None:
    transaction = connection.get_transaction()
    if transaction is None or not transaction.is_active:
        raise _not_begun("connection")
    _line_of(transaction).held.append(held.committed)


def _not_begun(what: str) -> BadOption:
    return BadOption(
        f"after_commit= waits for the transaction of this {what}, which has begun none: begin it first. Or leave out "
        "after_commit=, and the job is stored at once"
    )


def _behind_all(transactions: Sequence[Any], held: Held) -> None:
    """Waits for one after the other of those that are open, and adds the jobs behind the last."""
    for n, transaction in enumerate(transactions, start=1):
        if transaction.is_active:
            _line_of(transaction).held.append(partial(_behind_all, transactions[n:], held))
            return
    held.committed()


def _line_of(transaction: Any) -> _Line:
    if transaction not in _lines:
        kind: Any = type(transaction)
        transaction.__class__ = _telling(kind)
        _lines[transaction] = _Line()
        _listen_to_savepoints(transaction.connection)
    return _lines[transaction]


@cache
def _telling(kind: Any) -> type:
    """A class of transactions that tell when they have committed: SQLAlchemy's own event comes before the commit."""

    def commit(self: Any) -> None:
        kind.commit(self)
        for add in _lines.pop(self).held:
            add()

    return type(kind.__name__, (kind,), {"__slots__": (), "commit": commit})


def _listen_to_savepoints(connection: Any) -> None:
    from sqlalchemy import event

    for name, listener in _OF_SAVEPOINTS.items():
        if not event.contains(connection, name, listener):
            event.listen(connection, name, listener)


def _line_on(connection: Any) -> _Line:
    transaction = connection.get_transaction()
    return (None if transaction is None else _lines.get(transaction)) or _Line()


def _saved(connection: Any, name: str | None) -> None:
    line = _line_on(connection)
    line.savepoints.append(len(line.held))


_OF_SAVEPOINTS: dict[str, Callable[..., None]] = {
    "savepoint": _saved,
    "rollback_savepoint": lambda connection, name, context: _line_on(connection).undone(),
    "release_savepoint": lambda connection, name, context: _line_on(connection).let_go(),
}
