"""A PostgreSQL store with a long past against an empty one: ``python -m bench.postgres.history``.

Millions of finished and future jobs are written by the server itself, then the verbs take turns on both stores, beside a
keeper that prunes and alone; then bites of pruning are timed, and what a vacuum costs after so much work. It takes some
minutes, and about half a kilobyte of disk for each job.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from tests.servers import ServerMissing

from bench import machine, report, stocked
from bench.postgres import stock
from bench.postgres.server import Server, ServerStore, running
from bench.reading import NotExact, Reading
from bench.report import Line, at_most, below
from bench.rounds import Round, say
from piecework import PieceworkError

ROOM = 1500  # bytes of disk for each job: the table, its indexes and the server's log
KEEP = 7 * 86400.0
BITES, BITE = 30, 1000
FEW = 50_000  # finished jobs in the store whose pruning is compared
NOTE = "Verbs are compared by the CPU of a job, here and in the server's process for it: others disturb that less."
WORKED = 25_000  # jobs that real workers drain


def main() -> int:
    options = _options()
    folder, warning = machine.disk_folder(options.dir)
    if warning:
        say(f"Warning: {warning}")
    need, free = ROOM * (options.finished + options.future), shutil.disk_usage(folder).free
    if need > free:
        say(f"{folder} has {free / 1e9:.0f} GB of room, and this takes {need / 1e9:.0f} GB: name fewer jobs, or --dir")
        return 1
    tempfile.tempdir = str(folder)
    try:
        with running() as server:
            found = _measure(server, options.finished, options.future, options.turns)
            version = server.version()
    except (PieceworkError, NotExact, ServerMissing, psycopg.Error, OSError) as error:
        say(f"The run was broken off: {error}")
        return 1
    title = f"{options.finished:,} finished and {options.future:,} future jobs, against an empty store"
    table = [(title, report.stocked(1.15, by_cpu=True)), ("keeping it so", _keeping())]
    report.print_table(table, machine.describe_server(folder, version), [found], [NOTE])
    return 0


def _measure(server: Server, finished: int, future: int, turns: int) -> Round:
    with server.store() as empty, server.store() as few, server.store() as full:
        say(f"writing {finished + future:,} jobs")
        stock.fill(few.database, finished=FEW, future=0, told=lambda _: None)
        stock.fill(full.database, finished=finished, future=future, told=say)
        say("in turns")
        found = stocked.compare(empty, full, turns)
        for name, store in (("worker_empty", empty), ("worker_full", full)):
            found[name] = stocked.drain(store, WORKED)
        say("pruning and vacuuming")
        few_bites, many_bites = _pruned(few), _pruned(full)
        found["prune_few"] = Reading(1000 * statistics.median(few_bites))
        found["prune_many"] = Reading(1000 * statistics.median(many_bites))
        found["prune_worst"] = Reading(1000 * max(many_bites))
        found["vacuum"] = _vacuumed(server, full)
    return found


def _pruned(store: ServerStore) -> list[float]:
    """Seconds for each bite."""
    took = []
    for _ in range(BITES):
        began = time.perf_counter()
        n = store.jobs.app.store.prune(before=time.time() - KEEP, limit=BITE)
        took.append(time.perf_counter() - began)
        if n == 0:
            break
    return took


def _vacuumed(server: Server, store: ServerStore) -> Reading:
    """CPU seconds of one vacuum after all that."""
    with psycopg.connect(store.database, autocommit=True) as con:
        before = server.cpu()
        con.execute(b"VACUUM piecework.piecework_job")
        return Reading(server.cpu() - before)


def _keeping() -> list[Line]:
    return [
        Line("prune_few", f"prune {BITE:,} of {FEW:,} finished jobs", "ms"),
        Line("prune_many", "… of all", "ms", against="prune_few", goal=at_most(1.15, "few")),
        Line("prune_worst", "… the longest", "ms", goal=below(250, "ms")),
        Line("vacuum", "a vacuum after that, CPU of the server", "s"),
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.postgres.history", description=__doc__)
    parser.add_argument("--finished", type=int, default=10_000_000, help="jobs that ended (10,000,000)")
    parser.add_argument("--future", type=int, default=1_000_000, help="jobs whose time has not come (1,000,000)")
    parser.add_argument("--turns", type=int, default=10, help="turns of every verb on both stores (10)")
    parser.add_argument("--dir", type=Path, help="where the server is; default: the temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
