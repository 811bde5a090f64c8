"""Jobs held in memory until the caller's transaction has committed, wherever that is: `using(after_commit=session)`.

The one thing it cannot survive is the death of the process between the commit and the adding; what must survive that goes
within the transaction, or through the outbox.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from piecework.errors import BadOption
from piecework.job import NewJob

log = logging.getLogger("piecework.aftercommit")

Add = Callable[[Sequence[NewJob]], list[str]]

_HELD = "piecework.held"  # in the session's own notes


def hold(jobs: Sequence[NewJob], behind: Any, add: Add) -> list[str]:
    """Adds the jobs once the transaction of a session or connection has committed, and answers their ids now.

    A rollback forgets them; that of a savepoint those held since it began. Where adding fails, that is logged, and what
    else is held is added all the same: the transaction has committed, and no error could undo it.
    Raises `BadOption` for what has no transaction to wait for.
    """
    session = _session(behind)
    if session is not None:
        _behind_session(session, partial(_add, jobs, add))
    elif (connection := _django(behind)) is not None:
        connection.on_commit(partial(_add, jobs, add), robust=True)
    else:
        raise BadOption(
            f"after_commit= takes a Session of SQLAlchemy (scoped or asynchronous ones too) or Django's connection, not "
            f"{type(behind).__module__}.{type(behind).__qualname__}"
        )
    return [job.id for job in jobs]


def _add(jobs: Sequence[NewJob], add: Add) -> None:
    try:
        add(jobs)
    except Exception:
        ids = ", ".join(job.id for job in jobs[:10]) + (", …" if len(jobs) > 10 else "")
        log.exception("lost: jobs that were held until a transaction committed could not be added then: %s", ids)


# ── SQLAlchemy ───────────────────────────────────────────────────────────────────────────────────


def _session(behind: Any) -> Any:
    """SQLAlchemy's synchronous session in what was given; None where there is none."""
    orm, aio = sys.modules.get("sqlalchemy.orm"), sys.modules.get("sqlalchemy.ext.asyncio")
    if orm is None:
        return None
    if isinstance(behind, orm.scoped_session) or (aio is not None and isinstance(behind, aio.async_scoped_session)):
        behind = behind()
    if aio is not None and isinstance(behind, aio.AsyncSession):
        behind = behind.sync_session
    return behind if isinstance(behind, orm.Session) else None


def _behind_session(session: Any, adding: Callable[[], None]) -> None:
    if _HELD not in session.info:
        from sqlalchemy import event

        session.info[_HELD] = []
        event.listen(
            session, "after_commit", _committed, insert=True
        )  # another listener that raises must not lose them
        event.listen(session, "after_soft_rollback", _rolled_back)
        event.listen(session, "after_transaction_end", _ended)
    # A session that has done nothing yet begins its transaction with its first statement; there is none to roll back to.
    session.info[_HELD].append((session.get_nested_transaction() or session.get_transaction(), adding))


def _committed(session: Any) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was let go
    held, session.info[_HELD] = session.info[_HELD], []
    for _, adding in held:
        adding()


def _rolled_back(session: Any, over: Any) -> None:
    """Forgets what was held in a transaction that is rolled back, and in savepoints within it."""
    session.info[_HELD] = [held for held in session.info[_HELD] if not _is_in(held[0], over)]


def _ended(session: Any, over: Any) -> None:
    """A session that is closed is not rolled back; what it did is gone all the same."""
    if over.parent is None:
        session.info[_HELD] = []


def _is_in(transaction: Any, over: Any) -> bool:
    while transaction is not None and transaction is not over:
        transaction = transaction.parent
    return transaction is over or over.parent is None


# ── Django ───────────────────────────────────────────────────────────────────────────────────────


def _django(behind: Any) -> Any:
    proxies, wrappers = sys.modules.get("django.utils.connection"), sys.modules.get("django.db.backends.base.base")
    if proxies is not None and isinstance(behind, proxies.ConnectionProxy):
        return behind
    return behind if wrappers is not None and isinstance(behind, wrappers.BaseDatabaseWrapper) else None
