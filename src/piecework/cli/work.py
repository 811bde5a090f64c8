"""`piecework work`: a supervisor and its worker processes."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys

import click

from piecework.appref import app_reference
from piecework.clock import SystemClock
from piecework.engine.supervisor import Hello, Supervisor
from piecework.options import check_queues
from piecework.store import open_store


@click.command("work")
@click.argument("reference", metavar="[MODULE:APP]", required=False)
@click.option(
    "-c",
    "--concurrency",
    default=10,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Jobs at a time, in each process.",
)
@click.option("-Q", "--queues", metavar="A,B", help="Only these queues; default: all.")
@click.option("-n", "--name", help="The worker's name in lists; default: the host's.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 1000), help="Worker processes.")
@click.option(
    "--pool-size",
    default=os.cpu_count() or 1,
    show_default="the processors of this machine",
    type=click.IntRange(1, 1000),
    help="Processes for jobs with pool='process', for each worker process.",
)
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="Replace such a process after N jobs.")
@click.option(
    "--max-memory", type=click.IntRange(16), metavar="MB", help="Replace such a process when it holds more after a job."
)
@click.option("--burst", is_flag=True, help="End when nothing is due.")
@click.option(
    "--shutdown-timeout",
    default=25.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to finish what runs after a first SIGTERM.",
)
@click.option("--app-dir", metavar="DIR", help="Where to import the app from; default: here.")
@click.option(
    "-l",
    "--log-level",
    default="info",
    show_default=True,
    help="How much to say.",
    type=click.Choice(["debug", "info", "warning", "error"]),
)
def command(
    reference: str | None,
    concurrency: int,
    queues: str | None,
    name: str | None,
    processes: int,
    pool_size: int,
    max_jobs: int | None,
    max_memory: int | None,
    burst: bool,
    shutdown_timeout: float,
    app_dir: str | None,
    log_level: str,
) -> int:
    """Run the jobs of an app until stopped.

    SIGTERM or Ctrl-C finishes what runs and hands back the rest; a second one stops now. Either way nothing is lost and
    no attempt is spent on what was handed back.
    """
    found = app_reference(reference)
    if found is None:
        raise click.UsageError("name the app: piecework work MODULE:APP (or set PIECEWORK_APP)")
    set_up_logging(log_level)
    lines = None if queues is None else check_queues([q.strip() for q in queues.split(",") if q.strip()], "--queues")
    told = {
        "reference": found,
        "concurrency": concurrency,
        "queues": lines,
        "burst": burst,
        "pool_size": pool_size,
        "max_jobs": max_jobs,
        "max_memory": None if max_memory is None else max_memory << 20,
        "app_dir": app_dir,
        "log_level": log_level,
    }

    def ready(hello: Hello, session: str) -> None:
        click.echo(
            f"piecework: {processes} process{'es' if processes > 1 else ''} × {concurrency}, "
            f"{'all queues' if lines is None else 'queues ' + ', '.join(lines)}, {hello.tasks} tasks, {hello.url} "
            f"(session {session})",
            err=True,
        )

    supervisor = Supervisor(
        # -P: a worker's imports are not to be taken over by what lies in the current folder.
        [sys.executable, "-P", "-m", "piecework.cli.child", json.dumps(told)],
        open_store,
        SystemClock(),
        processes=processes,
        concurrency=concurrency,
        name=name or socket.gethostname(),
        burst=burst,
        shutdown_timeout=shutdown_timeout,
        on_ready=ready,
    )
    return supervisor.run()


def set_up_logging(level: str) -> None:
    """Log lines go to stderr, by a stream of their own: a job may close `sys.stderr`, or put something else in its place."""
    stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=stream)
