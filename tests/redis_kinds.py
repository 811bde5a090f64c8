"""The kinds of server that the shelf on Redis is for, each begun once in a test process and ended with it.

``PIECEWORK_REDIS_KIND`` says which of them the tests mean by `redis`: redis, valkey, cluster (six nodes of Redis),
valkey-cluster, or sentinel. Those with `valkey` in their name make Valkey of every server that a test starts itself, too.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.redis_servers import KIND, Redis, RedisCluster, Watched, redis_program, valkey_program
from tests.served import ServerMissing

from piecework.store.redis.store import RedisStore

# A busy machine keeps a server waiting for seconds. That is no death: what a failover loses is for other tests to say.
PATIENCE = 60_000  # milliseconds

KINDS: dict[str, Callable[[], Any]] = {
    "redis": lambda: Redis(redis_program()),
    "valkey": lambda: Redis(valkey_program()),
    "cluster": lambda: RedisCluster(redis_program(), cluster_node_timeout=str(PATIENCE)),
    "valkey-cluster": lambda: RedisCluster(valkey_program(), cluster_node_timeout=str(PATIENCE)),
    "sentinel": lambda: Watched(down_after=PATIENCE),
}
SHARDS = (
    5  # of a store on a Cluster: more than masters, and fewer than by default, which the model ring takes long to read
)
_prefixes = itertools.count(1)
_warm: dict[str, Any] = {}  # by kind of server: the connections of a store that is closed, for the next one


def kind() -> str:
    """What the shelf `redis` is in this process."""
    said = os.environ.get(KIND) or "redis"
    if said not in KINDS:
        raise ServerMissing(f"{KIND} is {said}; it can be {', '.join(KINDS)}")
    return said


def cluster_kind() -> str:
    """What a test means that wants a Cluster."""
    return kind() if kind().endswith("cluster") else "valkey-cluster" if kind() == "valkey" else "cluster"


@functools.cache
def begun(kind: str) -> Any:
    """The server of this kind, or why there is none, as a text: tried once, not again for each of a thousand tests."""
    try:
        server = KINDS[kind]()
        atexit.register(server.stop)
        return server.start()
    except ServerMissing as missing:
        return str(missing)


def empty_store(kind: str, server: Any) -> str:
    """The URL of a store on it in which nothing is."""
    url = server.url.replace("redis:", "valkey:") if kind == "valkey" else server.url
    return f"{url}?prefix=t_{next(_prefixes)}" + (f"&shards={SHARDS}" if kind.endswith("cluster") else "")


@contextmanager
def warm(kind: str, store: RedisStore) -> Iterator[None]:
    """Lends a store the connections that an earlier one had, and keeps those that it has at the end.

    To meet the servers of a Cluster takes longer than what most tests ask of them.
    """
    client = store._client
    client._driver = _warm.pop(kind, None)
    yield
    _warm[kind], client._driver = client._driver, None
