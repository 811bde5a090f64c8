"""A store with a past and a future: jobs that ended over the last days, and jobs whose time has not come.

Written by the database itself, a statement for each kind; through the front door two million jobs would take minutes.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bench.reading import NAME

DAY = 86400.0
BITE = 50_000  # rows in one transaction, so that the log stays short

_ID = "printf('%08x-%04x-7%03x-9%03x-%012x', (at * 1000) >> 16, CAST(at * 1000 AS INTEGER) & 65535, {kind}, i >> 20, i)"

# 94 of a hundred completed (every fourth of them with a result), 3 failed, 3 were cancelled; half are past a week's keep.
_FINISHED = f"""
WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last),
timed AS (SELECT i, :now - :days * 86400.0 * (1 - i * 1.0 / :total) AS at FROM n)
INSERT INTO piecework_job (
    id, task, queue, priority, state, due, run_at, run, settled, attempt, created_at, started_at, finished_at, worker,
    claim, error, result, args
)
SELECT {_ID.format(kind=1)}, 'noop', 'line' || (i % 7), i % 3,
       CASE WHEN i % 100 < 94 THEN 'completed' WHEN i % 100 < 97 THEN 'failed' ELSE 'cancelled' END,
       1, at, 1, 1, 1, at, at + 1, at + 2, 'gone.1', i / 100,
       CASE WHEN i % 100 BETWEEN 94 AND 96 THEN :error END, CASE WHEN i % 4 = 0 THEN '12345.5' END, :args
FROM timed
"""

# In the queues that are worked too, and a third of them at a better priority than anything that is due.
_FUTURE = f"""
WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last),
timed AS (SELECT i, :now - 3600.0 * (1 - i * 1.0 / :total) AS at FROM n)
INSERT INTO piecework_job (id, task, queue, priority, state, due, run_at, created_at, args)
SELECT {_ID.format(kind=2)}, 'noop', CASE i % 4 WHEN 0 THEN 'default' ELSE 'line' || (i % 7) END, i % 3 - 1,
       'available', 0, :now + 86400.0 + abs(random() % 2592000), at, :args
FROM timed
"""

_COUNT = """
INSERT INTO piecework_tally (queue, state, n) SELECT queue, state, count(*) FROM piecework_job GROUP BY 1, 2
ON CONFLICT (queue, state) DO UPDATE SET n = excluded.n
"""


def fill(path: Path, *, finished: int, future: int, days: float = 14.0) -> None:
    """Adds jobs to a store that has its tables; `days` is how long ago the first of the finished ones ended."""
    common = {"now": time.time(), "days": days, "args": f'{{"user_id":42,"name":"{NAME}"}}'}
    with closing(sqlite3.connect(path, isolation_level=None)) as con:
        con.execute("PRAGMA synchronous = OFF")
        con.execute("PRAGMA cache_size = -200000")
        _insert(con, _FINISHED, finished, common | {"error": '{"type":"ValueError","message":"no","traceback":""}'})
        _insert(con, _FUTURE, future, common)
        con.execute(_COUNT)
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(con: sqlite3.Connection, statement: str, total: int, params: dict[str, object]) -> None:
    for first in range(0, total, BITE):
        con.execute(statement, params | {"first": first, "last": min(first + BITE, total), "total": total})
