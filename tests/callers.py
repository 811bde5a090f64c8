"""Connections as programs have them, of each kind that `within=` takes: opened, used and ended alike.

Those that are awaited are driven step by step on an event loop of their own, so that a test is written once for all.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from piecework import Job, Piecework, Task

_numbers = itertools.count(1)


class Caller:
    """Somebody's connection, and what somebody does with it."""

    runner: asyncio.Runner | None = None
    given: Any  # what is handed in

    def do(self, answer: Any) -> Any:
        """What a call answered, awaited where it is to be."""
        return self.runner.run(_await(answer)) if self.runner is not None else answer

    def later(self, task: Task[Any, Any, Any], *args: Any, **options: Any) -> Job[Any]:
        bound = task.using(within=self.given, **options)
        return self.do(bound.later(*args) if self.runner is None else bound.alater(*args))  # type: ignore[no-any-return]

    def later_many(self, task: Task[Any, Any, Any], calls: list[tuple[Any, ...]]) -> list[Job[Any]]:
        bound = task.using(within=self.given)
        return self.do(bound.later_many(calls) if self.runner is None else bound.alater_many(calls))  # type: ignore[no-any-return]

    def begin(self) -> None:
        """Begins a transaction, where this does not happen by itself."""

    def execute(self, statement: str) -> Any:
        return self.do(self.given.execute(statement))

    def commit(self) -> None:
        self.do(self.given.commit())

    def rollback(self) -> None:
        self.do(self.given.rollback())

    def save(self) -> Any:
        """Begins a savepoint."""
        self.execute("SAVEPOINT mine")

    def undo(self, savepoint: Any) -> None:
        """Rolls a savepoint back."""
        self.execute("ROLLBACK TO SAVEPOINT mine")

    def close(self) -> None:
        self.do(self.given.close())


