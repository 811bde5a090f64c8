"""The process pool against real workers: other cores, kills, crashes that are one job's failure, replacement."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import SOURCE, House, a_house
from processes import Tree, alive
from support import books, until

from piecework.clock import SystemClock
from piecework.engine.context import Running
from piecework.engine.pool import Inbox
from piecework.engine.process import PoolSettings
from piecework.engine.processes import ProcessPool
from piecework.engine.runner import TOO_LATE
from piecework.errors import JobFailed, ResultTimeout
from piecework.job import Fetched
from piecework.options import TaskOptions
from piecework.outcome import Release


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One worker with two processes, for all tests that leave it as it was."""
    with a_house("workapp", tmp_path_factory.mktemp("processes")) as house:
        house.work("-c", "4", "--pool-size", "2")
        yield house


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[House]:
    """A house in which the test starts the workers."""
    with a_house("workapp", tmp_path) as house:
        yield house


def marks(house: House, name: str) -> list[int]:
    """The processes that left a mark."""
    return [int(path.name.rpartition(" ")[2]) for path in house.folder.glob(f"{name} *")]


def open_gate(house: House, gate: str) -> None:
    (house.folder / gate).touch()


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def worker_of(tree: Tree) -> int:
    (worker,) = tree.children()
    return worker


# ── where ────────────────────────────────────────────────────────────────────────────────────────


def test_jobs_of_the_pool_run_in_processes_of_their_own_and_at_the_same_time(house: House) -> None:
    jobs = [house.jobs.hold.later("together") for _ in range(2)]
    until(lambda: len(marks(house, "held-together")) == 2, house.logs)
    open_gate(house, "together")
    pids = {job.result(timeout=15) for job in jobs}
    assert len(pids) == 2
    assert house.jobs.worker_pid.later().result(timeout=15) not in pids


def test_a_process_runs_many_jobs_one_after_the_other(house: House) -> None:
    pids = [job.result(timeout=20) for job in house.jobs.pid.later_many([()] * 100)]
    assert len(set(pids)) <= 2


def test_jobs_of_the_pool_are_pieces_of_a_split(house: House) -> None:
    assert house.jobs.cores.later(20).result(timeout=20) == 20


def test_a_job_in_a_process_sends_jobs(house: House) -> None:
    inner = house.app.jobs.get(house.jobs.nest.later().result(timeout=15))
    assert isinstance(inner.result(timeout=15), int)


def test_a_job_in_a_process_may_run_a_worker_with_processes_of_its_own(house: House) -> None:
    assert house.jobs.nest_a_worker.later().result(timeout=30) > 0


def test_progress_is_seen_from_outside_while_the_job_runs(house: House) -> None:
    job = house.jobs.say.later("said")
    until(lambda: job.progress, house.logs)
    assert (job.progress.done, job.progress.total, job.progress.note) == (3, 9, "a third")
    open_gate(house, "said")
    job.result(timeout=15)


@pytest.mark.parametrize(
    ("what", "attempts", "runs", "result"), [("plain", 1, 1, 1), ("snooze", 1, 3, 1), ("retry", 2, 2, 2)]
)
def test_verdicts_cross_from_the_process(house: House, what: str, attempts: int, runs: int, result: int) -> None:
    job = house.jobs.verdict.later(what)
    assert job.result(timeout=15) == result
    assert (job.record().attempt, job.record().run) == (attempts, runs)


@pytest.mark.parametrize("size", [0, 1 << 16, (1 << 20) - 2])
def test_results_up_to_max_payload_cross_the_socket(house: House, size: int) -> None:
    assert len(house.jobs.echo.later(size).result(timeout=20)) == size


@pytest.mark.parametrize("size", [(1 << 20) - 1, 5 << 20])
def test_a_result_above_max_payload_fails_its_job(house: House, size: int) -> None:
    job = house.jobs.echo.later(size)
    house.wait(job)
    assert job.error is not None
    assert job.error.type.endswith("TooLarge")


def test_arguments_near_max_payload_cross_the_socket(house: House) -> None:
    size = (1 << 20) - 100
    assert house.jobs.take.later("x" * size).result(timeout=20) == size


# ── timeouts ─────────────────────────────────────────────────────────────────────────────────────


