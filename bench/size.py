"""A split of very many pieces: whose memory grows, and how long the screens take meanwhile.

The split is enqueued here, and worked off by ``piecework work`` as an operator starts it. While it runs, every process
of the worker is weighed, and the two screens that look at a split are asked again and again: as a whole command, and as
the call that the command makes.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import worker
from bench.measure import Store
from bench.reading import NotExact, Reading
from piecework.cli.watch import _Bars as Bars
from piecework.cli.watch import _Watcher as Watcher
from piecework.handle import Job

MEGABYTE = 1024 * 1024
SETTLING = 2.0  # seconds after the start until a process weighs what it weighs without work
LOOK_EVERY = 0.25
COMMAND_EVERY = 5.0


@dataclass
class Weighed:
    """What was seen while the split ran."""

    before: dict[int, int]  # process → bytes, before it had any work to speak of
    heaviest: dict[str, dict[int, int]] = field(default_factory=dict)  # phase → process → bytes
    seconds: dict[str, float] = field(default_factory=dict)  # phase → how long it took
    waits: dict[str, list[float]] = field(default_factory=dict)  # screen → milliseconds

    def growth(self, phase: str, pid: int) -> float:
        """Megabytes by which a process was heavier in a phase than before."""
        return (self.heaviest[phase].get(pid, 0) - self.before[pid]) / MEGABYTE


def split(store: Store, n: int) -> dict[str, Reading]:
    """Runs a split of `n` pieces to its end, and says what it weighed and how long the screens took."""
    with worker.resident(store.url, store.log, "--processes", "2") as pid:
        store.jobs.moment.later().result(timeout=60)
        time.sleep(SETTLING)
        job = store.jobs.fan.later(n)
        seen = Weighed(_weights(pid))
        _look_on(store, job, pid, seen)
        if set(seen.before) != set(_weights(pid)):
            raise NotExact("a worker process died while the split ran")
    fanned = job.result(timeout=5)
    if fanned.results != n:
        raise NotExact(f"the compose read {fanned.results} results of {n} pieces")
    return _readings(seen, n, pid)


def _look_on(store: Store, job: Job[Any], supervisor: int, seen: Weighed) -> None:
    """Weighs and asks until the split has ended."""
    at = looked = asked = time.monotonic()
    while not job.state.finished:
        phase = _phase(job)
        now = time.monotonic()
        seen.seconds[phase] = seen.seconds.get(phase, 0.0) + now - at
        at = now
        heaviest = seen.heaviest.setdefault(phase, {})
        for pid, weight in _weights(supervisor).items():
            heaviest[pid] = max(heaviest.get(pid, 0), weight)
        if now - looked >= LOOK_EVERY:
            looked = now
            _time(seen, "watch", lambda: _draw(store, job.id))
            _time(seen, "show", lambda: _ask(job))
        if now - asked >= COMMAND_EVERY:
            asked = now
            _time(seen, "show_command", lambda: _command(store, "jobs", "show", job.id))
            _time(seen, "watch_command", lambda: _first_line(store, "watch", job.id))
        time.sleep(0.02)


def _phase(job: Job[Any]) -> str:
    batch = job.batch
    if batch is None or not batch.sealed:
        return "splitting"
    return "working" if batch.open else "composing"


def _readings(seen: Weighed, n: int, supervisor: int) -> dict[str, Reading]:
    readings = {"size_pieces": Reading(n / sum(seen.seconds.values()))}
    for phase in seen.heaviest:
        grown = [seen.growth(phase, pid) for pid in seen.before if pid != supervisor]
        readings[f"size_{phase}"] = Reading(max(grown))
    readings["size_supervisor"] = Reading(max(seen.growth(phase, supervisor) for phase in seen.heaviest))
    for screen, waits in seen.waits.items():
        readings[f"size_{screen}"] = Reading(statistics.median(waits))
        readings[f"size_{screen}_worst"] = Reading(max(waits))
    return readings


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def _weights(supervisor: int) -> dict[int, int]:
    """Bytes of memory of a supervisor and its worker processes."""
    return {pid: _resident(pid) for pid in (supervisor, *worker.children(supervisor))}


def _resident(pid: int) -> int:
    """Bytes of a process in memory, without what it shares with a file; 0 where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


# ── screens ──────────────────────────────────────────────────────────────────────────────────────


def _time(seen: Weighed, screen: str, call: Callable[[], object]) -> None:
    began = time.perf_counter()
    call()
    seen.waits.setdefault(screen, []).append(1000 * (time.perf_counter() - began))


def _draw(store: Store, id: str) -> None:
    """One frame of `watch`, drawn on a terminal that nobody looks at."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with closing(Bars(console)) as bars:
        bars.show(Watcher(store.jobs.app.store, id).look())


def _ask(job: Job[Any]) -> None:
    """What `jobs show` reads."""
    job.record(), job.attempts(), job.batch, job.errors(limit=20)


def _command(store: Store, *words: str) -> None:
    subprocess.run(_line(store, *words), check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=worker.ROOT)


def _first_line(store: Store, *words: str) -> None:
    """Until a command has said its first line; it is not waited for any longer."""
    process = subprocess.Popen(_line(store, *words), stdout=subprocess.PIPE, cwd=worker.ROOT)
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise NotExact(f"piecework {' '.join(words)} said nothing")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _line(store: Store, *words: str) -> list[str]:
    return [sys.executable, "-m", "piecework", *words, "--store", store.url]
