"""The no-op for SAQ."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue

from bench.reading import NAME, USER
from bench.redis.peers import note, port

CONCURRENCY = 100
BITE = 500


async def noop(ctx: Any, *, number: int, user: int, name: str) -> None:
    note(number)


def queue() -> Queue:
    return Queue.from_url(f"redis://127.0.0.1:{port()}/5", name="peer")


settings = {"queue": queue(), "functions": [noop], "concurrency": CONCURRENCY}


def enqueue(n: int) -> None:
    asyncio.run(_enqueue(n))


async def _enqueue(n: int) -> None:
    peer = queue()
    await peer.connect()
    for first in range(0, n, BITE):
        numbers = range(first, min(n, first + BITE))
        await asyncio.gather(*(peer.enqueue("noop", number=k, user=USER, name=NAME, ttl=-1) for k in numbers))
    await peer.disconnect()
