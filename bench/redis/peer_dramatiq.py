"""The no-op for Dramatiq."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.reading import NAME, USER
from bench.redis.peers import note, port

broker = RedisBroker(url=f"redis://127.0.0.1:{port()}/2")
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int, user: int, name: str) -> None:
    note(number)


def enqueue(n: int) -> None:
    for number in range(n):
        noop.send(number, USER, NAME)