def test_a_timeout_really_kills_code_that_holds_the_interpreter_and_says_where_it_was(house: House) -> None:
    job = house.jobs.spin.later()
    house.wait(job, within=10)
    error = job.error
    assert error is not None
    assert error.type.endswith("JobTimeout")
    assert "ran longer than its timeout of 0.3 s" in error.message
    assert "in spin" in error.traceback
    assert "/piecework/" not in error.traceback
    assert house.jobs.pid.later().result(timeout=15)


def test_current_check_raises_at_the_timeout_inside_a_process(house: House) -> None:
    before = house.jobs.pid.later().result(timeout=15)
    job = house.jobs.polite.later()
    house.wait(job, within=10)
    assert job.error is not None
    assert job.error.type.endswith("JobTimeout")
    assert "current.check()" in job.error.traceback
    assert alive(before)


def test_a_process_that_reads_nothing_holds_up_no_other_and_its_next_job_goes_elsewhere(new_house: House) -> None:
    """What its last job left behind holds the interpreter; the next one's arguments are more than a socket takes."""
    new_house.work("-c", "4", "--pool-size", "1")
    hog = new_house.jobs.leave_a_hog.later().result(timeout=15)
    open_gate(new_house, "hog")
    until(lambda: marks(new_house, "hogs"), new_house.logs)
    late = new_house.jobs.take_late.later("x" * 1_000_000)
    assert late.result(timeout=20) == 1_000_000
    assert (late.record().attempt, [line.outcome for line in late.attempts()]) == (1, ["released"])
    assert new_house.jobs.pid.later().result(timeout=15) != hog


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("segfault", "killed by SIGSEGV"),
        ("null", "killed by SIGSEGV"),
        ("exit 0", "exit code 0"),
        ("exit 7", "exit code 7"),
        ("SIGKILL", "as the system does when memory runs out"),
        ("SIGHUP", "killed by SIGHUP"),
        ("SIGABRT", "killed by SIGABRT"),
    ],
)
def test_the_crash_of_a_process_is_recorded_as_that_jobs_failure_only(house: House, how: str, said: str) -> None:
    beside = house.jobs.hold.later(f"while {how}")
    until(lambda: marks(house, f"held-while {how}"), house.logs)
    worker = house.jobs.worker_pid.later().result(timeout=15)
    job = house.jobs.die.later(how)
    house.wait(job)
    error = job.error
    assert error is not None
    assert error.type.endswith("ProcessDied")
    assert said in error.message
    assert (job.state, job.record().crashes, job.record().attempt) == ("failed", 0, 1)
    open_gate(house, f"while {how}")
    assert beside.result(timeout=15) == marks(house, f"held-while {how}")[0]
    assert house.jobs.worker_pid.later().result(timeout=15) == worker
    assert house.jobs.pid.later().result(timeout=15)
    if how in ("segfault", "null", "SIGABRT"):
        assert "in die" in error.traceback


def test_a_crashed_job_is_tried_again_while_attempts_are_left(house: House) -> None:
    job = house.jobs.die_once.later()
    assert job.result(timeout=15) == 2
    (line,) = job.attempts()
    assert line.error is not None
    assert (line.outcome, line.error.type) == ("retry", "piecework.errors.ProcessDied")


def test_a_process_that_is_killed_while_idle_costs_nobody_anything(house: House) -> None:
    before = house.jobs.pid.later().result(timeout=15)
    os.kill(before, signal.SIGKILL)
    jobs = house.jobs.pid.later_many([()] * 4)
    assert before not in {job.result(timeout=15) for job in jobs}


