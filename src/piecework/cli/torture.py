"""`piecework torture`: the command around `piecework.torture`."""

from __future__ import annotations

import signal
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import click

from piecework.cli.common import json_option, print_json
from piecework.store import open_store
from piecework.torture.drawing import draw, progress
from piecework.torture.run import Options, Torture, check


@click.command("torture")
@click.argument("url", required=False)
@click.option("--minutes", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="How long.")
@click.option("--jobs", type=click.IntRange(1), help="Instead: until so many jobs are stored and have ended.")
@click.option(
    "--processes", default=2, show_default=True, type=click.IntRange(1, 100), help="Workers in each of two trees."
)
@click.option(
    "-c", "--concurrency", default=4, show_default=True, type=click.IntRange(1, 1000), help="Jobs at a time in each."
)
@click.option("--seed", default=0, show_default=True, help="Draws the plan of faults.")
@click.option(
    "--kill-every",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds between faults.",
)
@click.option("--lease", default=2.0, show_default=True, type=click.FloatRange(1, 3600), help="Seconds.")
@click.option(
    "--lose",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 0.5),
    help="Share of requests and of replies lost.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep ledger and logs in this folder.")
@click.option("--yes-use-this-store", "allow_jobs", is_flag=True, help="Even though the store holds jobs.")
@json_option
def command(
    url: str | None,
    minutes: float,
    jobs: int | None,
    processes: int,
    concurrency: int,
    seed: int,
    kill_every: float,
    lease: float,
    lose: float,
    keep: Path | None,
    allow_jobs: bool,
    as_json: bool,
) -> int:
    """Show that a store keeps its promises while workers are killed and frozen, and words are lost.

    URL names the store; without one, a new SQLite file. Real workers run a mix of jobs in a queue of their own. At the
    end a ledger of what really ran is joined with the store. Exits with 0 when every promise was kept, with 1 when one
    was broken, with 2 when a fault that belongs to the test never happened.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the workers are ended first
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="piecework-torture-")))
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise click.UsageError(f"--keep {folder}: the folder is not empty")
        url = url or f"sqlite:///{folder.resolve()}/jobs.db"
        with closing(open_store(url)) as store:
            check(store, allow_jobs=allow_jobs)
        options = Options(url, minutes * 60, jobs, processes, concurrency, seed, kill_every, lease, lose)
        with progress(options, quiet=as_json) as show:
            report = Torture(options, folder.resolve(), show=show).run()
        if as_json:
            print_json({"sentence": report.sentence, "code": report.code, "report": report})
        else:
            draw(report, kept=keep is not None)
    return report.code
