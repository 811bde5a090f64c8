"""The shelves: one folder for each database, all behind the verbs of `protocol.Store`."""

from __future__ import annotations

import re

from piecework.clock import Clock, SystemClock
from piecework.errors import BadSettings
from piecework.store.protocol import Parts, Scripted, Store

__all__ = ["Parts", "Scripted", "Store", "open_parts", "open_store", "redacted"]


def redacted(url: str) -> str:
    """A URL without its password, for messages."""
    hidden = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:…@", url)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1…", hidden)


def open_store(url: str, *, clock: Clock | None = None) -> Store:
    """The store behind a URL: ``sqlite:///jobs.db`` (relative), ``sqlite:////var/lib/jobs.db``, ``sqlite://:memory:``,
    ``postgresql://user:password@host/database``, ``redis://user:password@host``.

    Nothing is opened before the first verb. Raises `BadSettings` for a URL that names no store.
    """
    scheme = url.split(":", 1)[0]
    if scheme == "sqlite":
        from piecework.store.sqlite.store import SqliteStore

        return SqliteStore(url, clock=clock or SystemClock())
    if scheme in ("postgresql", "postgres"):
        from piecework.store.postgres.url import check_driver

        check_driver()
        from piecework.store.postgres.store import PostgresStore

        return PostgresStore(url, clock=clock or SystemClock())
    if scheme.startswith(("redis", "valkey")):
        from piecework.store.redis.url import check_driver as check_redis

        check_redis()
        from piecework.store.redis.store import RedisStore

        return RedisStore(url, clock=clock or SystemClock())
    raise BadSettings(
        f"no store for the URL {redacted(url)!r}: it must begin with sqlite:///, postgresql:// or redis:// (redis+unix:///path for a "
        "Unix socket)"
    )


def open_parts(url: str, *, clock: Clock | None = None) -> Parts:
    """The verbs of distributed jobs on the store behind a URL, without what only jobs need, where that is much.

    Nothing is opened before the first verb. Raises `BadSettings` for a URL that names no store.
    """
    if url.split(":", 1)[0] == "sqlite":
        from piecework.store.sqlite.ground import Ground

        return Ground(url, clock or SystemClock()).parts
    return open_store(url, clock=clock).parts
