"""The truth after a crash: who asks by an identity is never told that a dead worker's job still runs, or that it is lost."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import Tree
from tests.support import until

import piecework
from piecework import State

HERE = Path(__file__).parent


@pytest.fixture
def jobs(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app's module, in this process."""
    monkeypatch.setenv("FRAMEWORK_URL", store_url)
    monkeypatch.setenv("FRAMEWORK_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "framework_app", raising=False)
    module = importlib.import_module("framework_app")
    module.app.store.migrate()
    yield module
    module.app.close()
    sys.modules.pop("framework_app", None)


@pytest.fixture
def worker(jobs: Any, tmp_path: Path) -> Iterator[Tree]:
    path = os.pathsep.join([str(HERE), str(Path(piecework.__file__).parent.parent)])
    command = [sys.executable, "-m", "piecework", "work", "framework_app:app", "-c", "4", "--pool-size", "2"]
    tree = Tree(command, {**os.environ, "PYTHONPATH": path}, tmp_path / "worker.log")
    try:
        yield tree.ready()
        assert tree.stop() == 0
    finally:
        tree.destroy()


def test_s3_8_killed_in_the_middle_it_is_in_progress_for_a_new_attempt(jobs: Any, worker: Tree) -> None:
    validate_card = jobs.validate_card
    job = validate_card.later(1, "4123")
    (pid,) = until(lambda: jobs.noted("validating"), worker.log)
    assert validate_card.status(1) == {"phase": "asking the bank", "run": 1}
    assert validate_card.later(1, "4123") == job
    os.kill(pid, signal.SIGKILL)
    until(lambda: job.state.finished, worker.log)
    assert (job.state, job.record().run) == (State.COMPLETED, 2)
    assert validate_card.status(1) == {"success": True, "run": 2}
    assert not validate_card.in_progress(1)
    assert len(jobs.noted("validating")) == 2
    assert [line.outcome for line in job.attempts()] == ["crashed"]
    (jobs.FOLDER / "go").touch()
    again = validate_card.later(1, "4123")
    assert again != job, "the identity is not blocked"
    until(lambda: again.state.finished, worker.log)


def test_s3_9_and_2_limits_of_time_and_of_what_is_tried_again(jobs: Any, worker: Tree) -> None:
    """A job past its limit is dead before its next attempt, which counts, begins; that a process died can be listed."""
    hangs, listed, unlisted = jobs.hangs.later(1), jobs.listed.later(), jobs.unlisted.later()
    until(lambda: all(job.state.finished for job in (hangs, listed, unlisted)), worker.log, within=30)
    assert (hangs.state, hangs.record().attempt) == (State.FAILED, 2)
    assert hangs.error.type.endswith("JobTimeout")
    assert len(set(jobs.noted("hanging"))) == 2
    assert not any(jobs.lives(pid) for pid in jobs.noted("hanging"))
    assert jobs.hangs.status(1) == {"attempt": 2, "others": []}
    assert jobs.hangs.status(1).state is State.FAILED
    assert (listed.state, listed.result(timeout=5)) == (State.COMPLETED, 2)
    assert (unlisted.state, unlisted.record().attempt) == (State.FAILED, 1)
    assert unlisted.error.type.endswith("ProcessDied")
