"""Operations: sequences of steps that do nothing, and one that is very long."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from bench import marching, worker
from bench.jobs import STEPS, line
from bench.measure import FileStore
from bench.reading import NotExact, Reading
from piecework import Piecework


def steps(store: FileStore, operations: int, *, idle_cpu: float) -> dict[str, Reading]:
    """Steps a second of one worker process, from the first one's start to the last one's end, as the store has them."""
    store.jobs.walk.later_many([{"number": n} for n in range(operations)])
    cpu = worker.drain(store.url, store.log) - idle_cpu
    n = operations * STEPS
    began, ended = _walked(store, operations, STEPS)
    return {"steps": Reading(n / (ended - began), max(0.0, 1e6 * cpu / n))}


def long(store: FileStore) -> dict[str, Reading]:
    """Microseconds for each step in the first and the last tenth of one operation of very many steps."""
    app = Piecework(store.url)
    with closing(app):
        operation = app.operation("march", main=line(marching.STEPS)).later()
    worker.drain(store.url, store.log, app="bench.marching:app")
    _walked(store, 1, marching.STEPS)
    with closing(sqlite3.connect(store.path)) as con:
        rows = con.execute(
            "SELECT s.finished_at FROM piecework_step AS s JOIN piecework_job AS j ON j.seq = s.operation "
            "WHERE j.id = ? ORDER BY s.run",
            (operation.id,),
        ).fetchall()
    ends = [row[0] for row in rows]
    tenth = marching.STEPS // 10
    return {
        "march_first": Reading(1e6 * (ends[tenth] - ends[0]) / tenth),
        "march_last": Reading(1e6 * (ends[-1] - ends[-1 - tenth]) / tenth),
    }


def _walked(store: FileStore, operations: int, steps: int) -> tuple[float, float]:
    """When the first operation was begun and the last one ended; each step must have been recorded once."""
    with closing(sqlite3.connect(store.path)) as con:
        done, ended = con.execute(
            "SELECT count(*), max(finished_at) FROM piecework_job WHERE state = 'completed' AND cursor IS NOT NULL"
        ).fetchone()
        lines, begun = con.execute("SELECT count(*), min(started_at) FROM piecework_step").fetchone()
        other, doubled = con.execute(
            "SELECT sum(outcome <> 'completed'), count(*) - count(DISTINCT operation || cursor) FROM piecework_step"
        ).fetchone()
    if (done, lines, other, doubled) != (operations, operations * steps, 0, 0):
        raise NotExact(
            f"{done} of {operations} operations completed, in {lines} steps instead of {operations * steps}, of which "
            f"{other} did not complete and {doubled} were run twice"
        )
    return begun, ended
