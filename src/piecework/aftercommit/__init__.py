"""Jobs held in memory until the caller's transaction has committed, wherever that is: `using(after_commit=session)`.

The one thing it cannot survive is the death of the process between the commit and the adding; what must survive that
goes within the transaction, or through the outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from piecework.aftercommit import django, sqlalchemy
from piecework.aftercommit.held import Add, Held
from piecework.errors import BadOption
from piecework.job import NewJob

__all__ = ["Held", "hold"]


def hold(jobs: Sequence[NewJob], behind: Any, add: Add) -> Held:
    """Adds the jobs once the transaction of a session or connection has committed.

    A rollback forgets them; that of a savepoint those held since it began. What has joined a transaction that had been
    begun before waits for that one. Where nothing is to be waited for, they are added at once. Where adding fails after
    a commit, that is logged, and what else is held is added all the same.
    Raises `BadOption` for what has no transaction to wait for.
    """
    held = Held(jobs, add)
    if (session := sqlalchemy.session_of(behind)) is not None:
        sqlalchemy.behind_session(session, held)
    elif (connection := sqlalchemy.connection_of(behind)) is not None:
        sqlalchemy.behind_connection(connection, held)
    elif (connection := django.connection_of(behind)) is not None:
        django.behind_connection(connection, held)
    else:
        raise BadOption(
            f"after_commit= takes a Session or Connection of SQLAlchemy (scoped or asynchronous ones too) or Django's "
            f"connection, not {type(behind).__module__}.{type(behind).__qualname__}"
        )
    return held
