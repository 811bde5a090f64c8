"""The same no-op for Huey, with the settings that its documentation recommends for SQLite."""

from __future__ import annotations

import os
import time
from typing import Any

from huey import SqliteHuey  # type: ignore[import-not-found,import-untyped,unused-ignore]

from bench.peers import RECORD


def build() -> tuple[Any, Any]:
    """A queue on the file that the environment names, and its task."""
    huey = SqliteHuey(
        "bench",
        filename=os.environ["BENCH_HUEY_DB"],
        fsync=os.environ["BENCH_HUEY_SYNCHRONOUS"] == "FULL",
        results=False,
    )
    records = os.open(os.environ["BENCH_HUEY_RECORDS"], os.O_WRONLY | os.O_APPEND)

    def done(number: int, user_id: int, name: str) -> None:
        os.write(records, RECORD.pack(number, time.time()))

    return huey, huey.task(name="done")(done)


def __getattr__(name: str) -> Any:
    """The consumer asks for `app`; whoever only enqueues builds a queue of his own for each file."""
    if name == "app":
        huey, _ = build()
        return huey
    raise AttributeError(name)
