"""`piecework work`: a supervisor and its worker processes."""

from __future__ import annotations

import json
import math
import os
import socket
import sys

import click

from piecework.appref import app_reference
from piecework.cli.common import counted, set_up_logging
from piecework.cli.probe import parse_address, serve
from piecework.cli.reloading import watch
from piecework.clock import SystemClock
from piecework.engine.child import Hello
from piecework.engine.supervisor import Supervisor
from piecework.options import check_name, check_queues
from piecework.store import open_store, redacted


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """NaN is no time, and would be compared with one."""
    if not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value:g} is no number of seconds, 0 or more", ctx, param)
    return value


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
    type=float,
    callback=_seconds,
    help="Seconds to finish what runs after a first SIGTERM.",
)
@click.option("--reload", is_flag=True, help="Start anew when Python files change; for development.")
@click.option(
    "--reload-dir",
    "reload_dirs",
    metavar="DIR",
    multiple=True,
    help="Where to watch; default: the app's folder. Repeatable.",
)
@click.option(
    "--health", metavar="[HOST:]PORT", help="Say over HTTP whether the workers live: /, /ready, /live; host: 127.0.0.1."
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
    reload: bool,
    reload_dirs: tuple[str, ...],
    health: str | None,
    app_dir: str | None,
    log_level: str,
) -> int:
    """Run the jobs of an app until stopped.

    SIGTERM or Ctrl-C finishes what runs and hands back the rest; a second one stops now. Either way nothing is lost and
    no attempt is spent on what was handed back.

    With --health, / and /ready answer 200 while jobs are taken, else 503; /live answers 503 only where a restart would
    help.
    """
    found = app_reference(reference)
    if found is None:
        raise click.UsageError("name the app: piecework work MODULE:APP (or set PIECEWORK_APP)")
    if reload and burst:
        raise click.UsageError("--burst ends when nothing is due, and --reload waits for changes; use one of them")
    if reload_dirs and not reload:
        raise click.UsageError("--reload-dir says where to watch; add --reload")
    set_up_logging(log_level)
    address = None if health is None else parse_address(health)
    name = socket.gethostname() if name is None else check_name(name, "--name")
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
            f"{'all queues' if lines is None else 'queues ' + ', '.join(lines)}, "
            f"{counted(hello.tasks, 'task')}, {redacted(hello.url)} "
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
        name=name,
        burst=burst,
        shutdown_timeout=shutdown_timeout,
        on_ready=ready,
        reloads=reload,
    )
    if address is not None:
        serve(address, supervisor)
    if reload:
        watch(reload_dirs or [app_dir or "."], supervisor.reload)
    return supervisor.run()
