"""No-op jobs for Procrastinate, on psycopg: ``python -m bench.postgres.peer_procrastinate URL JOBS``.

Prints jobs a second and microseconds of CPU for each. Coroutines with a concurrency of thirty, as its guide to production
has it; jobs are added in batches.
"""

from __future__ import annotations

import asyncio
import sys
import time

from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found,unused-ignore]

from bench.reading import NAME, USER

CONCURRENCY = 30
BITE = 1000


async def main(url: str, n: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=url))
    moments: list[float] = []

    @app.task(name="noop")
    async def noop(user_id: int, name: str) -> None:
        moments.append(time.time())

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, n, BITE):
            await noop.batch_defer_async(*[{"user_id": USER, "name": NAME}] * min(BITE, n - start))
        await app.connector.execute_query_async("ANALYZE")
        before = time.process_time()
        await app.run_worker_async(wait=False, concurrency=CONCURRENCY, install_signal_handlers=False)
        cpu = time.process_time() - before
        row = await app.connector.execute_query_one_async(
            "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
    if len(moments) != n or row["n"] != n:
        raise SystemExit(f"{len(moments)} jobs were run instead of {n}, and {row['n']} succeeded")
    print((n - 1) / (max(moments) - min(moments)), 1e6 * cpu / n)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
