"""Runs the forest on worker processes, shows how it goes, and compares the report with that of the plain call.

python -m demo.run [folder] [--out FILE] [--store URL] [--crash] [--now]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
from rich.console import Console
from rich.table import Table

from piecework import PieceworkError
from piecework.job import Filter, Record, State
from piecework.store import Store, redacted

if TYPE_CHECKING:
    from demo.forest import Report

HERE = Path(__file__).resolve().parent.parent
APP = "demo.forest:app"
PROCESSES = 2
THREADS = 2

console = Console(highlight=False)


def main() -> int:
    options = _options()
    root = str(options.folder.resolve())
    with tempfile.TemporaryDirectory(prefix="piecework-demo-") as folder:
        # The application reads where its store is when it is imported; so do the workers.
        os.environ["PIECEWORK_URL"] = options.store or f"sqlite:///{folder}/forest.db"
        if options.now:
            report, seconds = _now(root)
            _finish(report, options.out)
            console.print(f"Measured by a plain call in {seconds:.1f} s.")
            return 0
        where = redacted(options.store) if options.store else "one SQLite file"
        later, seconds = _later(root, where, Path(folder, "workers.log"), crash=options.crash)
        _finish(later, options.out)
        now, plain = _now(root)
        return _compare(later, seconds, now, plain)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.run", description="Measures a folder of Python sources.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--out", type=Path, default=Path("forest-report.txt"), help="where the report is written")
    parser.add_argument("--store", metavar="URL", help="where the jobs are kept; without it, in a SQLite file")
    parser.add_argument("--crash", action="store_true", help="kill workers in the middle with SIGKILL")
    parser.add_argument("--now", action="store_true", help="only the plain call, without store and workers")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    if not options.out.absolute().parent.is_dir():
        parser.error(f"the report cannot be written to {options.out}: there is no such folder")
    return options


# ── later ────────────────────────────────────────────────────────────────────────────────────────


def _later(root: str, where: str, log: Path, *, crash: bool) -> tuple[Report, float]:
    """The report, and how long it took from the call to the result."""
    from demo import forest
    from piecework.cli.watch import watch

    console.print(f"Measuring {root}", soft_wrap=True)
    console.print(f"in pieces, on {PROCESSES} worker processes and {where}.\n", soft_wrap=True)
    began = time.perf_counter()
    job = forest.measure_forest.later(root)
    with contextlib.ExitStack() as stack:
        supervisor = stack.enter_context(_supervisor(log))
        crashes = stack.enter_context(_Crashes(root, job.id, supervisor.pid)) if crash else None
        watch(forest.app, job.id, console=console)
        report = job.result(timeout=60)
        seconds = time.perf_counter() - began
    if crashes is not None:
        console.print(f"Worker processes killed on the way: {crashes.killed or 'none, it was over too soon'}.")
    console.print()
    return report, seconds


@contextlib.contextmanager
def _supervisor(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `piecework work`, and stops it in the end the way an operator would: with SIGTERM."""
    command = [sys.executable, "-m", "piecework", "work", APP]
    command += ["--processes", str(PROCESSES), "--concurrency", str(THREADS)]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches us alone, and we stop it in order
        )

    def gone(number: int, frame: object) -> None:
        if supervisor.poll() is not None:  # else it was another child
            raise _WorkersGone

    # Without workers the main thread would watch for ever.
    before = signal.signal(signal.SIGCHLD, gone)
    try:
        yield supervisor
    except _WorkersGone:
        sys.exit(f"The workers ended by themselves. Their last words:\n{log.read_text(errors='replace')}")
    finally:
        signal.signal(signal.SIGCHLD, before)
        supervisor.terminate()
        try:
            supervisor.wait(timeout=20)
        except subprocess.TimeoutExpired:
            supervisor.kill()


class _WorkersGone(Exception):
    """The supervisor ended although nobody stopped it."""


# ── now ──────────────────────────────────────────────────────────────────────────────────────────


def _now(root: str) -> tuple[Report, float]:
    """The same by a plain call in this thread."""
    from demo import forest

    quiet = contextlib.nullcontext() if not console.is_terminal else console.status("The same by a plain call …")
    began = time.perf_counter()
    with quiet:
        report = forest.measure_forest(root)
    return report, time.perf_counter() - began


