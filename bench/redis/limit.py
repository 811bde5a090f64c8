"""The limit on Redis: the least that a queue there can do, written by hand with redis-py and one Lua script.

A sorted set is the line, a hash holds the jobs, another sorted set who runs what until when. Jobs come in a pipeline of
bare writes; a loop settles what it holds and claims as many again in one call of the script. No results, no counters, no
history, no retries, and no function is ever called.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import redis

from bench.limit import ARGS, BITE, LEASE
from bench.reading import NotExact, Reading, Watch

LINE, JOB, RUNNING = "limit:line", "limit:job", "limit:running"
PIPE = 1000  # jobs in one trip of a pipeline

EXCHANGE = """
local n = #ARGV - 2
if n > 0 then
    local held = {unpack(ARGV, 3)}
    redis.call('ZREM', KEYS[3], unpack(held))
    redis.call('HDEL', KEYS[2], unpack(held))
end
local popped = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
if #popped == 0 then return {{}, {}} end
local ids, leases = {}, {}
for k = 1, #popped, 2 do
    ids[#ids + 1] = popped[k]
    leases[#leases + 1] = ARGV[2]
    leases[#leases + 1] = popped[k]
end
redis.call('ZADD', KEYS[3], unpack(leases))
return {ids, redis.call('HMGET', KEYS[2], unpack(ids))}
"""


class Weighed(NamedTuple):
    """A reading, and the microseconds of the server's CPU for each job."""

    reading: Reading
    server: float


def connect(port: int) -> redis.Redis:
    return redis.Redis(port=port, protocol=2)


def insert_one_by_one(con: redis.Redis, first: int, n: int) -> None:
    """Both writes of a job in one trip and one transaction, `n` times."""
    for number in range(first, first + n):
        pipe = con.pipeline(transaction=True)
        pipe.hset(JOB, str(number), ARGS)
        pipe.zadd(LINE, {str(number): time.time()})
        pipe.execute()


def insert_many(con: redis.Redis, n: int) -> Reading:
    """`n` jobs, each two bare writes in a pipeline; they stay for `drain`."""
    with Watch() as watch:
        for first in range(0, n, PIPE):
            pipe = con.pipeline(transaction=False)
            for number in range(first, min(n, first + PIPE)):
                pipe.hset(JOB, str(number), ARGS)
                pipe.zadd(LINE, {str(number): number})
            pipe.execute()
    return watch.reading(n)


def server_cpu(con: redis.Redis) -> float:
    """CPU seconds that the server has taken so far."""
    told: Any = con.info("cpu")
    return float(sum(told[f"used_cpu_{kind}"] for kind in ("user", "sys", "user_children", "sys_children")))


def drain(con: redis.Redis, n: int, *, bite: int = BITE) -> Weighed:
    """Claims and settles all of them, `bite` in each trip."""
    exchange: Any = con.register_script(EXCHANGE)
    exchange([LINE, JOB, RUNNING], [0, 0])  # loads it
    before, done, held = server_cpu(con), 0, []
    with Watch() as watch:
        while True:
            ids, texts = exchange([LINE, JOB, RUNNING], [bite, time.time() + LEASE, *held])
            done += sum(text is not None for text in texts)
            held = ids
            if not ids:
                break
    left = sum(int(con.zcard(key)) for key in (LINE, RUNNING)) + int(con.hlen(JOB))
    if done != n or left:
        raise NotExact(f"the limit's own loop settled {done} of {n} jobs, and {left} entries are left")
    return Weighed(watch.reading(n), 1e6 * (server_cpu(con) - before) / n)
