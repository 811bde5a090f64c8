"""Stop and cancel: durable, from any process, for one job, a filter or a whole tree; and to go on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from house import House, a_house
from support import books, until

from piecework import Piecework
from piecework.errors import BadArguments, UsageError
from piecework.testing.drain import drain

MANY = 2_500  # jobs: more than two bites of those that are stopped by a filter


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house("workapp", tmp_path) as house:
        yield house


def starts(house: House) -> Counter[str]:
    """The ledger: how often the body of each leaf was entered."""
    return Counter(path.name.split()[1] for path in house.folder.glob("leaf *"))


def tree_of(house: House, root: Any) -> dict[str, Any]:
    return {job.id: job.record() for job in house.app.jobs.where(root=root.id)}


# ── a whole tree ─────────────────────────────────────────────────────────────────────────────────


def test_a_tree_of_three_levels_is_stopped_in_the_middle_and_resumed(house: House) -> None:
    """Two worker processes; pending pieces never start, running ones learn it, resume restarts only what was open."""
    house.work("-c", "3", "--processes", "2")
    root = house.jobs.tree.later(4, 6, "go")
    until(lambda: len(starts(house)) >= 6, house.logs)
    before = datetime.now(UTC)
    assert root.cancel("the customer left", by="ada@desk")
    until(lambda: not [r for r in tree_of(house, root).values() if not r.state.finished], house.logs, within=5)
    assert root.state == "cancelled"
    begun = starts(house)
    ended = tree_of(house, root)
    # Who, when and why, readable from the record.
    record = root.record()
    assert (record.stopped_by, record.reason) == ("ada@desk", "the customer left")
    assert record.stopped_at is not None
    assert abs(record.stopped_at - before.timestamp()) < 5
    assert {r.reason for r in ended.values() if r.state == "cancelled"} == {"the customer left"}
    # Pending pieces never start: no run was fetched of what had not begun.
    leaves = {id: r for id, r in ended.items() if r.task in ("leaf", "aleaf")}
    assert {id for id, r in leaves.items() if r.run} == set(begun)
    assert {r.state for r in leaves.values()} == {"cancelled"}
    assert len(begun) < 24
    by_itself = {id for id, r in ended.items() if r.state == "failed"}
    completed = {id: r.run for id, r in ended.items() if r.state == "completed"}
    assert {ended[id].task for id in by_itself} <= {"bad"}
    # Resume restarts only what was open.
    (house.folder / "go").touch()
    assert root.resume()
    assert not root.resume()
    house.wait(root, within=30)
    after = tree_of(house, root)
    assert root.result(timeout=0) == 4 * 7
    assert {id for id, r in after.items() if r.state == "failed"} >= by_itself
    assert {id: after[id].run for id in by_itself} == {id: ended[id].run for id in by_itself}
    assert {id: after[id].run for id in completed} == completed
    assert {r.state for id, r in after.items() if r.task != "bad"} == {"completed"}
    record = root.record()
    assert (record.stopped_by, record.stopped_at) == (None, None)
    assert books(house.path) == []


def test_a_stop_from_another_process_reaches_running_jobs_within_a_second_or_so(house: House) -> None:
    house.work("-c", "4")
    jobs = [house.jobs.leaf.later(1, "never"), house.jobs.aleaf.later(1, "never")]
    until(lambda: len(starts(house)) == 2, house.logs)
    code = f"""
from piecework import Piecework
app = Piecework({house.app.settings.url!r})
for id in {[job.id for job in jobs]!r}:
    assert app.jobs.get(id).cancel("from elsewhere", by="somebody")
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=house.trees[0].env, timeout=30)
    for job in jobs:
        house.wait(job, "cancelled", within=3)
        assert (job.record().reason, job.record().stopped_by) == ("from elsewhere", "somebody")


def test_a_stop_is_durable_while_the_worker_stands_still(house: House) -> None:
    tree = house.work("-c", "2")
    job = house.jobs.leaf.later(1, "never")
    until(lambda: starts(house), house.logs)
    (worker,) = tree.children()
    os.kill(worker, signal.SIGSTOP)
    waiting = house.jobs.leaf.later(2, "never")
    assert job.cancel("stopped meanwhile", by="me")
    assert waiting.cancel("stopped meanwhile", by="me")
    assert (job.state, waiting.state) == ("running", "cancelled")
    assert (job.record().stopping, job.record().stopped_by) == (True, "me")
    os.kill(worker, signal.SIGCONT)
    house.wait(job, "cancelled", within=5)
    assert set(starts(house)) == {job.id}


def test_a_stop_is_durable_when_the_worker_dies_before_it_hears_of_it(house: House) -> None:
    tree = house.work("-c", "2")
    job = house.jobs.leaf.later(1, "never")
    until(lambda: starts(house), house.logs)
    (worker,) = tree.children()
    os.kill(worker, signal.SIGSTOP)
    assert job.cancel("stopped meanwhile", by="me")
    os.kill(worker, signal.SIGKILL)
    house.wait(job, "cancelled", within=10)
    record = job.record()
    assert (record.run, record.attempt, record.reason, record.stopped_by) == (1, 0, "stopped meanwhile", "me")
    assert record.stopped_at is not None


# ── one job, and a filter ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plain(app: Piecework) -> Any:
    @app.task(name="t", attempts=1)
    def work(n: int) -> int:
        return n

    return work


