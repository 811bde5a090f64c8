"""The no-op for Huey: no results."""

from __future__ import annotations

from huey import RedisHuey  # type: ignore[import-untyped,unused-ignore]

from bench.reading import NAME, USER
from bench.redis.peers import note, port

app = RedisHuey("peer", host="127.0.0.1", port=port(), db=3, results=False)


@app.task()  # type: ignore[untyped-decorator,unused-ignore]
def noop(number: int, user: int, name: str) -> None:
    note(number)


def enqueue(n: int) -> None:
    for number in range(n):
        noop(number, USER, NAME)
