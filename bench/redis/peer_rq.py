"""The no-op for RQ, in its worker that does not fork; as a program it is that worker."""

from __future__ import annotations

import redis
from rq import Queue, SimpleWorker

from bench.reading import NAME, USER
from bench.redis.peers import note, port

BITE = 500


def noop(number: int, user: int, name: str) -> None:
    note(number)


def queue() -> Queue:
    return Queue("peer", connection=redis.Redis(port=port(), db=4))


def enqueue(n: int) -> None:
    peer = queue()
    for first in range(0, n, BITE):
        numbers = range(first, min(n, first + BITE))
        peer.enqueue_many(
            [
                Queue.prepare_data("bench.redis.peer_rq.noop", args=(number, USER, NAME), result_ttl=0)
                for number in numbers
            ]
        )


if __name__ == "__main__":
    SimpleWorker([queue()], connection=queue().connection).work(logging_level="ERROR")
