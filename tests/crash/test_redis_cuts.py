"""Every verb that changes something on Redis loses its connection at every message, before and after the server has it.

What is left is compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import redis as driver
from cutting import Stage, Verb, play
from cutverbs import VERBS, Call, prune
from tests.proxy import Proxy
from tests.redis_servers import Redis

from piecework.store import Store
from piecework.store.redis import enqueue
from piecework.store.redis.store import RedisStore
from piecework.testing.conformance import kit

PREFIX = "cuts"
LATER = 4_000_000_000_000_000  # a moment from which places are counted, and not told by the server's clock


class RedisStage(Stage):
    answers_vary = (prune,)

    def __init__(self, server: Redis, proxy: Proxy) -> None:
        urls = (f"{server.url}?prefix={PREFIX}", f"redis://127.0.0.1:{proxy.port}?prefix={PREFIX}")
        super().__init__(proxy, lambda url, clock: RedisStore(url, clock=clock), urls)
        self._server = driver.Redis(port=server.port, protocol=2)

    def empty(self) -> None:
        self._server.delete(*self._keys(), "nothing")
        self.direct.migrate()
        self._server.hset(f"{PREFIX}:{{{PREFIX}.0}}:meta", "last", LATER)

    def _keys(self) -> list[bytes]:
        return sorted(self._server.scan_iter(f"{PREFIX}:*", count=1000))

    def rows(self) -> dict[str, Any]:
        """All that is under the prefix."""
        kinds: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": self._hash,
            b"zset": lambda key: self._server.zrange(key, 0, -1, withscores=True),
            b"set": self._server.smembers,
        }
        return {key.decode(): kinds[self._server.type(key)](key) for key in self._keys()}

    def _hash(self, key: bytes) -> dict[bytes, bytes]:
        """A hash; of distributed jobs without how often each was written: who comes too late comes again in smaller bites."""
        found: dict[bytes, bytes] = self._server.hgetall(key)
        is_counted = key.endswith(b":distributed")
        return {name: row[:14] + row[22:] if is_counted else row for name, row in found.items()}

    def close(self) -> None:
        super().close()
        self._server.close()


@pytest.fixture(scope="module")
def stage(redis: Redis) -> Iterator[Stage]:
    with Proxy(redis.port) as proxy:
        stage = RedisStage(redis, proxy)
        yield stage
        stage.close()


def add_in_bites(store: Store) -> Call:
    """A call so large that it is stored in bites, all or none of them."""
    jobs = [kit.a_job(f"j{n}", key=f"k{n // 2}" if n < 6 else None) for n in range(8)]

    def small(at: Store) -> Any:
        with mock.patch.object(enqueue, "BITE", 4):
            return at.add(jobs)

    return small


@pytest.mark.parametrize("verb", [*VERBS, add_in_bites], ids=lambda verb: verb.__name__)
def test_a_verb_that_is_cut_at_any_message_leaves_what_it_leaves_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    play(stage, monkeypatch, verb)