def test_very_many_are_stopped_by_a_filter_and_resumed(app: Piecework, plain: Any, path: Path) -> None:
    plain.using(queue="mail").later_many([(n,) for n in range(MANY)])
    other = plain.later(1)
    assert app.jobs.where(queue="mail").cancel("wrong address", by="ops") == MANY
    assert app.jobs.where(queue="mail").cancel("again") == 0
    assert app.jobs.counts() == {("mail", "cancelled"): MANY, ("default", "available"): 1}
    sample = app.jobs.where(queue="mail").first()
    assert sample is not None
    assert (sample.record().reason, sample.record().stopped_by) == ("wrong address", "ops")
    assert drain(app) == 1
    assert other.state == "completed"
    assert app.jobs.where(queue="mail").resume() == MANY
    assert drain(app) == MANY
    assert books(path) == []


def test_resume_leaves_alone_what_failed_by_itself_and_what_never_was_stopped(app: Piecework, path: Path) -> None:
    @app.task(name="bad", attempts=1)
    def bad() -> None:
        raise ValueError

    failed = bad.later()
    drain(app)
    assert not failed.resume()
    waiting = bad.using(delay=60).later()
    assert not waiting.resume()
    assert waiting.cancel()
    assert waiting.resume()
    assert app.jobs.where(task="bad").resume() == 0
    assert (failed.state, waiting.state) == ("failed", "available")
    assert books(path) == []


def test_who_stopped_it_is_the_user_and_host_unless_somebody_is_named(app: Piecework, plain: Any) -> None:
    job = plain.later(1)
    job.cancel()
    assert "@" in str(job.record().stopped_by)


@pytest.mark.parametrize("name", ["reason", "by"])
def test_a_reason_or_a_name_that_is_no_text_is_refused_and_nothing_stopped(
    app: Piecework, plain: Any, name: str
) -> None:
    job = plain.later(1)
    for stop in (job.cancel, app.jobs.where(task="t").cancel):
        with pytest.raises(UsageError, match=f"cancel: {name} must be text"):
            stop(**{name: 7})
    assert job.state == "available"


def test_a_reason_and_a_name_are_made_fit_to_be_kept(app: Piecework, plain: Any) -> None:
    job = plain.later(1)
    assert job.cancel("a\x00\ud800" + "x" * 10_000, by="me\x00")
    record = job.record()
    assert str(record.reason).startswith("a\\x00\\ud800")
    assert len(str(record.reason)) < 2_100
    assert record.stopped_by == "me\\x00"


# ── expires ──────────────────────────────────────────────────────────────────────────────────────

EXPIRED = "it had not been begun by the time that it was given (expires)"


def test_a_job_that_has_not_started_by_its_deadline_is_dropped_with_the_reason_kept(app: Piecework, plain: Any) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    late = plain.using(expires=past).later(1)
    good = plain.using(expires=datetime.now(UTC) + timedelta(hours=1)).later(2)
    assert drain(app) == 1
    assert (late.state, late.record().reason, late.record().run, late.record().stopped_by) == ("cancelled", EXPIRED, 0, None)  # fmt: skip
    assert good.result(timeout=0) == 2


def test_expires_counts_from_when_the_job_is_due(app: Piecework, plain: Any) -> None:
    soon = plain.using(expires=60).later(1)
    at = datetime.now(UTC) + timedelta(hours=1)
    delayed, moment = plain.using(delay=3600, expires=60).later(1), plain.using(at=at, expires=60).later(1)
    for job in (soon, delayed, moment):
        record = job.record()
        assert record.expires_at is not None
        assert record.expires_at - record.run_at == pytest.approx(60, abs=0.01)


def test_an_expired_job_lets_its_unique_key_go(app: Piecework, plain: Any) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    first = plain.using(key="k", expires=past).later(1)
    drain(app)
    second = plain.using(key="k").later(2)
    assert second.id != first.id
    assert drain(app) == 1


def test_an_expired_piece_counts_as_cancelled_in_its_batch(app: Piecework, plain: Any, path: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with app.batch(then=plain.piece(9)) as batch:
        batch.add(plain.piece(1))
        batch.add(plain.using(expires=past).piece(2))
    drain(app)
    assert batch.then is not None
    counters = batch.then.batch
    assert counters is not None
    assert (counters.completed, counters.cancelled, counters.open) == (1, 1, 0)
    assert batch.then.error is not None
    assert EXPIRED in batch.then.error.message
    assert books(path) == []


@pytest.mark.elsewhere(shelf=())
def test_a_hundred_thousand_expire_at_once_and_the_job_behind_them_runs(app: Piecework, plain: Any, path: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    calls = [(n,) for n in range(10_000)]
    for _ in range(10):
        plain.using(expires=past).later_many(calls)
    behind = plain.using(priority=9).later(7)
    with app.worker():
        assert behind.result(timeout=60) == 7
    assert app.jobs.counts() == {("default", "cancelled"): 100_000, ("default", "completed"): 1}
    assert books(path) == []


def test_a_job_that_was_begun_does_not_expire_when_it_is_tried_again(app: Piecework) -> None:
    runs: list[int] = []

    @app.task(name="twice", attempts=2, retry=0.3, expires=0.25)
    def twice() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError
        return 2

    job = twice.later()
    with app.worker():
        assert job.result(timeout=15) == 2


def test_progress_that_cannot_be_is_refused_inside_the_job(app: Piecework) -> None:
    from piecework import current

    @app.task(name="p", attempts=1, give_up_on=BadArguments)
    def work() -> None:
        current.progress(-1)

    job = work.later()
    drain(app)
    assert job.error is not None
    assert "progress: done must be a number" in job.error.message
