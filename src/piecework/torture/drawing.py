"""Draws a torture: a line while it runs, and the report as tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from piecework.torture.report import SOUND, Report, Spread
from piecework.torture.run import Options
from piecework.torture.watch import Now

LINE_SECONDS = 10.0  # between two lines where there is no terminal
WIDEST = 400  # characters of a sentence


@contextmanager
def progress(options: Options, *, quiet: bool = False) -> Iterator[Callable[[Now], None]]:
    """What to call with how far the torture is: it moves a bar, or writes a line now and then."""
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines(console)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=options.jobs or options.seconds, said="")

        def show(now: Now) -> None:
            done = now.finished if options.jobs else now.seconds
            bar.update(task, description=now.phase, completed=done, said=_said(now))

        yield show


def _lines(console: Console) -> Callable[[Now], None]:
    last = time.monotonic()

    def show(now: Now) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            console.print(f"{now.seconds:6.0f} s  {now.phase}: {_said(now)}", highlight=False, soft_wrap=True)

    return show


def _said(now: Now) -> str:
    return (
        f"{now.finished:,} of {now.stored:,} jobs ended; {now.killed:,} workers killed, {now.killed_trees:,} trees, "
        f"{now.frozen:,} stopped"
    )


def draw(report: Report, *, kept: bool, console: Console | None = None) -> None:
    """Prints the report; the last line is one sentence."""
    console = console or Console(highlight=False)
    said = f"{report.url}, queue {report.queue}, seed {report.seed}, lease {report.lease:g} s, {report.seconds:g} s"
    console.print(Text(said), soft_wrap=True)
    console.print(_numbers("jobs, by how they ended", report.jobs))
    console.print(_numbers("tested: must not be zero", report.tested, wrong=lambda n: n == 0))
    console.print(_numbers("seen", report.seen))
    console.print(_speeds(report))
    console.print(_numbers("broken: must be zero", report.found, wrong=lambda n: n > 0))
    for word, sentences in report.told.items():
        console.print(Text(f"\n{word}:", style="bold red"))
        for sentence in sentences:
            console.print(Text(f"  {sentence[:WIDEST]}"), soft_wrap=True)
    if kept:
        console.print(f"The ledger, the workers' logs and a new store are in {report.folder}", soft_wrap=True)
    console.print(Text(report.sentence, style="bold green" if report.code == SOUND else "bold red"), soft_wrap=True)


def _numbers(title: str, numbers: Mapping[str, int], wrong: Callable[[int], bool] = lambda n: False) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, min_width=60)
    table.add_column(ratio=1)
    table.add_column(justify="right")
    for name, n in numbers.items():
        table.add_row(name, Text(f"{n:,}", style="bold red" if wrong(n) else ""))
    return table


def _speeds(report: Report) -> Table:
    table = Table(
        title=(
            f"seconds until a killed job ran again, without the {report.stalls:g} s for which the machine stood still "
            f"(its load was up to {report.load:g} for each processor)"
        ),
        title_justify="left",
        min_width=60,
    )
    for name in ("", "jobs", "p50", "p99", "max"):
        table.add_column(name, justify="left" if not name else "right")
    rows = {
        "its worker process was killed": report.after_child,
        "its whole tree was": report.after_tree,
        "several faults met (not judged)": report.after_several,
    }
    for name, spread in rows.items():
        table.add_row(name, *_cells(spread))
    return table


def _cells(spread: Spread) -> list[str]:
    return [f"{spread.n:,}", f"{spread.p50:.3f}", f"{spread.p99:.3f}", f"{spread.max:.3f}"]
