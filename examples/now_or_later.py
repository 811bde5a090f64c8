"""Now or later is decided where the function is called; no code is moved for it.

Run it: ``python examples/now_or_later.py``
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from piecework import Piecework, current, fixed
from piecework.errors import BadArguments

folder = tempfile.TemporaryDirectory()
app = Piecework(f"sqlite:///{Path(folder.name) / 'jobs.db'}")


@app.task(queue="process", attempts=3, retry=fixed(0))
def some_process(some_id: UUID, since: datetime) -> str:
    """Ordinary code: it is called with the types of its annotations, now as well as later."""
    where = f"in the background, attempt {current.attempt}" if current.inside else "right here"
    if current.inside and current.attempt == 1:
        raise ConnectionError("the first attempt fails, to show that a second one follows")
    return f"{str(some_id)[:8]} since {since:%Y-%m-%d}, {where}"


@app.task
async def greet(name: str) -> str:
    """An `async def` runs on the worker's event loop."""
    return f"hello {name}"


def main() -> None:
    some_id = UUID("ee6f1d66-b4e5-11e6-80f5-76304dec7eb7")
    since = datetime(2016, 11, 27, tzinfo=UTC)

    print(f"now:   {some_process(some_id, since)}")

    with app.worker(concurrency=2):
        job = some_process.later(some_id, since)
        print(f"later: {job.result(timeout=30)}")
        for attempt in job.attempts():
            assert attempt.error is not None
            print(f"       its attempt before: {attempt.outcome} after {attempt.error.type}: {attempt.error.message}")

        soon = some_process.using(priority=-1, delay=timedelta(milliseconds=100)).later(some_id, since)
        print(f"soon:  {soon.result(timeout=30)}")

        jobs = greet.later_many([("Ada",), ("Grace",)])
        print(f"many:  {', '.join(job.result(timeout=30) for job in jobs)}")

        print(f"async: {asyncio.run(from_a_coroutine())}")

    once = some_process.using(key="only-once", delay=3600)
    assert once.later(some_id, since) == once.later(some_id, since)
    print("twice: a second call with the same unique key is the same job")

    try:
        some_process.later(some_id, "yesterday")  # type: ignore[arg-type]
    except BadArguments as refused:
        print(f"wrong: {refused}")


async def from_a_coroutine() -> str:
    job = await greet.alater("asyncio")
    return await job.aresult(timeout=30)


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
