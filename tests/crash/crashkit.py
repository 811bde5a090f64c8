"""Starts real workers, ends them hard, and judges what is left: the ledger of the bodies joined with the store."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from crashwalks import wrong_walk
from processes import Tree, alive, state_of
from support import books, is_redis, opened, until

import piecework
from piecework import Piecework
from piecework.job import Filter

__all__ = ["Entry", "Tree", "Yard", "alive"]

HERE = Path(__file__).parent
SOURCE = Path(piecework.__file__).parent.parent


LOOK = 0.03  # seconds between two looks at a whole store, beside workers that need the processors


class Entry(NamedTuple):
    """One record of the ledger."""

    what: str  # start, end
    kind: str  # task, split, compose; of a step of an operation its place
    job: str
    run: int
    pid: int
    at: float


class Yard:
    """One test's store, ledger, and workers; `place` is where a test itself looks into the store, its file or its URL."""

    def __init__(self, folder: Path, url: str, place: Path | str, monkeypatch: Any, lease: float = 20.0) -> None:
        self.folder = folder
        self.url, self.place = url, place
        self.ledger_path = folder / "ledger"
        self.lives = folder / "lives"
        self.lives.mkdir()
        self.lease = lease
        self._trees: list[Tree] = []
        self._monkeypatch = monkeypatch
        self.app_module: Any = self._load()
        self.app: Piecework = self.app_module.app

    def _load(self) -> Any:
        """The workers' app, loaded into this process for this test alone."""
        with self._monkeypatch.context() as patch:
            for name, value in self._names().items():
                patch.setenv(name, value)
            patch.delenv("CRASHAPP_LIVES")
            spec = importlib.util.spec_from_file_location("crashapp", HERE / "crashapp.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module

    def _names(self) -> dict[str, str]:
        return {
            "CRASHAPP_URL": self.url,
            "CRASHAPP_LEDGER": str(self.ledger_path),
            "CRASHAPP_LEASE": str(self.lease),
            "CRASHAPP_LIVES": str(self.lives),
        }

    # ── workers ──────────────────────────────────────────────────────────────────────────────────

    def short_lives(self, *armed: str) -> None:
        """The next worker processes live short: each arms one of these texts when it imports the app."""
        for n, text in enumerate(armed):
            (self.lives / f"{n}.life").write_text(text)

    def work(self, *options: str, app: str = "crashapp:app", failpoints: str = "") -> Tree:
        """Starts `piecework work`; `failpoints` is what the environment variable arms, in every process."""
        path = os.pathsep.join([str(self.folder), str(HERE), str(SOURCE)])
        env = {**os.environ, **self._names(), "PYTHONPATH": path, "PIECEWORK_FAILPOINTS": failpoints}
        env.pop("PIECEWORK_URL", None)
        command = [sys.executable, "-m", "piecework", "work", app, *options]
        tree = Tree(command, env, self.folder / f"worker-{len(self._trees)}.log")
        self._trees.append(tree)
        return tree

    def send(self, verbs: dict[str, str], *points: str) -> dict[str, list[int]]:
        """Sends verbs, each about an operation, from a process of its own for each of these points; their exit codes."""
        path = os.pathsep.join([str(HERE), str(SOURCE)])
        env = {**os.environ, **self._names(), "PYTHONPATH": path, "PIECEWORK_FAILPOINTS": ""}
        env.pop("CRASHAPP_LIVES")
        command = [sys.executable, str(HERE / "crashverb.py"), json.dumps(verbs), *points]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        codes: dict[str, list[int]] = json.loads(done.stdout)
        assert {code for sent in codes.values() for code in sent} <= {0, -signal.SIGKILL}, done.stderr
        return codes

    def freeze(self, tree: Tree) -> None:
        """Stops a whole tree at a moment at which it holds no lock of the store, where everybody would wait for it."""

        def stopped() -> bool:
            tree.signal_all(signal.SIGSTOP)
            until(lambda: all(state_of(pid) == "T" for pid in (tree.pid, *tree.children())), "it stands still")
            if holds_a_lock(self.place):
                tree.signal_all(signal.SIGCONT)
                return False
            return True

        until(stopped, "stopped without the lock")

    def close(self) -> None:
        for tree in self._trees:
            tree.destroy()
        self.app.close()

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def count(self, **which: Any) -> int:
        return self.app.jobs.where(**which).count()

    def unfinished(self) -> int:
        # One look at all of them: between two looks a job may go back from one to another.
        counts = self.app.jobs.counts()
        return sum(n for (_, state), n in counts.items() if state in ("waiting", "available", "running"))

    def drained(self, *trees: Tree, within: float = 40.0) -> None:
        """Waits until no job is left to run."""
        until(
            lambda: self.unfinished() == 0,
            lambda: f"drained: {self.app.jobs.counts()}\n{self.logs()}",
            within=within,
            every=LOOK,
        )

    def logs(self) -> str:
        return "\n".join(tree.log() for tree in self._trees)

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────

    def ledger(self) -> list[Entry]:
        if not self.ledger_path.exists():
            return []
        data = self.ledger_path.read_bytes()
        size = self.app_module.RECORD
        assert len(data) % size == 0, "a record of the ledger is torn"
        found = []
        for start in range(0, len(data), size):
            what, kind, job, run, pid, at = data[start : start + size].decode().split()
            found.append(Entry(what, kind, job, int(run), int(pid), float(at)))
        return found

    def started(self, job: Any, run: int | None = None) -> bool:
        """Whether a body of this job was entered."""
        return any(e.what == "start" and e.job == job.id and run in (None, e.run) for e in self.ledger())

    # ── the oracle ───────────────────────────────────────────────────────────────────────────────

    def wrong(self) -> list[str]:
        """Everything that breaks a promise, one sentence each. To be asked when every worker has left."""
        found = books(self.place)
        found += [f"the sweeper found: {sentence}" for sentence in self.app.store.repair(limit=1000)]
        entries: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.ledger():
            entries[entry.job].append(entry)
        store = self.app.store
        found += [f"session {session.id} is left" for session in store.sessions()]
        jobs = store.find(Filter(), limit=100_000)
        operations = {operation.id for operation in store.operations([job.id for job in jobs])}
        for job in jobs:
            own = entries.pop(job.id, [])
            if job.id in operations:
                found += wrong_walk(store, job.id, own)
                continue
            if job.state != "completed" or job.finished_at is None:
                found.append(f"{job.task} {job.id} is lost: it is {job.state}")
                continue
            history = {line.run for line in store.attempts(job.id)}
            split = job.cursor is not None
            found += _one_job(f"{job.task} {job.id}", job.run, job.finished_at, history, own, split=split)
            batch = store.batch(job.id) if split else None
            if split and (batch is None or (batch.state, batch.sealed, batch.open) != ("done", True, 0)):
                found.append(f"{job.task} {job.id} completed, but its batch is {batch}")
        found += [f"the ledger has {id}, the store does not" for id in entries]
        return found


def holds_a_lock(place: Path | str) -> bool:
    """Whether somebody who stands still is in the middle of a transaction."""
    if is_redis(place):
        return False  # a script is not interrupted
    with opened(place) as con:
        if isinstance(place, str):
            until(lambda: not con.execute(f"{_IN_TRANSACTION} AND state = 'active'").fetchall(), "nobody works")
            return bool(con.execute(_IN_TRANSACTION).fetchall())
        con.execute("PRAGMA busy_timeout = 0")
        try:
            con.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        con.execute("ROLLBACK")
        return False


_IN_TRANSACTION = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()"


def _one_job(
    name: str, run: int, finished_at: float, history: set[int], entries: list[Entry], *, split: bool
) -> list[str]:
    """One completed job: every run is accounted for, and nothing was begun again after it had been recorded."""
    found = []
    starts = [e for e in entries if e.what == "start"]
    good = set(range(1, run + 1)) - history  # the runs that ended well
    sealed = min(good, default=0)
    if len(good) != (2 if split else 1) or run not in good:
        found.append(f"{name}: of {run} runs these ended well: {sorted(good)}; history has {sorted(history)}")
    for start in starts:
        if start.at > finished_at:
            found.append(f"{name}: run {start.run} was begun after the completion of run {run} had been recorded")
        if start.run > run:
            found.append(f"{name}: run {start.run} was begun, but the store knows {run} runs")
        if split and (start.kind == "compose") != (start.run > sealed):
            found.append(f"{name}: run {start.run} was a {start.kind}, and run {sealed} sealed")
    if len({start.run for start in starts}) != len(starts):
        found.append(f"{name}: one run was begun twice")
    last = "compose" if split else "task"
    for kind, at in [(last, run)] + ([("split", sealed)] if split else []):
        for what in ("start", "end"):
            times = sum(e.what == what and e.kind == kind and e.run == at for e in entries)
            if times != 1:
                found.append(f"{name}: run {at} was recorded, and its {kind} has {times} {what}s")
    return found
