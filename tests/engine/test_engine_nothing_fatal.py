"""Nothing that a job does to its process is fatal: to a real `piecework work`, in a thread, on the loop, in a process.

After each harm a further job runs in all three places, the store's books are in order, and those that ran beside it have
lost no attempt.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, a_house
from support import books, until

from piecework.ids import new_id
from piecework.job import NewJob

PLACES = ("thread", "loop", "process")
WORK = "-c", "6", "--pool-size", "2"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One worker for every harm, in whatever order: what one does to it is there for the next."""
    with a_house("nastyapp", tmp_path_factory.mktemp("nasty")) as house:
        house.work(*WORK)
        yield house


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[House]:
    """A worker for one harm alone; its lease is a second."""
    with a_house("nastyapp", tmp_path, lease=1.0) as house:
        house.work(*WORK)
        yield house


# What a harm comes to: most end as if nothing had been. A few are errors of the job, which is recorded as failed.
FAILS = {
    ("change_signals", "thread"): "ValueError",
    ("change_signals", "loop"): "ValueError",
    ("take_memory", "thread"): "MemoryError",
    ("take_memory", "loop"): "MemoryError",
    ("take_memory", "process"): "MemoryError",
    ("exit_now", "thread"): "SystemExit",
    ("exit_now", "loop"): "SystemExit",
    ("exit_now", "process"): "SystemExit",
    ("interrupt", "thread"): "KeyboardInterrupt",
    ("interrupt", "loop"): "KeyboardInterrupt",
    ("interrupt", "process"): "KeyboardInterrupt",
    ("end_a_generator", "thread"): "GeneratorExit",
    ("end_a_generator", "loop"): "GeneratorExit",
    ("end_a_generator", "process"): "GeneratorExit",
}
HARMS = [
    "close_stdin",
    "close_stderr",
    "lose_stdout",
    "print_to_a_closed_stream",
    "lose_the_folder",
    "fork_and_return",
    "fork_and_exit",
    "fork_and_raise",
    "fork_and_stay",
    "leak_threads",
    "leave_a_thread_that_dies",
    "match_for_long",
    "change_signals",
    "change_group",
    "lower_recursion",
    "change_time",
    "empty_the_environment",
    "disable_gc",
    "take_memory",
    "hold_much_memory",
    "short_timeouts",
    "silence_logging",
    "break_logging",
    "exit_now",
    "interrupt",
    "end_a_generator",
]
_gates = itertools.count()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("harm", HARMS)
def test_a_job_that_harms_its_process_harms_nobody_else(house: House, harm: str, place: str) -> None:
    nasty, gate = house.jobs, house.folder / f"gate {next(_gates)}"
    beside = {p: nasty.BESIDE[p].later(str(gate)) for p in ("thread", "loop")}
    until(lambda: all(job.state == "running" for job in beside.values()), house.logs)
    job = nasty.IN[place].later(harm)
    house.wait(job)
    gate.touch()
    further = {p: nasty.GOOD[p].later(1) for p in PLACES}
    for good in further.values():
        house.wait(good)
        assert good.result(timeout=0) == 2
    for neighbour in beside.values():
        neighbour.result(timeout=15)
        record = neighbour.record()
        assert (record.attempt, record.run, record.crashes) == (1, 1, 0)
    record = job.record()
    expected = FAILS.get((harm, place))
    assert (record.state, record.error and record.error.type) == ("failed" if expected else "completed", expected)
    assert (record.attempt, record.run, record.crashes) == (1, 1, 0)
    assert books(house.path) == []


def test_every_harm_of_the_app_is_tried(house: House) -> None:
    assert set(house.jobs.HARMS) == {*HARMS, *BRUTAL, "hold_the_interpreter"}


# ── errors that bite ─────────────────────────────────────────────────────────────────────────────

