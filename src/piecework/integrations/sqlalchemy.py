"""SQLAlchemy: rows as arguments of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session

from piecework.app import Piecework
from piecework.errors import BadOption


def rows(app: Piecework, session: Callable[[], Session]) -> None:
    """Lets mapped objects be arguments of an app's tasks.

    They travel as a reference, model and primary key, and are loaded again in the worker. `session` makes a session: a
    `sessionmaker`, or any function without arguments. Each run that takes rows has one session of its own, opened
    for its first row and closed at its end; what the task does not commit is rolled back. The task reaches it by
    ``sqlalchemy.orm.object_session(row)``. Raises `BadOption`.

    Example::

        Session = sessionmaker(create_engine(…))
        rows(app, Session)

        @app.task(on_missing="cancel")
        def greet(user: User) -> str: ...

        greet.later(session.get(User, 42))
    """
    if isinstance(session, scoped_session):
        session = session.session_factory  # a session for each run, not for each thread
    made: Any = getattr(session, "class_", None)
    if isinstance(session, async_sessionmaker) or (isinstance(made, type) and issubclass(made, AsyncSession)):
        raise BadOption(
            "rows(app, Session): Session makes asynchronous sessions; rows are loaded on a thread, by a sessionmaker"
        )
    if isinstance(session, Session) or not callable(session):
        said = type(session).__name__
        raise BadOption(
            f"rows(app, Session): a {said} is one session; every run needs one of its own: give the sessionmaker"
        )
    app.rows.sqlalchemy.session = session
