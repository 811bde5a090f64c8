"""A connection that notices when its server says nothing any more, though the network is whole.

A server that was stopped, or whatever swallows what passes between, keeps a connection open and never answers; TCP's
own limits see nothing wrong in that, and the driver would wait for ever. Nor does it wait for an answer to what it has
not sent: where the driver syncs a pipeline, it leaves unsent what the network did not take at once, some megabytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.pq.abc import PGconn

from piecework.store.postgres.transaction import Row

STEP = 0.1  # seconds after which the driver looks up from a wait

T = TypeVar("T")


class Silent(psycopg.OperationalError):
    """The server has said nothing for too long; the connection is closed."""


class Impatient(Connection[Row]):
    """The driver's connection, with an end to each of its waits."""

    silence = math.inf  # seconds without a word from the server after which it is given up

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """As the driver's own, which every call that waits for the server goes through. Raises `Silent`."""
        try:
            return super().wait(_limited(gen, self.pgconn, self.silence), *args, **options)
        except Silent:
            self.pgconn.finish()  # at once: else the driver would try to end in order what it began, and wait again
            raise


@contextmanager
def silent_for(con: Connection[Any], seconds: float) -> Iterator[None]:
    """Inside of it, the server may say nothing for so long."""
    assert isinstance(con, Impatient)
    before, con.silence = con.silence, seconds
    try:
        yield
    finally:
        con.silence = before


def _limited(gen: Generator[Any, Any, T], pgconn: PGconn, seconds: float) -> Generator[Any, Any, T]:
    """The same steps. The driver takes one each tenth of a second, whether something came or not."""
    until = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            unsent = wanted == EVENT_READ and pgconn.flush()
            awaited = wanted | EVENT_WRITE if unsent else wanted
            asked = time.monotonic()
            ready = yield awaited
            now = time.monotonic()
            # Up to 3.2 the driver says "ready" after a wait in vain, too.
            if ready and (now - asked < STEP or _is_ready(pgconn.socket, awaited)):
                until = now + seconds
            wanted = gen.send(ready & wanted)
            if now > until:
                raise Silent(f"the server has said nothing for {seconds:g} s")
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _is_ready(socket: int, wanted: int) -> bool:
    with DefaultSelector() as selector:
        selector.register(socket, wanted)
        return bool(selector.select(timeout=0))
