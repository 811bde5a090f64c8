"""Which shard a job lives in, where there are several: chosen when it is added, remembered, and else asked for.

A whole tree lives in one shard, so that an end and what follows from it are one transaction. What is at the top of a
tree is put by its unique key, where it has one, and else by its queue: plain work of one queue is in one shard and in
exact order, and different queues are spread over the Cluster.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from redis.crc import key_slot

from piecework.store.redis.client import Client
from piecework.store.redis.shard import Shard, answer

SLOTS = 16384
REMEMBERED = 200_000  # ids whose home is remembered, at most
ASKED = 5000  # ids that one script looks for


def tags(prefix: str, n: int) -> list[str]:
    """What each shard's keys are hashed by: the shards lie evenly over the slots, from that of the first one on.

    The first shard's is the same however many there are, so that it can say how many.
    """
    first = f"{prefix}.0"
    start, width = key_slot(first.encode()), SLOTS / n
    return [first, *(_tag(f"{prefix}.{i}", start + i * width, width) for i in range(1, n))]


def _tag(name: str, low: float, width: float) -> str:
    """The first tag of this name in its part of the slots."""
    k = 0
    while (key_slot(f"{name}.{k}".encode()) - low) % SLOTS >= width:
        k += 1
    return f"{name}.{k}"


class Homes:
    """The shards of a store, and what is known of who lives where."""

    def __init__(self, client: Client, shards: Sequence[Shard]) -> None:
        self._client = client
        self.shards = shards
        self._known: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def of_name(self, name: str) -> int:
        """Where a unique key, or a queue, belongs."""
        return crc32(name.encode()) % len(self.shards)

    def remember(self, ids: Iterable[str | None], home: int) -> None:
        with self._lock:
            for id in ids:
                if id is not None:
                    self._known[id] = home
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def known(self, ids: Iterable[str]) -> dict[str, int]:
        """Where those of them live of whom that is remembered."""
        with self._lock:
            return {id: self._known[id] for id in ids if id in self._known}

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """Where these jobs and batches live; what is not stored is left out."""
        wanted = dict.fromkeys(ids)
        found = self.known(wanted)
        unknown = [id for id in wanted if id not in found]
        for first in range(0, len(unknown), ASKED):
            some = unknown[first : first + ASKED]
            for home, here in enumerate(self.ask_all("where", {"ids": some})):
                there = [some[number - 1] for number in here]
                self.remember(there, home)
                found |= dict.fromkeys(there, home)
        return found

    def ask_all(self, title: str, asked: Any) -> list[Any]:
        """What a script answers in each shard, in one trip."""
        return [answer(said) for said in self._client.together([shard.call(title, asked) for shard in self.shards])]

    def shard_of(self, id: str) -> Shard:
        """The shard of a job or batch; where there is none, one that has not got it either."""
        return self.shards[self.find([id]).get(id, 0)]
