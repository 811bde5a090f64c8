"""No-op jobs for PgQueuer, on asyncpg and uvloop: ``python -m bench.postgres.peer_pgqueuer URL JOBS``.

Prints jobs a second and microseconds of CPU for each. Its default takes ten jobs at a time; a batch of a thousand is the
fastest that it has here.
"""

from __future__ import annotations

import json
import sys
import time

import asyncpg
import uvloop  # type: ignore[import-not-found,unused-ignore]
from pgqueuer import AsyncpgDriver, PgQueuer, Queries  # type: ignore[import-not-found,unused-ignore]
from pgqueuer.models import Job  # type: ignore[import-not-found,unused-ignore]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found,unused-ignore]

from bench.reading import NAME, USER

BATCH = 1000
PAYLOAD = json.dumps({"user_id": USER, "name": NAME}).encode()


async def main(url: str, n: int) -> None:
    con = await asyncpg.connect(url)
    driver = AsyncpgDriver(con)
    queries = Queries(driver)
    await queries.install()
    for start in range(0, n, 10_000):
        bite = min(10_000, n - start)
        await queries.enqueue(["noop"] * bite, [PAYLOAD] * bite, [0] * bite)
    await con.execute("VACUUM (ANALYZE)")
    moments: list[float] = []
    pgq = PgQueuer(driver)

    @pgq.entrypoint("noop")
    async def noop(job: Job) -> None:
        moments.append(time.time())

    before = time.process_time()
    await pgq.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    cpu = time.process_time() - before
    con = await asyncpg.connect(url)
    left = await con.fetchval("SELECT count(*) FROM pgqueuer")
    if len(moments) != n or left:
        raise SystemExit(f"{len(moments)} jobs were run instead of {n}, and {left} are left")
    print((n - 1) / (moments[-1] - moments[0]), 1e6 * cpu / n)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
