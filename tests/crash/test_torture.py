"""The torture as a user runs it: real workers, killed and frozen, on a store of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crashkit import SOURCE, alive
from processes import state_of
from support import books, until

from piecework import Piecework
from piecework.job import Filter, SessionRecord
from piecework.store import Store, open_store
from piecework.torture.ledger import Kind, read
from piecework.torture.report import BROKEN, UNTESTED
from piecework.torture.run import Options, Torture
from piecework.torture.verdict import Word

HERE = Path(__file__).parent
SPEED = Word.SLOW.value  # a busy machine may be slow; how the limits are judged is tested on records written by hand


class Ran(NamedTuple):
    code: int
    said: Any
    error: str


@pytest.fixture
def torture(tmp_path: Path) -> Callable[..., Ran]:
    """Calls the command with `--json`."""

    def call(*args: str) -> Ran:
        env = {k: v for k, v in os.environ.items() if not k.startswith("PIECEWORK_")} | {"PYTHONPATH": str(SOURCE)}
        command = [sys.executable, "-m", "piecework", "torture", "--json", *args]
        ran = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=110)
        return Ran(ran.returncode, json.loads(ran.stdout) if ran.stdout else None, ran.stderr)

    return call


@pytest.fixture
def users_store(tmp_path: Path) -> Store:
    store = open_store(f"sqlite:///{tmp_path}/own.db")
    store.migrate()
    return store


def test_a_short_torture_meets_every_fault_and_finds_nothing_broken(
    torture: Callable[..., Ran], tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    ran = torture("--minutes", "0.2", "--kill-every", "0.5", "--lose", "0.02", "--seed", "7", "--keep", str(keep))
    report = ran.said["report"]
    assert {word: n for word, n in report["found"].items() if n and word != SPEED} == {}, report["told"]
    assert {name for name, n in report["tested"].items() if not n} == set()
    assert ran.code == ran.said["code"] == bool(report["found"][SPEED])
    assert report["jobs"]["completed"] > 100
    assert report["seen"]["splits composed"] > 0
    assert {path.name for path in keep.iterdir()} >= {"ledger", "jobs.db", "tree-1.log", "calm.log"}


@pytest.mark.parametrize("shelf", ["postgres"])
def test_a_shorter_one_on_a_server_finds_nothing_broken_either(torture: Callable[..., Ran], store_url: str) -> None:
    ran = torture(store_url, "--minutes", "0.05", "--kill-every", "0.4", "--lose", "0.02", "--seed", "3")
    report = ran.said["report"]
    assert {word: n for word, n in report["found"].items() if n and word != SPEED} == {}, report["told"]
    assert report["tested"]["worker processes killed"] > 0
    assert report["tested"]["whole trees killed"] > 0
    assert books(store_url) == []


def test_a_torture_without_faults_has_tested_nothing(torture: Callable[..., Ran]) -> None:
    ran = torture("--jobs", "60", "--kill-every", "1000", "--lose", "0")
    assert ran.code == UNTESTED
    assert set(ran.said["report"]["found"].values()) == {0}, ran.said["report"]["told"]
    assert ran.said["report"]["tested"]["worker processes killed"] == 0
    assert ran.said["sentence"].startswith("It tested nothing: worker processes killed, whole trees killed")


@pytest.mark.elsewhere(shelf=())
def test_a_store_without_a_fence_is_found_out_by_real_workers(store_url: str, tmp_path: Path) -> None:
    options = Options(store_url, seconds=3.0, kill_every=0.7, patience=3.0, app="tortured:app", app_dir=str(HERE))
    report = Torture(options, tmp_path).run()
    assert report.code == BROKEN
    assert report.found[Word.ACCEPTED] > 0
    assert "stale write accepted" in report.sentence


def test_a_store_that_holds_jobs_is_left_alone_unless_told(
    torture: Callable[..., Ran], users_store: Store, tmp_path: Path
) -> None:
    app = Piecework(users_store.url)

    @app.task(name="own.task")
    def own(n: int) -> None: ...

    jobs = own.later_many([(n,) for n in range(3)])
    refused = torture(users_store.url, "--jobs", "20")
    assert (refused.code, refused.said) == (1, None)
    assert "holds jobs" in refused.error
    assert users_store.counts() == {("default", "available"): 3}
    ran = torture(users_store.url, "--jobs", "20", "--kill-every", "1000", "--yes-use-this-store")
    assert ran.code == UNTESTED, ran.said["report"]["told"]
    assert [job.record().run for job in jobs] == [0, 0, 0]
    assert users_store.count(Filter(queue="default", state=None)) == 3
    app.close()


def test_a_store_with_workers_is_refused_whatever_is_said(torture: Callable[..., Ran], users_store: Store) -> None:
    """The torture's short lease would declare them dead."""
    users_store.enlist(SessionRecord(id="s", beat=0, started_at=0, seen_at=0, name="web-1", host="h", pid=1))
    ran = torture(users_store.url, "--yes-use-this-store")
    assert ran.code == 1
    assert "workers are enlisted" in ran.error
    assert "web-1" in ran.error
    assert users_store.counts() == {}


