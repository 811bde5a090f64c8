"""Operations: sequences of steps that do nothing, and one that is very long. On any store, and read back through the seam."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from bench import marching, worker
from bench.jobs import STEPS, line
from bench.measure import Measured
from bench.reading import NotExact, Reading
from piecework import Piecework
from piecework.job import AttemptRecord


def steps(
    store: Measured, operations: int, *, idle_cpu: float, server_cpu: Callable[[], float] | None = None
) -> Reading:
    """Steps a second of one worker process, from the first one's start to the last one's end, as the store has them.

    `server_cpu` tells the CPU seconds that a server has taken so far.
    """
    walks = store.jobs.walk.later_many([{"number": n} for n in range(operations)])
    before = server_cpu() if server_cpu else 0.0
    cpu = worker.drain(store.url, store.log) - idle_cpu
    served = server_cpu() - before if server_cpu else None
    began, ended, n = float("inf"), 0.0, operations * STEPS
    for walk in walks:
        lines = _walked(store, walk.id, STEPS)
        began, ended = min(began, lines[0].started_at or 0.0), max(ended, lines[-1].finished_at)
    reading = Reading(n / (ended - began), max(0.0, 1e6 * cpu / n))
    return reading if served is None else reading.served(served, n)


def long(store: Measured) -> dict[str, Reading]:
    """Microseconds for each step in the first and the last tenth of one operation of very many steps."""
    app = Piecework(store.url)
    with closing(app):
        operation = app.operation("march", main=line(marching.STEPS)).later()
    worker.drain(store.url, store.log, app="bench.marching:app")
    ends = [line.finished_at for line in _walked(store, operation.id, marching.STEPS)]
    tenth = marching.STEPS // 10
    return {
        "march_first": Reading(1e6 * (ends[tenth] - ends[0]) / tenth),
        "march_last": Reading(1e6 * (ends[-1] - ends[-1 - tenth]) / tenth),
    }


def _walked(store: Measured, id: str, steps: int) -> list[AttemptRecord]:
    """The lines of an operation that has completed; each step must have been recorded once, and nothing else."""
    shelf = store.jobs.app.store
    (job,) = shelf.get([id])
    lines = shelf.attempts(id)
    once = len({line.cursor for line in lines if line.outcome == "completed"})
    if job.state != "completed" or once != steps or len(lines) != steps:
        raise NotExact(
            f"operation {id} is {job.state}: {once} of its {steps} steps have completed, and {len(lines)} lines are kept"
        )
    return lines