def killed_one(pids: list[int]) -> bool:
    """Kills the first of these that is still there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            return True
        except ProcessLookupError:
            continue
    return False


def test_processes_that_are_killed_at_any_moment_cost_one_job_each_at_most(new_house: House) -> None:
    """The first while it starts; the others idle, at work, or while an outcome of nearly a megabyte is on its way."""
    tree = new_house.work("-c", "4", "--pool-size", "2")
    completed = new_house.app.jobs.where(state="completed").count
    jobs = []
    for _ in range(6):
        done = completed()
        jobs += new_house.jobs.echo.using(attempts=50, retry=0).later_many([(900_000,)] * 5)
        until(lambda: killed_one(children(worker_of(tree))), new_house.logs)
        until(lambda done=done: completed() > done, new_house.logs)
    for job in jobs:
        assert len(job.result(timeout=30)) == 900_000
    died = [line for job in jobs for line in job.attempts() if line.outcome == "retry"]
    assert len(died) <= 6
    assert {job.record().crashes for job in jobs} == {0}


# ── replaced ─────────────────────────────────────────────────────────────────────────────────────


def test_a_process_is_replaced_after_so_many_jobs(new_house: House) -> None:
    new_house.work("-c", "4", "--pool-size", "2", "--max-jobs", "3")
    pids = [job.result(timeout=60) for job in new_house.jobs.pid.later_many([()] * 30)]
    assert max(pids.count(pid) for pid in pids) <= 3
    assert len(set(pids)) >= 10
    assert {record.attempts() == [] for record in new_house.app.jobs.where(task="pid")} == {True}


def test_a_process_is_replaced_when_it_holds_too_much_memory_after_a_job(new_house: House) -> None:
    new_house.work("-c", "4", "--pool-size", "1", "--max-memory", "200")
    small = {new_house.jobs.eat.later(1).result(timeout=15) for _ in range(3)}
    assert len(small) == 1
    large = new_house.jobs.eat.later(300).result(timeout=15)
    assert large in small
    assert new_house.jobs.eat.later(1).result(timeout=15) != large


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────


def test_a_cancelled_job_of_a_process_is_told_and_ends_by_itself(house: House) -> None:
    job = house.jobs.heed.later("heeded")
    until(lambda: marks(house, "heeds-heeded"), house.logs)
    (pid,) = marks(house, "heeds-heeded")
    job.cancel("not wanted", by="me")
    house.wait(job, "cancelled", within=5)
    assert (job.record().reason, job.record().stopped_by) == ("not wanted", "me")
    assert alive(pid)


def test_a_cancelled_job_that_pays_no_heed_is_killed_after_its_grace(house: House) -> None:
    job = house.jobs.hold.later("never")
    until(lambda: marks(house, "held-never"), house.logs)
    (pid,) = marks(house, "held-never")
    job.cancel("not wanted")
    house.wait(job, "cancelled", within=10)
    assert not alive(pid)
    assert job.record().reason == "not wanted"


def test_a_job_that_waits_for_a_process_is_cancelled_before_it_starts(new_house: House) -> None:
    new_house.work("-c", "4", "--pool-size", "1")
    first = new_house.jobs.hold.later("first")
    until(lambda: marks(new_house, "held-first"), new_house.logs)
    second = new_house.jobs.hold.later("second")
    until(lambda: second.state == "running", new_house.logs)
    second.cancel("not wanted")
    new_house.wait(second, "cancelled", within=5)
    open_gate(new_house, "first")
    first.result(timeout=15)
    assert marks(new_house, "held-second") == []


def test_a_drain_finishes_what_is_in_a_process_and_hands_back_what_waits(new_house: House) -> None:
    tree = new_house.work("-c", "4", "--pool-size", "1")
    first = new_house.jobs.hold.later("first")
    until(lambda: marks(new_house, "held-first"), new_house.logs)
    second = new_house.jobs.hold.later("second")
    until(lambda: second.state == "running", new_house.logs)
    tree.signal(signal.SIGTERM)
    until(lambda: second.state == "available", new_house.logs)
    open_gate(new_house, "first")
    assert tree.ended() == 0
    assert first.state == "completed"
    assert (second.record().attempt, second.record().crashes) == (0, 0)


def test_a_timeout_comes_also_while_the_worker_is_being_stopped(new_house: House) -> None:
    tree = new_house.work("-c", "4", "--pool-size", "1")
    job = new_house.jobs.hold.using(timeout=1.5).later("never")
    until(lambda: marks(new_house, "held-never"), new_house.logs)
    tree.signal(signal.SIGTERM)
    assert tree.ended() == 0
    assert job.error is not None
    assert job.error.type.endswith("JobTimeout")


def test_a_second_sigterm_ends_processes_and_hands_their_jobs_back_unspent(new_house: House) -> None:
    tree = new_house.work("-c", "4", "--pool-size", "1")
    job = new_house.jobs.hold.later("never")
    until(lambda: marks(new_house, "held-never"), new_house.logs)
    (pid,) = marks(new_house, "held-never")
    tree.signal(signal.SIGTERM)
    until(lambda: "stopping: finishing" in tree.log(), tree.log)
    tree.signal(signal.SIGTERM)
    assert tree.ended() == 0
    until(lambda: not alive(pid), "no orphan goes on")
    assert (job.state, job.record().attempt, job.record().crashes) == ("available", 0, 0)


def test_when_the_worker_is_killed_no_process_goes_on_and_their_jobs_are_not_charged(new_house: House) -> None:
    tree = new_house.work("-c", "4", "--pool-size", "2")
    jobs = [new_house.jobs.hold.later("later") for _ in range(2)]
    until(lambda: len(marks(new_house, "held-later")) == 2, new_house.logs)
    pids = marks(new_house, "held-later")
    os.kill(worker_of(tree), signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), "no orphan goes on", within=5)
    until(lambda: len(marks(new_house, "held-later")) == 4, new_house.logs)
    open_gate(new_house, "later")
    for job in jobs:
        job.result(timeout=15)
        assert (job.record().run, job.record().attempt, job.record().crashes) == (2, 1, 0)


# ── what cannot be started, and what is too many ─────────────────────────────────────────────────


def test_an_app_that_cannot_be_imported_in_a_process_spends_no_attempt(new_house: House) -> None:
    tree = new_house.work("-c", "4", "--pool-size", "1", BROKEN_IN_POOL="1")
    job = new_house.jobs.pid.later()
    until(lambda: job.attempts(), tree.log)
    assert "no process for it could be started" in str(job.attempts()[0].reason)
    assert "not in a pool" in tree.log()
    assert new_house.jobs.worker_pid.later().result(timeout=15)
    assert (job.record().attempt, job.record().crashes) == (0, 0)
    assert tree.log().count("Traceback") <= 4  # tried again after longer and longer whiles
    assert tree.stop() == 0
    new_house.work("-c", "4", "--pool-size", "1")
    assert job.result(timeout=15)


def test_jobs_that_find_no_free_process_go_to_other_workers_and_leave_no_line(new_house: House) -> None:
    """The first worker has four jobs in hand, two at work and two in line; it takes no more, and makes few trips."""
    first = new_house.work("-c", "6", "--pool-size", "2")
    jobs = [new_house.jobs.hold.later("crowd") for _ in range(8)]
    until(lambda: len(marks(new_house, "held-crowd")) == 2, new_house.logs)
    until(lambda: sum(job.state == "running" for job in jobs) == 4, new_house.logs)
    second = new_house.work("-c", "6", "--pool-size", "4")
    until(lambda: len(marks(new_house, "held-crowd")) == 6, new_house.logs)
    assert new_house.jobs.worker_pid.later().result(timeout=10)
    with pytest.raises(ResultTimeout):
        jobs[0].result(timeout=1.5)
    runs = [job.record().run for job in jobs]
    assert max(runs) < 20, runs  # about two a second, not thousands
    open_gate(new_house, "crowd")
    for job in jobs:
        job.result(timeout=20)
        assert (job.attempts(), job.record().attempt) == ([], 1)
    assert (first.stop(), second.stop()) == (0, 0)
    assert books(new_house.path) == []


# ── embedded ─────────────────────────────────────────────────────────────────────────────────────


def test_an_embedded_worker_of_a_module_level_app_has_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib
    import sys

    monkeypatch.setenv("HOUSE_URL", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.delitem(sys.modules, "workapp", raising=False)
    module = importlib.import_module("workapp")
    with module.app.worker(concurrency=2, pool_size=1):
        assert module.pid.later().result(timeout=15) != os.getpid()
        with pytest.raises(JobFailed, match="killed by SIGKILL"):
            module.die.later("SIGKILL").result(timeout=15)
        assert module.pid.later().result(timeout=15) != os.getpid()
    module.app.close()
    assert books(tmp_path / "jobs.db") == []


# ── what a job leaves behind, and signals that mean the whole group ──────────────────────────────


def test_an_alarm_that_a_job_left_behind_meets_no_other_job(new_house: House) -> None:
    new_house.work("--pool-size", "1")
    first = new_house.jobs.leave_an_alarm.later().result(timeout=15)
    assert new_house.jobs.outlast_an_alarm.later().result(timeout=15) == first


def test_the_programs_that_a_late_job_had_started_are_killed_with_it(house: House) -> None:
    job = house.jobs.start_a_program.later()
    until(lambda: (house.folder / "program-pid").exists(), house.logs)
    until(lambda: (house.folder / "program-pid").read_text().strip(), house.logs)
    program = int((house.folder / "program-pid").read_text())
    house.wait(job, within=10)
    assert job.error.type == "piecework.errors.JobTimeout"
    until(lambda: not alive(program), "the program has ended")


def test_a_sigterm_to_every_process_lets_a_job_of_the_pool_finish(new_house: House) -> None:
    """What a service manager sends when it stops a service: to the supervisor, its workers, and their processes."""
    tree = new_house.work("--pool-size", "1")
    job = new_house.jobs.hold.later("group")
    until(lambda: marks(new_house, "held-group"), new_house.logs)
    (process,) = marks(new_house, "held-group")
    for pid in (tree.pid, worker_of(tree), process):
        os.kill(pid, signal.SIGTERM)
    until(lambda: "stopping" in tree.log(), tree.log)
    open_gate(new_house, "group")
    assert tree.ended() == 0
    assert (job.state, job.record().attempt, job.record().run) == ("completed", 1, 1)


# ── beside other jobs ────────────────────────────────────────────────────────────────────────────


def test_jobs_of_threads_are_found_behind_many_jobs_of_the_pool(new_house: House) -> None:
    new_house.work("-c", "4", "--pool-size", "1")
    for n in range(60):
        new_house.jobs.hold.later(f"many-{n}")
    behind = [new_house.jobs.add.later(n) for n in range(5)]
    assert [job.result(timeout=20) for job in behind] == [1, 2, 3, 4, 5]
    assert [line for job in behind for line in job.attempts()] == []
    new_house.app.jobs.where(task="hold").cancel("seen enough")
    until(lambda: not new_house.app.jobs.where(task="hold", state="running").count(), new_house.logs)


def test_an_app_of_a_script_that_multiprocessing_knows_is_found(tmp_path: Path) -> None:
    script = tmp_path / "withmp.py"
    script.write_text(
        "import multiprocessing, os\n"
        "from piecework import Piecework\n"
        f"app = Piecework('sqlite:///{tmp_path}/jobs.db')\n"
        "@app.task(pool='process', attempts=1)\n"
        "def where() -> int:\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    with app.worker(pool_size=1):\n"
        "        assert where.later().result(timeout=30) != os.getpid()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


class _Sink(Inbox):
    """What the pool hands to its worker."""

    def outcomes(self) -> list[Any]:
        return [outcome for _, outcome in list(self.items)]


def test_nothing_is_begun_once_the_lease_is_over() -> None:
    """The worker's own rule holds for those that wait in line for a process, too."""
    inbox = _Sink()
    settings = PoolSettings(("no-such-program",), 1, dict(os.environ), os.getcwd())
    pool = ProcessPool(settings, inbox, SystemClock(), begin_until=lambda: 0.0)
    try:
        job = Fetched("j", 1, "t", "q", 0, 0, 0, None, None, None, None, 1.0, "{}")
        assert pool.submit([Running(job, None, TaskOptions(pool="process"))]) == []
        until(lambda: inbox.items, "it was handed back")
        assert inbox.outcomes() == [Release(TOO_LATE)]
    finally:
        pool.close()


def test_jobs_of_threads_go_on_at_their_own_pace_once_no_job_of_the_pool_is_before_them(new_house: House) -> None:
    """Every process is busy, and has the next job in line; what came beyond that is gone again."""
    new_house.work("-c", "4", "--pool-size", "1")
    held = [new_house.jobs.hold.later(f"pace-{n}") for n in range(2)]
    until(lambda: all(job.state == "running" for job in held), new_house.logs)
    third = new_house.jobs.hold.later("pace-2")
    until(lambda: third.record().run >= 2, "it was handed back")  # so that the worker holds back
    third.cancel("seen enough")  # it may be in hand at this moment, and go back the next
    until(lambda: third.state == "cancelled", new_house.logs)
    *_, last = new_house.jobs.add.later_many([(n,) for n in range(400)])
    assert last.result(timeout=20) == 400  # by fours, twice a second, they would take a minute
    for job in held:
        job.cancel("seen enough")
        new_house.wait(job)