# ── what came of it ──────────────────────────────────────────────────────────────────────────────


def _finish(report: Report, out: Path) -> None:
    """Writes the report to its file, and what is most worth knowing to the terminal."""
    from demo import forest

    out.write_text(forest.render(report), encoding="utf-8")
    facts = Table.grid(padding=(0, 2))
    facts.add_column(justify="right", no_wrap=True, min_width=9)
    facts.add_column(no_wrap=True, overflow="ellipsis")
    total = report.sum
    for count, name in (
        (len(report.packages), "packages"),
        (total.modules, "modules"),
        (total.lines, "lines"),
        (total.functions, "functions"),
        (total.classes, "classes"),
    ):
        facts.add_row(f"{count:,}", name)
    if report.longest:
        longest = report.longest[0]
        facts.add_row(f"{longest.length:,}", f"lines in the longest function, {longest.name} in {longest.path}")
    if report.imported:
        name, times = report.imported[0]
        facts.add_row(f"{times:,}", f"imports of {name}, the most imported module")
    if total.failed:
        facts.add_row(f"{total.failed:,}", "pieces that failed; the report names them")
    console.print(facts)
    console.print(f"\nThe report is in {out}.", soft_wrap=True)


def _compare(later: Report, seconds: float, now: Report, plain: float) -> int:
    """Whether both ways gave the same bytes, as text and as JSON."""
    from demo import forest

    same = forest.render(later) == forest.render(now) and msgspec.json.encode(later) == msgspec.json.encode(now)
    console.print(f"Later, in pieces: {seconds:5.1f} s. Now, by a plain call: {plain:5.1f} s.")
    if not same:
        console.print("The two reports differ. That is a bug.", style="bold red")
        return 1
    console.print("Both reports are the same, byte for byte.", style="green")
    return 0


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────


class _Crashes:
    """Kills a worker process when a third of the modules is measured, and another at two thirds."""

    def __init__(self, root: str, job_id: str, supervisor: int) -> None:
        self._root = root
        self._job_id = job_id
        self._supervisor = supervisor
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        from demo import forest

        store = forest.app.store
        modules = sum(len(forest.modules(self._root, package)) for package in forest.packages(self._root))
        measured = Filter(root=self._job_id, task=forest.measure_module.name, state=State.COMPLETED)
        for share in (1 / 3, 2 / 3):
            while store.count(measured) < share * modules:
                if self._over.wait(0.05):
                    return
            if store.count(measured) < modules:
                self._kill_one(store)

    def _kill_one(self, store: Store) -> None:
        before = _children(self._supervisor)
        if not before:
            return
        victim = before[0]
        os.kill(victim, signal.SIGSTOP)  # it holds still while we look at what it has in hand
        running = store.find(Filter(root=self._job_id, state=State.RUNNING), limit=10_000)
        os.kill(victim, signal.SIGKILL)
        began = time.perf_counter()
        self.killed += 1
        back = self._taken_back(store, running)
        seconds = time.perf_counter() - began
        _say(f"Killed worker process {victim} with SIGKILL; it had {back or 'no'} jobs in hand.")
        if back:
            _say(f"They were back in the queue after {seconds:.2f} s.")
        while not (new := set(_children(self._supervisor)) - set(before)):
            if self._over.wait(0.02):
                return
        _say(f"Worker process {new.pop()} stands in for it.")

    def _taken_back(self, store: Store, running: list[Record]) -> int:
        """Waits until the store says that a worker died, and counts the jobs that it had in hand."""
        while not self._over.wait(0.005):
            for record in running:
                if any(line.run == record.run and line.outcome == "crashed" for line in store.attempts(record.id)):
                    return sum(other.worker == record.worker for other in running)
        return 0


def _say(sentence: str) -> None:
    console.print(f"  {sentence}", style="yellow", soft_wrap=True)


def _children(supervisor: int) -> list[int]:
    """The worker processes of a supervisor, oldest first."""
    kernel = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    if kernel.exists():
        return sorted(int(pid) for pid in kernel.read_text().split())
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in listing.splitlines())
    return sorted(int(pid) for pid, parent in pairs if int(parent) == supervisor)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped.")
    except PieceworkError as error:
        sys.exit(str(error))
