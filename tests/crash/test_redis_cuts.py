"""Every verb that changes something on Redis loses its connection at every message, before and after the server has it.

What is left must be what the verb leaves when nothing breaks, byte for byte; and where the server stays away the caller is
told so, and sends the same call again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import redis as driver
from cutverbs import PARTS, VERBS, Call, add_first_ever, prune, renew
from tests.proxy import Cut, Proxy
from tests.redis_servers import Redis
from tests.support import until

from piecework.errors import StoreUnavailable
from piecework.store import Store
from piecework.store.redis import enqueue
from piecework.store.redis.store import RedisStore
from piecework.testing import FrozenClock
from piecework.testing.conformance import kit
from piecework.testing.conformance.kit import a_session, assert_sound

PREFIX = "cuts"
LATER = 4_000_000_000_000_000  # a moment from which places are counted, and not told by the server's clock


@pytest.fixture(scope="module")
def proxy(redis: Redis) -> Iterator[Proxy]:
    with Proxy(redis.port) as proxy:
        yield proxy


class Stage:
    """Sets the scene, calls, and tells what is left."""

    def __init__(self, server: Redis, proxy: Proxy) -> None:
        self.clock = FrozenClock()
        self.proxy = proxy
        self._server = driver.Redis(port=server.port, protocol=2)
        self._urls = (f"{server.url}?prefix={PREFIX}", f"redis://127.0.0.1:{proxy.port}?prefix={PREFIX}")
        self._direct = RedisStore(self._urls[0], clock=self.clock)

    def set(self, verb: Callable[[Store], Call], monkeypatch: pytest.MonkeyPatch) -> Call:
        """An emptied store with what the verb is about; the same ids and claims each time."""
        numbers = itertools.count(1)
        monkeypatch.setattr(kit, "new_id", lambda: f"id{next(numbers)}")
        monkeypatch.setattr(kit, "_claims", itertools.count(1))
        self._server.delete(*self._keys(), "nothing")
        self._direct.migrate()
        self._server.hset(f"{PREFIX}:{{{PREFIX}.0}}:meta", "last", LATER)
        for session in kit.SESSIONS:
            self._direct.enlist(a_session(session))
        return verb(self._direct)

    def _keys(self) -> list[bytes]:
        return sorted(self._server.scan_iter(f"{PREFIX}:*", count=1000))

    def sender(self, verb: Callable[[Store], Call]) -> RedisStore:
        """A store whose messages pass the proxy."""
        until(lambda: self.proxy.connected == 0, "the sender before has said goodbye, which is a message, too")
        self.proxy.serve()
        sender = RedisStore(self._urls[1], clock=self.clock)
        if verb is not add_first_ever:
            sender.counts()  # it has a connection
        return sender

    def left(self) -> dict[str, Any]:
        """All that is under the prefix."""
        assert_sound(self._direct)
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
        self._direct.close()
        self._server.close()


@pytest.fixture(scope="module")
def stage(redis: Redis, proxy: Proxy) -> Iterator[Stage]:
    stage = Stage(redis, proxy)
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
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: Callable[[Store], Call]
) -> None:
    call = stage.set(verb, monkeypatch)
    sender = stage.sender(verb)
    answers, once = [call(sender)], stage.left()
    answers.append(call(sender))  # sent a second time, it may say that there was nothing left to do
    twice = stage.left()
    assert verb is renew or once == twice
    assert verb not in PARTS or answers[0] == answers[1]
    sender.close()
    strikes = 0
    for done in itertools.count():  # messages that the server has
        call = stage.set(verb, monkeypatch)
        sender = stage.sender(verb)
        for_good = done % 2 == 0  # the caller sends it again; else the store does
        with stage.proxy.cutting(max(1, done), Cut.AFTER if done else Cut.BEFORE, for_good=for_good):
            try:
                answer = call(sender)
                told = False
            except StoreUnavailable:
                told = True
                stage.proxy.serve()
                answer = call(sender)
            struck = stage.proxy.struck
        sender.close()
        where = f"cut when the server had {done} messages"
        assert told == (struck and for_good), where
        assert answer in answers or verb is prune, where
        assert stage.left() in (once, twice), where
        strikes += struck
        if not struck:
            break
    assert strikes > 1, "no message was cut"
