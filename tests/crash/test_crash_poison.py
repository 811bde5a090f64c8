"""Jobs that take their process along, apps that cannot be imported, splitters that die half way, a store that is away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from crashkit import Yard
from support import locked_file, make_newer, until


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


# ── poison ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(how={"kill"})
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kill", "killed by SIGKILL"),
        ("exit 7", "exit code 7"),
        ("exit 0", "exit code 0"),  # what a worker process that was told to stop ends with, too
        ("exit 3", "exit code 3"),  # … one whose app is broken
        ("exit 4", "exit code 4"),  # … one whose session was declared dead
    ],
)
def test_a_job_that_ends_its_worker_three_times_is_parked_with_the_reason(yard: Yard, how: str, said: str) -> None:
    app = yard.app_module
    poison = app.murder.later(how)
    neighbours = app.square.later_many([(n,) for n in range(40)]) + [app.flaky.later(n, 2) for n in range(3)]
    tree = yard.work("-c", "1")
    until(lambda: poison.state == "parked" and yard.unfinished() == 0, lambda: f"parked: {tree.log()}", within=18)
    assert tree.stop() == 0
    record = poison.record()
    assert (record.crashes, record.run, record.attempt) == (3, 3, 0)
    assert record.reason == f"its worker died 3 times while running it (its worker process died: {said})"
    assert [(line.outcome, line.attempt) for line in poison.attempts()] == [("crashed", 0)] * 3
    # Its neighbours are done, and none of them was charged with an attempt or a crash.
    assert {(job.state, job.record().crashes) for job in neighbours} == {("completed", 0)}
    assert {job.record().attempt for job in neighbours[:40]} == {1}
    assert {job.record().attempt for job in neighbours[40:]} == {3}
    assert yard.wrong() == [f"murder {poison.id} is lost: it is parked"]


@pytest.mark.elsewhere(shelf=())
def test_a_long_job_that_runs_beside_a_poisonous_one_is_not_taken_for_poison(yard: Yard, gate: Path) -> None:
    """It is inside its body each of the three times that its neighbour kills their process."""
    app = yard.app_module
    innocent = app.hold.later(str(gate))
    poison = app.murder_beside.later(innocent.id)
    tree = yard.work("-c", "2")
    until(lambda: poison.state == "parked", lambda: f"the poisonous one is parked: {poison.record()}")
    gate.touch()
    until(lambda: innocent.state in ("completed", "parked"), "the innocent one came to an end")
    assert (innocent.state, innocent.record().reason) == ("completed", None)
    assert innocent.record().attempt == 1
    assert tree.stop() == 0


@pytest.mark.elsewhere(shelf=())
def test_a_poisonous_piece_fails_its_split_and_names_itself(yard: Yard) -> None:
    with yard.app.batch(then=yard.app_module.square.piece(1)) as batch:
        batch.add(yard.app_module.square.piece(3))
        batch.add(yard.app_module.murder.using(key="the bad one").piece("kill"))
    tree = yard.work("-c", "1")
    assert batch.then is not None
    until(lambda: batch.then.state == "failed", lambda: f"the split failed: {tree.log()}")
    assert tree.stop() == 0, tree.log()
    error = batch.then.error
    assert error is not None
    assert "the bad one" in error.message
    assert "its worker died 3 times" in error.message


# ── broken apps ──────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "a module that is not there": ("nowhere:app", "", "no module 'nowhere'"),
    "a syntax error": ("broken:app", "def f(:\n", "SyntaxError"),
    "an import that fails": ("broken:app", "import not_to_be_found_anywhere\n", "not_to_be_found_anywhere"),
    "an error at import": ("broken:app", "raise RuntimeError('no configuration')\n", "no configuration"),
    "a module that exits": ("broken:app", "import sys; sys.exit(0)\n", "could not be imported"),
    "no such attribute": ("broken:application", "app = 1\n", "not a Piecework app"),
    "something that is not an app": ("broken:app", "app = 1\n", "int, not a Piecework app"),
}


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_app_ends_the_command_with_a_message_and_claims_nothing(yard: Yard, case: str) -> None:
    reference, source, said = BROKEN[case]
    (yard.folder / "broken.py").write_text(source)
    job = yard.app_module.square.later(2)
    tree = yard.work("--processes", "2", app=reference)
    assert tree.ended() not in (0, -signal.SIGKILL)
    assert said in tree.log()
    assert (job.state, job.record().run) == ("available", 0)
    assert yard.app.store.sessions() == []


@pytest.mark.elsewhere(shelf=())
def test_a_failpoint_that_does_not_exist_is_refused_at_the_start(yard: Yard) -> None:
    job = yard.app_module.square.later(2)
    tree = yard.work(failpoints="no.such.point=kill:1")
    assert tree.ended() not in (0, -signal.SIGKILL)
    assert "no.such.point" in tree.log()
    assert job.record().run == 0


def test_a_store_of_a_newer_version_ends_the_command_with_a_message(yard: Yard) -> None:
    job = yard.app_module.square.later(2)
    make_newer(yard.place)
    tree = yard.work()
    assert tree.ended(within=8) not in (0, -signal.SIGKILL)
    assert "newer than this version" in tree.log()
    make_newer(yard.place, by=-9999)
    assert job.record().run == 0


# ── splits ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(pieces={120})
@pytest.mark.parametrize("pieces", [5, 120])
def test_a_splitter_killed_half_way_and_run_again_makes_no_piece_twice(yard: Yard, gate: Path, pieces: int) -> None:
    split = yard.app_module.slow_wide.later(pieces, str(gate))
    tree = yard.work("-c", "2")
    until(lambda: yard.started(split, 1), "the splitter runs")
    if pieces > 50:  # the first bite is stored, and run, while the splitter still runs
        until(lambda: yard.count(batch=split.id, state="completed") >= 50, "the first bite has run")
        assert split.batch.sealed is False
    (child,) = tree.children()
    os.kill(child, signal.SIGKILL)
    until(lambda: yard.started(split, 2), "the splitter runs again")
    gate.touch()
    assert split.result(timeout=20) == sum(n * n for n in range(pieces))
    assert tree.stop() == 0
    assert yard.wrong() == []
    assert yard.count(batch=split.id) == split.batch.total == pieces
    ran = [e.job for e in yard.ledger() if e.kind == "task" and e.what == "end"]
    assert len(ran) == len(set(ran)) == pieces


# ── the store is away ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shelf", ["sqlite"])  # which has one lock for all
def test_a_store_locked_for_longer_than_the_busy_timeout_is_waited_for_and_told_once(
    quick_yard: Yard, gate: Path
) -> None:
    """The lease is short, so the supervisor's beat finds the store locked as well as the worker's settlement."""
    yard = quick_yard
    job = yard.app_module.hold.later(str(gate))
    tree = yard.work("-c", "2").ready()
    until(lambda: yard.started(job), "the job runs")
    away = "the store is not available, trying again until it is"
    with locked_file(Path(yard.place)):
        gate.touch()
        until(lambda: tree.log().count(away) == 2, lambda: f"both loops noticed: {tree.log()}", within=30.0)
    until(lambda: job.state == "completed", lambda: f"settled: {tree.log()}", within=25.0)
    until(lambda: tree.log().count("the store is available again after") == 2, lambda: f"told: {tree.log()}")
    assert tree.log().count(away) == 2
    assert "starting another" not in tree.log()
    more = yard.app_module.square.later(7)
    assert more.result(timeout=10) == 49
    assert tree.stop() == 0
    assert yard.wrong() == []
    assert job.record().run == 1


def taken_away(file: Path) -> None:
    """What has that name now cannot be opened as a file."""
    file.unlink(missing_ok=True)
    file.mkdir()


@pytest.mark.parametrize("shelf", ["sqlite"])  # whose file is taken away
def test_a_tree_that_starts_while_the_store_is_away_waits_for_it(yard: Yard) -> None:
    path = Path(yard.place)
    taken_away(path)
    tree = yard.work("-c", "2")
    until(lambda: "the store is not available" in tree.log(), lambda: f"it noticed: {tree.log()}")
    path.rmdir()
    assert yard.app_module.square.later(7).result(timeout=15) == 49
    assert tree.log().count("the store is not available") == tree.log().count("the store is available again") == 1
    assert tree.stop() == 0
    assert yard.wrong() == []


@pytest.mark.parametrize("shelf", ["sqlite"])  # whose file is taken away
def test_a_tree_that_waits_for_the_store_at_its_start_can_be_stopped(yard: Yard) -> None:
    taken_away(Path(yard.place))
    tree = yard.work("-c", "2")
    until(lambda: "the store is not available" in tree.log(), lambda: f"it noticed: {tree.log()}")
    tree.signal(signal.SIGTERM)
    assert tree.ended(within=10) != -signal.SIGKILL
