"""The system-call sweep: a program is killed at its first write, at its second, and so on until it ends alive.

    python -m tests.proof.sweep             every program, call and error: some minutes
    python -m tests.proof.sweep work        one program

After each death the store is opened, finished by a healthy worker, and judged. strace counts the calls of each thread by
itself, and the first thread that comes to the nth call ends the process; so the programs whose points are to be complete
do everything in one thread (see `swept`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent)]

import swept  # noqa: E402
from support import books  # noqa: E402

import piecework  # noqa: E402
from piecework.job import Record  # noqa: E402
from piecework.testing.walks import Deed, Walked, wrongs  # noqa: E402

SOURCE = Path(piecework.__file__).parents[1]
STRACE = "strace is not installed, and the sweep needs it: apt-get install strace"
MOST = 400  # points after which a sweep that does not end is wrong itself
RUN_SECONDS = 60.0


class Nursery:
    """A process that bears the programs, each at a gate where strace finds it."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "swept.py")],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def bear(self, *arguments: str) -> int:
        """A program's process, which stands at its gate."""
        return self._ask(json.dumps(arguments))

    def let_go(self, pid: int) -> int:
        """Lets it run, and returns its exit code; one that does not end is ended."""
        alarm = threading.Timer(RUN_SECONDS, os.kill, (pid, signal.SIGABRT))
        alarm.start()
        try:
            return self._ask("go")
        finally:
            alarm.cancel()

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@dataclass
class Sweep:
    """One program, one system call, and what happens there: a signal, or an error."""

    program: str
    call: str = "pwrite64"
    what: str = "signal=SIGKILL"
    options: tuple[str, ...] = ()
    points: int = 0
    told: int = 0  # runs that met an error and said so
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join([self.program, *self.options, f"{self.call}:{self.what}"])

    def run(self, folder: Path) -> Sweep:
        """Every point, from the first to the one that the program does not reach."""
        if shutil.which("strace") is None:
            raise RuntimeError(STRACE)
        template = folder / "template.db"
        if self.program != "migrate":
            swept.prepare(template, self.program)
        with Nursery() as nursery:
            for n in range(1, MOST):
                place = folder / str(n)
                place.mkdir()
                if template.exists():
                    shutil.copy(template, place / "jobs.db")
                code, said = self._strike(n, place, nursery)
                reached = self._reached(code, place)
                self.violations += [f"{self}, point {n}: {wrong}" for wrong in self._judge(code, said, place)]
                shutil.rmtree(place)
                if not reached:
                    return self
                self.points += 1
        self.violations.append(f"{self}: does not end within {MOST} points")
        return self

    def _strike(self, n: int, place: Path, nursery: Nursery) -> tuple[int, str]:
        said = place / "said"
        pid = nursery.bear(self.program, str(place / "jobs.db"), str(place / "ledger"), *self.options, str(said))
        watch = ["strace", "-f", "-o", str(place / "trace"), "-e", f"trace={self.call}"]
        watch += ["-e", f"inject={self.call}:{self.what}:when={n}", "-p", str(pid)]
        with subprocess.Popen(watch, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            if "attached" not in (first := strace.stderr.readline()):
                raise RuntimeError(f"strace: {first}{strace.stderr.read()}")
            try:
                code = nursery.let_go(pid)
            finally:
                strace.communicate(timeout=RUN_SECONDS)
        return code, said.read_text()

    def _reached(self, code: int, place: Path) -> bool:
        """Whether the program came to the point."""
        if "signal" in self.what:
            return code != 0
        return "(INJECTED)" in (place / "trace").read_text(errors="replace")

    # ── the oracle ───────────────────────────────────────────────────────────────────────────────

    def _judge(self, code: int, said: str, place: Path) -> list[str]:
        expected = (0, -9) if "signal" in self.what else (0,)
        if code not in expected:
            return [f"ended with code {code}: {said[-2000:]}"]
        path, ledger = place / "jobs.db", place / "ledger"
        lines = [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []
        self.told += any(line[0] == "unavailable" for line in lines)
        found = books(path) if path.exists() and path.stat().st_size and self.program != "migrate" else []
        return found + judge(path, ledger, complete=code == 0 and "signal" in self.what)


def judge(path: Path, ledger: Path, *, complete: bool) -> list[str]:
    """Finishes what is left with a healthy worker, and says what is not as it was promised."""
    programs = swept.Programs(str(path), str(ledger))
    app = programs.app
    before = ledger.read_text().splitlines()
    for session in app.store.sessions():
        app.store.bury(session.id)  # as its lease would
    app.worker(concurrency=1, burst=True).run()
    found = _of_jobs(programs, before, ledger)
    found += [f"repair found: {sentence}" for sentence in app.store.repair(limit=1000)]
    app.store.add([])  # it can be written
    app.close()
    found += books(path)
    unavailable = sum(line.startswith("unavailable") for line in before)
    if complete and unavailable:
        found.append("it was not disturbed, and the store was not available to it")
    return found


def _of_jobs(programs: swept.Programs, before: list[str], ledger: Path) -> list[str]:
    records = {job.id: job.known for job in programs.app.jobs}
    found = []
    for line in before:
        what, id, *_ = line.split()
        if what == "acknowledged" and id not in records:
            found.append(f"job {id} was acknowledged, and is not stored")
    starts: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in ledger.read_text().splitlines():
        what, id, *_, run, at = line.split()
        if what == "start":
            starts[id].append((int(run), float(at)))
    for id, record in records.items():
        name = f"{record.task} {id}"
        if record.task == "walk":
            found += [f"{name}: {wrong}" for wrong in _of_walk(programs, record, ledger)]
            continue
        if record.state != "completed":
            found.append(f"{name} is lost: it is {record.state}")
            continue
        assert record.finished_at is not None
        runs = [run for run, _ in starts[id]]
        if record.run not in runs or len(set(runs)) != len(runs):
            found.append(f"{name}: run {record.run} completed it, and these were begun: {runs}")
        found += [
            f"{name}: run {run} was begun after its completion" for run, at in starts[id] if at > record.finished_at
        ]
        if record.task == "total":
            asked = json.loads(record.args)["pieces"]
            batch = programs.app.store.batch(id)
            if batch is None or (batch.state, batch.total, batch.completed) != ("done", asked, asked):
                found.append(f"{name} completed, and its batch is {batch}")
            if record.result != str(sum(n * n for n in range(asked))):
                found.append(f"{name} came to {record.result}")
    many = sum(
        record.task == "square" and record.args >= '{"n":100}' and len(record.args) == 9 for record in records.values()
    )
    if many not in (0, swept.MANY):
        found.append(f"{many} of {swept.MANY} calls of one later_many are stored")
    return found + _of_notes(programs.path, records)


def _of_walk(programs: swept.Programs, record: Record, ledger: Path) -> Iterator[str]:
    """An operation: no step of it ran again once it had completed, and its undoing is whole."""
    store = programs.app.store
    told = [line.split() for line in ledger.read_text().splitlines() if line.startswith(f"step {record.id} ")]
    deeds = [Deed(what, place, int(run)) for _, _, place, run, _ in told for what in ("begin", "end")]
    (kept,), lines = store.operations([record.id]), store.attempts(record.id)
    yield from wrongs(Walked(record, kept, lines, (), deeds, {"first", "spread"}))
    doomed, globals = json.loads(record.args)["doomed"], json.loads(kept.globals)
    trail = ["main/first/1", "main/spread/2/compose"]
    trail += ["undo/main/spread/2", "undo/main/first/1"] if doomed else ["main/last/3"]
    if (record.state, globals.get("trail")) != ("failed" if doomed else "completed", trail):
        yield f"it is {record.state}, and its steps laid the trail {globals.get('trail')}"


def _of_notes(path: str, records: dict[str, object]) -> list[str]:
    """What the caller wrote in his own transaction, and the job in it, are both there or both not."""
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA wal_autocheckpoint = 0")
        con.execute(swept.NOTES)
        noted = {id for (id,) in con.execute("SELECT job FROM note")}
    within = {id for id, record in records.items() if getattr(record, "args", "") == '{"n":7}'}
    return [] if noted == within else [f"the caller's transaction noted {noted}, and stored {within}"]


EVERYTHING = [
    *(
        Sweep(program, call)
        for program in ("migrate", "enqueue", "last", "work", "walks", "threads")
        for call in ("pwrite64", "fdatasync")
    ),
    *(
        Sweep(program, call, options=("--checkpoints",))
        for program in ("enqueue", "work")
        for call in ("pwrite64", "fdatasync")
    ),
    *(Sweep(program, call) for program in ("enqueue", "work") for call in ("ftruncate", "unlink")),
    *(
        Sweep(program, call, f"error={error}", options)
        for program in ("migrate", "enqueue", "work")
        for call, error in (("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO"))
        for options in ((), ("--checkpoints",))
    ),
]


def main(wanted: list[str]) -> int:
    broken = points = 0
    for sweep in EVERYTHING:
        if wanted and sweep.program not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            sweep.run(Path(folder))
        points += sweep.points
        broken += len(sweep.violations)
        print(f"{sweep}: {sweep.points} points, {len(sweep.violations)} violations", flush=True)
        for violation in sweep.violations:
            print(f"  {violation}", flush=True)
    print(f"{points} points, {broken} violations")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
