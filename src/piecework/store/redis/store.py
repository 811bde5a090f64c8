"""The store on Redis and Valkey: each verb is one script, or one for each shard."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from piecework.clock import Clock, SystemClock
from piecework.errors import SchemaOutdated, StoreError, WithinNotSupported
from piecework.job import (
    CRASH_LIMIT,
    Answer,
    Claim,
    Fence,
    Fetched,
    Finding,
    NewBatch,
    NewJob,
    Progress,
    SessionRecord,
)
from piecework.outcome import Settlement
from piecework.store.callers import Aside
from piecework.store.protocol import Opened
from piecework.store.redis.client import Client
from piecework.store.redis.ear import Ear
from piecework.store.redis.examine import examine
from piecework.store.redis.homes import tags
from piecework.store.redis.parts import RedisParts
from piecework.store.redis.questions import Questions
from piecework.store.redis.shard import Shard
from piecework.store.redis.spread import Spread
from piecework.store.redis.url import parse

VERSION = 1  # of what the keys hold
SHARDS_OF_A_CLUSTER = 16
SLEEP_SECONDS = 30.0  # for which a line says that somebody sleeps
NOT_WITHIN = (
    "a store on Redis cannot write in the transaction of your database: add the job after you have committed, or keep the "
    "jobs in that database"
)


class RedisStore(Questions):
    """Jobs on a Redis or Valkey server, shared by any number of processes and machines.

    The URL is ``redis://user:password@host:6379/0``, with options of piecework's own: see `url`. Time is the server's,
    unless a clock is given.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        place = parse(url)
        self.url = place.shown
        self.clock = clock or SystemClock()
        self._server_time = type(self.clock) is SystemClock  # one that does more is a clock of its own
        self._client = Client(place)
        self._first = self._shard(tags(place.prefix, 1)[0])  # it says how many there are
        self._spread: Spread | None = None
        self._pid = os.getpid()
        self.parts = RedisParts(self._client, self._set_up)
        self._ear = Ear(self._client, self._channels, self._lie_down)

    def _now(self) -> float | None:
        return None if self._server_time else self.clock.now()

    def _shard(self, tag: str) -> Shard:
        return Shard(self._client, self._client.place.prefix, tag, self._now)

    def _channels(self) -> list[str]:
        """A shard's hints have the name of its key for who sleeps."""
        return [shard.keys[-1] for shard in self._set_up().shards]

    def _lie_down(self, id: str) -> None:
        self._set_up().everywhere("sleep", {"id": id, "seconds": SLEEP_SECONDS})

    def _set_up(self) -> Spread:
        """A server without a store gets one at first use; a forked process its own view of it."""
        if self._spread is None or self._pid != os.getpid():
            self.migrate()
            assert self._spread is not None
        return self._spread

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        place = self._client.place
        wanted = place.shards or (SHARDS_OF_A_CLUSTER if self._client.is_cluster else 1)
        # Looking first lets a process begin where nothing can be written, as when the server's memory is full.
        there = self._first.run("version")
        version, shards, new = (*there, False) if there else self._first.run("setup", (VERSION, wanted))
        if version != VERSION:
            than = "newer" if version > VERSION else "older"
            raise SchemaOutdated(
                f"the store {self.url} has version {version}, {than} than this version of piecework knows ({VERSION}); use the "
                "piecework that made it, or another prefix"
            )
        if place.shards not in (None, shards):
            raise StoreError(
                f"the store {self.url} was set up with {shards} shards, and the URL says {place.shards}; their number "
                f"stays as it is: say ?shards={shards} or nothing, or choose another prefix"
            )
        self._pid, self._pruners, self._menders = os.getpid(), (), ()
        self._spread = Spread(self._client, [self._shard(tag) for tag in tags(place.prefix, shards)])
        return ["0001_shards"] if new else []

    def examine(self) -> list[Finding]:
        return examine(self._client)

    def is_set_up(self) -> bool:
        return self._first.run("version") is not False

    def now(self) -> float:
        return float(self._first.run("now")) if self._server_time else self.clock.now()

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        fence: Fence | None = None,
        within: Any = None,
    ) -> list[str]:
        if within is not None:
            raise WithinNotSupported(NOT_WITHIN)
        return self._set_up().add(jobs, batch, fence)

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        raise WithinNotSupported(NOT_WITHIN)

    def transaction(self) -> AbstractContextManager[Opened]:
        raise WithinNotSupported(NOT_WITHIN)

    def seal(self, batch: str) -> bool:
        return self._set_up().seal(batch)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        return self._set_up().exchange((), claim)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        return self._set_up().exchange(settlements, None)[0] if settlements else []

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        return self._set_up().exchange(settlements, claim)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        return self._set_up().report(worker, progress)

    def holds(self, worker: str) -> list[Fence]:
        return self._set_up().holds(worker)

    def set_status(self, fence: Fence, status: str) -> bool:
        return self._set_up().set_status(fence, status)

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        self._set_up().enlist(session)

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        return self._set_up().renew(session, polled)

    def sessions(self) -> list[SessionRecord]:
        return self._set_up().sessions()

    def bury(self, session: str, beat: int | None = None) -> int | None:
        return self._set_up().bury(session, beat)

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        return self._set_up().reap(worker, crashed, reason, crash_limit)

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        self._set_up()
        return self._ear.wait(timeout)

    def close(self) -> None:
        self._ear.close()
        self._client.close()
        self._spread = None
