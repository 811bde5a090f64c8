"""The store on Redis and Valkey: each verb is one script, or one for each shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from piecework.clock import Clock, SystemClock
from piecework.errors import SchemaOutdated, WithinNotSupported
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
from piecework.store.redis import enqueue, liveness, work
from piecework.store.redis.client import Client
from piecework.store.redis.ear import Ear
from piecework.store.redis.examine import examine
from piecework.store.redis.shard import Shard
from piecework.store.redis.url import parse

VERSION = 1  # of what the keys hold
SLEEP_SECONDS = 30.0  # for which a line says that somebody sleeps
NOT_WITHIN = (
    "a store on Redis cannot write in the transaction of your database: add the job after you have committed, or keep the "
    "jobs in that database"
)


class RedisStore:
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
        self._shard = Shard(self._client, place.prefix, f"{place.prefix}.0", self._now)
        self._ear = Ear(self._client, lambda: [f"{place.prefix}:hints"], self._lie_down)
        self._ready = False

    def _now(self) -> float | None:
        return None if self._server_time else self.clock.now()

    def _lie_down(self, id: str) -> object:
        return self._shard.reply("sleep", {"id": id, "seconds": SLEEP_SECONDS})

    def _set_up(self) -> Shard:
        """A server without a store gets one at first use."""
        if not self._ready:
            self.migrate()
        return self._shard

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        version, _, new = self._shard.run("setup", (VERSION, 1))
        if version != VERSION:
            raise SchemaOutdated(
                f"the store {self.url} is of version {version}, and this piecework knows version {VERSION}: "
                "use the piecework that made it, or another prefix"
            )
        self._ready = True
        return ["0001_shards"] if new else []

    def examine(self) -> list[Finding]:
        return examine(self._client)

    def is_set_up(self) -> bool:
        return self._shard.run("version") is not False

    def now(self) -> float:
        return float(self._shard.run("now")) if self._server_time else self.clock.now()

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
        return enqueue.add(self._set_up(), jobs, batch, fence)

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        raise WithinNotSupported(NOT_WITHIN)

    def transaction(self) -> AbstractContextManager[Opened]:
        raise WithinNotSupported(NOT_WITHIN)

    def seal(self, batch: str) -> bool:
        return bool(self._set_up().run("seal", (batch,)))

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        return work.exchange(self._set_up(), (), claim)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        return work.exchange(self._set_up(), settlements, None)[0] if settlements else []

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        return work.exchange(self._set_up(), settlements, claim)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        return work.report(self._set_up(), worker, progress)

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        liveness.enlist(self._set_up(), session)

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        return liveness.renew(self._set_up(), session, polled)

    def sessions(self) -> list[SessionRecord]:
        return liveness.sessions(self._set_up())

    def bury(self, session: str, beat: int | None = None) -> int | None:
        return liveness.bury(self._set_up(), session, beat)

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        return liveness.reap(self._set_up(), worker, crashed, reason, crash_limit)

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        self._set_up()
        return self._ear.wait(timeout)

    def close(self) -> None:
        self._ear.close()
        self._client.close()
        self._ready = False
