"""The no-op for Celery: no results, and many messages fetched ahead."""

from __future__ import annotations

from typing import Any

from celery import Celery  # type: ignore[import-untyped,unused-ignore]

from bench.reading import NAME, USER
from bench.redis.peers import note, port

app: Any = Celery("peer", broker=f"redis://127.0.0.1:{port()}/1")
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="noop")  # type: ignore[untyped-decorator,unused-ignore]
def noop(number: int, user: int, name: str) -> None:
    note(number)


def enqueue(n: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(n):
            noop.apply_async((number, USER, NAME), producer=producer)