async def _await(answer: Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer


# ── drivers ──────────────────────────────────────────────────────────────────────────────────────


class OfSqlite3(Caller):
    def __init__(self, url: str) -> None:
        self.given = sqlite3.connect(_path(url), isolation_level=None)

    def begin(self) -> None:
        self.execute("BEGIN")


class OfPsycopg(Caller):
    def __init__(self, url: str) -> None:
        self.given = psycopg.connect(_server(url))


class OfPsycopgAsync(Caller):
    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.given = self.do(psycopg.AsyncConnection.connect(_server(url)))


# ── SQLAlchemy ───────────────────────────────────────────────────────────────────────────────────


class OfEngine(Caller):
    """A connection."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(_engine_url(url, "psycopg"), poolclass=NullPool)
        self.given = self.engine.connect()

    def execute(self, statement: str) -> Any:
        return self.do(self.given.execute(text(statement)))

    def save(self) -> Any:
        return self.do(self.given.begin_nested())

    def undo(self, savepoint: Any) -> None:
        self.do(savepoint.rollback())

    def close(self) -> None:
        super().close()
        self.do(self.engine.dispose())


class OfSession(OfEngine):
    def __init__(self, url: str) -> None:
        self.engine = create_engine(_engine_url(url, "psycopg"), poolclass=NullPool)
        self.given = Session(self.engine)


class OfScopedSession(OfEngine):
    def __init__(self, url: str) -> None:
        self.engine = create_engine(_engine_url(url, "psycopg"), poolclass=NullPool)
        self.given = scoped_session(sessionmaker(self.engine))


class OfAsyncEngine(OfEngine):
    driver = "psycopg"

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.engine: Any = create_async_engine(_engine_url(url, self.driver, awaited=True), poolclass=NullPool)
        self.given = self.open()

    def open(self) -> Any:
        return self.do(self.engine.connect())


class OfAsyncpg(OfAsyncEngine):
    driver = "asyncpg"


class OfAsyncSession(OfAsyncEngine):
    def open(self) -> Any:
        return AsyncSession(self.engine)


class OfAsyncpgSession(OfAsyncpg):
    def open(self) -> Any:
        return AsyncSession(self.engine)


class OfAsyncScopedSession(OfAsyncpg):
    def open(self) -> Any:
        return async_scoped_session(async_sessionmaker(self.engine), scopefunc=lambda: 1)


# ── Django ───────────────────────────────────────────────────────────────────────────────────────


class OfDjango(Caller):
    def __init__(self, url: str) -> None:
        from django.conf import settings
        from django.db import connections

        if not settings.configured:
            settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True)
        self.alias = f"theirs{next(_numbers)}"
        connections.settings[self.alias] = _django_settings(url)
        self.given = connections[self.alias]

    def begin(self) -> None:
        from django.db import transaction

        self.atomic = transaction.atomic(using=self.alias)
        self.atomic.__enter__()

    def execute(self, statement: str) -> Any:
        cursor = self.given.cursor()
        cursor.execute(statement)
        return cursor

    def commit(self) -> None:
        self.atomic.__exit__(None, None, None)

    def rollback(self) -> None:
        self.atomic.__exit__(RuntimeError, RuntimeError(), None)

    def save(self) -> Any:
        from django.db import transaction

        return transaction.savepoint(using=self.alias)

    def undo(self, savepoint: Any) -> None:
        from django.db import transaction

        transaction.savepoint_rollback(savepoint, using=self.alias)

    def close(self) -> None:
        from django.db import connections

        super().close()
        del connections[self.alias], connections.settings[self.alias]


def _django_settings(url: str) -> dict[str, Any]:
    common: dict[str, Any] = {
        "ATOMIC_REQUESTS": False, "AUTOCOMMIT": True, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False, "OPTIONS": {},
        "TIME_ZONE": "Asia/Kathmandu", "USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "TEST": {},
    }  # fmt: skip
    if url.startswith("sqlite"):
        return {**common, "ENGINE": "django.db.backends.sqlite3", "NAME": _path(url)}
    parts = urlsplit(url)
    return {
        **common, "ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": parts.username,
        "HOST": parts.hostname, "PORT": str(parts.port),
    }  # fmt: skip


# ── which there are ──────────────────────────────────────────────────────────────────────────────

_ANY: dict[str, Callable[[str], Caller]] = {
    "sqlalchemy-connection": OfEngine,
    "sqlalchemy-session": OfSession,
    "sqlalchemy-scoped-session": OfScopedSession,
    "sqlalchemy-async-connection": OfAsyncEngine,
    "sqlalchemy-async-session": OfAsyncSession,
    "django": OfDjango,
}
KINDS: dict[str, dict[str, Callable[[str], Caller]]] = {
    "sqlite": {"sqlite3": OfSqlite3, **_ANY},
    "postgres": {
        "psycopg": OfPsycopg,
        "psycopg-async": OfPsycopgAsync,
        **_ANY,
        "asyncpg-connection": OfAsyncpg,
        "asyncpg-session": OfAsyncpgSession,
        "asyncpg-scoped-session": OfAsyncScopedSession,
    },
}
ALL = [f"{shelf}-{kind}" for shelf, kinds in KINDS.items() for kind in kinds]

AWAITED = [name for name in ALL if "async" in name or "asyncpg" in name]


@contextmanager
def opened(shelf: str, kind: str, url: str) -> Iterator[Caller]:
    """A caller's connection of a kind, closed at the end."""
    caller = KINDS[shelf][kind](url)
    try:
        yield caller
    finally:
        caller.close()
        if caller.runner is not None:
            caller.runner.close()


def table_of(url: str) -> str:
    """The name of a table of the caller's own, beside the store's."""
    return "theirs" if url.startswith("sqlite") else parse_qs(urlsplit(url).query)["schema"][0] + ".theirs"


def make_table(url: str) -> None:
    """Makes that table."""
    statement = f"CREATE TABLE {table_of(url)} (n integer)"
    if url.startswith("sqlite"):
        with sqlite3.connect(_path(url)) as file:
            file.execute(statement)
        file.close()
    else:
        with psycopg.connect(_server(url)) as server:
            server.execute(statement)  # type: ignore[call-overload]


def numbers_in(url: str) -> list[int]:
    """What is in that table, as others see it."""
    statement = f"SELECT n FROM {table_of(url)} ORDER BY n"
    if url.startswith("sqlite"):
        file = sqlite3.connect(_path(url))
        found = [row[0] for row in file.execute(statement)]
        file.close()
        return found
    with psycopg.connect(_server(url)) as server:
        return [row[0] for row in server.execute(statement)]  # type: ignore[call-overload]


def _path(url: str) -> str:
    return str(Path(urlsplit(url).path))


def _server(url: str) -> str:
    return url.partition("?")[0]


def _engine_url(url: str, driver: str, *, awaited: bool = False) -> str:
    if url.startswith("sqlite"):
        return f"sqlite+{'aiosqlite' if awaited else 'pysqlite'}:///{_path(url)}"
    return _server(url).replace("postgresql://", f"postgresql+{driver}://")


def begin_and_die(url: str, shelf: str, kind: str, commit: bool, says: Connection) -> None:
    """A row and a job in one transaction of this process, which is killed before its end or behind it; says the job's id."""
    double = Piecework(url).task(name="double")(lambda n: 2 * n)
    caller = KINDS[shelf][kind](url)
    caller.begin()
    caller.execute(f"INSERT INTO {table_of(url)} VALUES (1)")
    says.send(caller.later(double, 21).id)
    if commit:
        caller.commit()
    os.kill(os.getpid(), signal.SIGKILL)
