"""Worker processes as an operator starts them: ``python -m piecework work``, a supervisor and its children."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.reading import NotExact

ROOT = Path(__file__).resolve().parent.parent
APP = "bench.jobs:app"
PATIENCE = 900.0  # seconds until a run is given up


def drain(url: str, log: Path, *, processes: int = 1, app: str = APP) -> float:
    """Works until nothing is due, and returns the CPU seconds of the supervisor and all its children."""
    before = _children_cpu()
    with _started(url, log, "--burst", "--processes", str(processes), app=app) as process:
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise NotExact(f"the worker was not done after {PATIENCE:g} s:\n{_tail(log)}") from None
    if code != 0:
        raise NotExact(f"the worker ended with exit code {code}:\n{_tail(log)}")
    return _children_cpu() - before


@contextmanager
def resident(url: str, log: Path, *options: str, app: str = APP) -> Iterator[int]:
    """A worker that waits for jobs; yields the supervisor's process id."""
    with _started(url, log, *options, app=app) as process:
        yield process.pid


@contextmanager
def _started(url: str, log: Path, *options: str, app: str = APP) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "piecework", "work", app, "--app-dir", str(ROOT), *options]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--log-level", "warning"],
            env={**os.environ, "PIECEWORK_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_of_tree(pid: int) -> dict[str, float] | None:
    """CPU seconds so far of a supervisor and of its children together; None where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return None
    return {"supervisor": _stat(pid)[1], "child": sum(_stat(child)[1] for child in children(pid))}


def cpu_with_ended(pid: int) -> float:
    """CPU seconds so far of a process, its children, and those of them that have ended."""
    return _stat(pid)[2] + sum(_stat(child)[2] for child in children(pid))


def children(pid: int) -> list[int]:
    """The processes that a process started and that are there."""
    return [other for other in _processes() if _stat(other)[0] == pid]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> tuple[int, float, float]:
    """A process's parent, its CPU seconds, and these with those of its ended children; zeros where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0, 0.0
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[1]), own / tick, (own + ended) / tick


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