ERRORS = {
    "its own BaseException": ("failed", "Mine", ""),
    "no words": ("failed", "NoWords", "__str__ raised RuntimeError"),
    "exits when read": ("failed", "ExitsWhenRead", "__str__ raised SystemExit"),
    "no traceback": ("failed", "NoTraceback", ""),
    "no class": ("failed", "NoClass", ""),
    "hostile": ("failed", "an exception whose class has no name", ""),
    "a verdict that is hollow": ("failed", "AttributeError", "HollowRetry"),
    "NUL": ("failed", "ValueError", "a\\x00b"),
    "a lone surrogate": ("failed", "ValueError", "a\\ud800b"),
    "ten megabytes": ("failed", "ValueError", "characters left out"),
    "a reason of surrogates": ("failed", "Fail", "\\ud800"),
    "a cancel of surrogates": ("cancelled", None, "a\\x00\\ud800"),
    "a group": ("failed", "BaseExceptionGroup", "several"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_bites_whoever_looks_at_it_is_recorded_as_text(house: House, error: str, place: str) -> None:
    state, kind, said = ERRORS[error]
    job = house.jobs.THROW[place].later(error)
    house.wait(job)
    record = job.record()
    assert record.state == state, record
    if kind is None:
        assert record.reason == said
    else:
        assert record.error is not None
        assert record.error.type.endswith(kind)
        assert said in record.error.message
        assert len(record.error.message) < 3_000
    assert (record.run, record.crashes) == (1, 0)
    assert record.progress is not None
    assert record.progress.note == "\\x00\\ud800"
    assert all(house.jobs.GOOD[p].later(1).result(timeout=15) == 2 for p in PLACES)
    assert books(house.path) == []


@pytest.mark.parametrize("place", PLACES)
def test_an_argument_that_exits_while_it_is_decoded_fails_its_job_alone(house: House, place: str) -> None:
    task = house.jobs.MADE[place]
    id = new_id()
    house.app.add([NewJob(id, task.name, '{"argument":{"n":3}}')])
    job = house.app.jobs.get(id)
    house.wait(job)
    assert job.error is not None
    assert (job.state, job.error.type, job.record().crashes) == ("failed", "SystemExit", 0)
    assert all(house.jobs.GOOD[p].later(1).result(timeout=15) == 2 for p in PLACES)


# ── harms that cost the process ──────────────────────────────────────────────────────────────────

BRUTAL = ["close_everything", "close_what_is_not_its_own", "write_on_every_socket"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("harm", BRUTAL)
def test_a_job_that_closes_or_writes_on_handles_that_are_not_its_own_ends_and_others_run(
    new_house: House, harm: str, place: str
) -> None:
    nasty = new_house.jobs
    job = nasty.IN[place].later(harm)
    new_house.wait(job, "completed", "failed", "parked", within=40)
    for good in [nasty.GOOD[p].later(n) for p in PLACES for n in range(3)]:
        new_house.wait(good, within=40)
        assert (good.state, good.record().attempt) == ("completed", 1)


def test_a_fork_copy_that_holds_the_workers_socket_hides_no_death(new_house: House) -> None:
    (tree,) = new_house.trees
    new_house.jobs.in_a_thread.later("fork_and_stay").result(timeout=15)
    (worker,) = tree.children()
    os.kill(worker, signal.SIGKILL)
    assert new_house.jobs.good_in_a_thread.later(1).result(timeout=15) == 2
    assert worker not in tree.children()


@pytest.mark.parametrize("place", PLACES)
def test_a_job_that_holds_the_interpreter_for_longer_than_the_lease_keeps_its_run(new_house: House, place: str) -> None:
    new_house.work(*WORK)  # would take the job over, were the first one's beat to stop
    beside = [new_house.jobs.GOOD[p].later(1) for p in PLACES]
    job = new_house.jobs.IN[place].later("hold_the_interpreter")
    new_house.wait(job)
    assert (job.state, job.record().run, job.record().attempt) == ("completed", 1, 1)
    for good in beside:
        assert (good.result(timeout=15), good.record().attempt) == (2, 1)