def test_no_process_is_left(torture: Callable[..., Ran], tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    torture("--jobs", "200", "--kill-every", "0.4", "--keep", str(keep))
    pids = {entry.pid for entry in read(keep / "ledger") if entry.kind in (Kind.START, Kind.COMPOSE_START)}
    assert pids
    assert [pid for pid in pids if alive(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_torture_that_is_ended_takes_its_workers_along(tmp_path: Path, number: int) -> None:
    keep = tmp_path / "kept"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIECEWORK_")} | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "piecework", "torture", "--json", "--keep", str(keep)]
    process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers() -> set[int]:
        if not (keep / "ledger").exists():
            return set()
        return {entry.pid for entry in read(keep / "ledger") if entry.kind in (Kind.START, Kind.COMPOSE_START)}

    until(lambda: len(workers()) > 2, "the workers are at work", within=30)
    process.send_signal(number)
    assert process.wait(timeout=30) == {signal.SIGKILL: -signal.SIGKILL}.get(number, 130)
    until(lambda: not any(alive(pid) for pid in workers()), "no worker is left", within=10)


def test_a_torture_that_is_killed_takes_a_tree_along_that_stands_still(tmp_path: Path) -> None:
    """Nothing inside that tree can notice the end of the torture."""
    keep = tmp_path / "kept"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIECEWORK_")} | {"PYTHONPATH": str(SOURCE)}
    # The lease is long, and so is the time for which a tree stands still.
    command = [sys.executable, "-m", "piecework", "torture", "--kill-every", "0.3", "--lease", "100"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([*command, "--keep", str(keep)], env=env, cwd=tmp_path, stdout=said, stderr=said)

    def noted(*kinds: Kind) -> set[int]:
        return {e.pid for e in read(keep / "ledger") if e.kind in kinds} if (keep / "ledger").exists() else set()

    def tree_that_stands() -> set[int]:
        return {pid for pid in noted(Kind.STOPPED) if state_of(pid) == "T"}

    standing: set[int] = set()
    try:
        until(tree_that_stands, lambda: (tmp_path / "said").read_text(), within=60)
        standing = tree_that_stands()
        assert len(standing) > 1, "a supervisor, and a worker process"
        process.kill()
        process.wait(timeout=30)
        until(lambda: not any(alive(pid) for pid in standing), "nobody stands there still", within=10)
        until(lambda: not any(alive(pid) for pid in noted(Kind.START, Kind.COMPOSE_START)), "no worker is left")
    finally:
        process.kill()
        for pid in standing:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_folder_that_holds_something_is_not_written_into(torture: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.txt").touch()
    ran = torture("--keep", str(tmp_path / "kept"))
    assert ran.code == 2
    assert "not empty" in ran.error
