"""Hears that something may be fetched, over a connection of its own that is subscribed; silence proves nothing.

Who lies down to sleep leaves a line in every shard that says so, and looks once more. A script that makes a job
available takes the shard's lines away and publishes, once for all of them: in a busy store nobody sleeps, and nobody
publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis

from piecework.errors import StoreUnavailable
from piecework.store.listener import Listener
from piecework.store.redis.client import Client
from piecework.store.redis.connecting import listening

AGAIN = 5.0  # seconds after which the line is left again: a publication may have been lost, or the whole server


class Ear(Listener):
    """The subscribed connection of a store object; without hints, the clock."""

    def __init__(
        self, client: Client, channels: Callable[[], Sequence[str]], lie_down: Callable[[str], object]
    ) -> None:
        super().__init__()
        self._client = client
        self._channels = channels
        self._lie_down = lie_down  # leaves the line in every shard
        self._con: Any = None
        self._lies_until = 0.0  # the line is there, as far as anybody knows

    def _turn(self, seconds: float, life: int) -> None:
        if self._client.place.hints:
            super()._turn(seconds, life)
        else:
            time.sleep(seconds)

    def listen(self, seconds: float) -> None:
        try:
            if self._con is None:
                self._con = listening(self._client.driver(), self._channels())
            if time.monotonic() >= self._lies_until:
                self._lie_down(self.id)
                self._lies_until = time.monotonic() + AGAIN
                self.heard()  # nobody told of what came before the line was there
                return
            self._hear(seconds)
        except StoreUnavailable:
            self.hang_up()
            raise
        except redis.RedisError as error:
            self.hang_up()
            self._client.explain(error)

    def _hear(self, seconds: float) -> None:
        if not self._con.can_read(timeout=seconds):
            return
        (kind, *_) = self._con.read_response()
        if kind == b"message":
            self._lies_until = 0.0
            self.heard()

    def hang_up(self) -> None:
        con, self._con, self._lies_until = self._con, None, 0.0
        if con is not None:
            with suppress(redis.RedisError, OSError):  # it is gone in any case
                con.disconnect()

    def forget(self) -> object:
        con, self._con, self._lies_until = self._con, None, 0.0
        return con
