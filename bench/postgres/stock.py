"""A PostgreSQL store with a past and a future, written by the server itself: see bench/stock.py for the same on SQLite."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from bench.reading import NAME

BITE = 250_000  # rows in one transaction

# As piecework makes them: in order of time.
_ID = """overlay(overlay(overlay(overlay(
    lpad(to_hex((at * 1000)::bigint), 12, '0') || '7{kind}009000' || lpad(to_hex(i), 12, '0')
    placing '-' from 9 for 0) placing '-' from 14 for 0) placing '-' from 19 for 0) placing '-' from 24 for 0)"""

# 94 of a hundred completed (every fourth of them with a result), 3 failed, 3 were cancelled; half are past a week's keep.
_FINISHED = f"""
INSERT INTO piecework_job (
    id, task, queue, priority, state, due, run_at, run, settled, attempt, created_at, started_at, finished_at, worker,
    claim, error, result, args
)
SELECT {_ID.format(kind=1)}, 'noop', 'line' || (i % 7), i % 3,
       CASE WHEN i % 100 < 94 THEN 'completed' WHEN i % 100 < 97 THEN 'failed' ELSE 'cancelled' END,
       true, at, 1, 1, 1, at, at + 1, at + 2, 'gone.1', i / 100,
       CASE WHEN i % 100 BETWEEN 94 AND 96 THEN '{{"type":"ValueError","message":"no","traceback":""}}' END,
       CASE WHEN i % 4 = 0 THEN '12345.5' END, %(args)s
FROM generate_series(%(first)s, %(last)s - 1) AS n (i),
     LATERAL (SELECT extract(epoch FROM now())::float8 - %(days)s * 86400.0 * (1 - i::float8 / %(total)s) AS at) AS t
"""

# In the queues that are worked too, and a third of them at a better priority than anything that is due.
_FUTURE = f"""
INSERT INTO piecework_job (id, task, queue, priority, state, due, run_at, created_at, args)
SELECT {_ID.format(kind=2)}, 'noop', CASE i % 4 WHEN 0 THEN 'default' ELSE 'line' || (i % 7) END, i % 3 - 1,
       'available', false, extract(epoch FROM now()) + 86400 + random() * 2592000, at, %(args)s
FROM generate_series(%(first)s, %(last)s - 1) AS n (i),
     LATERAL (SELECT extract(epoch FROM now())::float8 - 3600.0 * (1 - i::float8 / %(total)s) AS at) AS t
"""

_COUNT = """
INSERT INTO piecework_tally (queue, state, n) SELECT queue, state, count(*) FROM piecework_job GROUP BY queue, state
"""


def fill(url: str, *, finished: int, future: int, days: float = 14.0, told: Callable[[str], object] = print) -> None:
    """Adds jobs to a store that has its tables and no jobs; `days` is how long ago the first of the finished ended."""
    common = {"days": days, "args": f'{{"user_id":42,"name":"{NAME}"}}'}
    with psycopg.connect(url, autocommit=True) as con:
        con.execute(b"SET search_path = piecework")
        con.execute(b"SET synchronous_commit = off")
        for statement, total in ((_FINISHED, finished), (_FUTURE, future)):
            for first in range(0, total, BITE):
                bounds = {"first": first, "last": min(first + BITE, total), "total": total}
                con.execute(statement.replace("% ", "%% ").encode(), common | bounds)
                told(f"  {bounds['last']:,} of {total:,} rows")
        con.execute(_COUNT.encode())
        con.execute(b"VACUUM (ANALYZE)")
        con.execute(b"CHECKPOINT")
