"""Nothing that a job does to its process is fatal: to a real `piecework work`, in a thread, on the loop, in a process.

After each harm a further job runs in all three places, the store's books are in order, and those that ran beside it have
lost no attempt.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import Tree
from support import books, until

import piecework

HERE = Path(__file__).parent
SOURCE = Path(piecework.__file__).parent.parent
PLACES = ("thread", "loop", "process")


class House(NamedTuple):
    """A worker at work on the nasty app, and the same app in this process."""

    tree: Tree
    nasty: Any
    path: Path
    folder: Path


def started(folder: Path, *options: str, lease: float = 20.0) -> Iterator[House]:
    path = folder / "jobs.db"
    names = {"NASTY_URL": f"sqlite:///{path}", "NASTY_LEASE": str(lease), "NASTY_FOLDER": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(HERE))
        patch.delitem(sys.modules, "nastyapp", raising=False)
        nasty: Any = __import__("nastyapp")
    env = {**os.environ, **names, "PYTHONPATH": os.pathsep.join([str(HERE), str(SOURCE)])}
    command = [sys.executable, "-m", "piecework", "work", "nastyapp:app", "-c", "6", "--pool-size", "2", *options]
    tree = Tree(command, env, folder / "worker.log")
    try:
        yield House(tree.ready(), nasty, path, folder)
        assert tree.stop() == 0
        assert books(path) == []
        assert nasty.app.store.sessions() == []
    finally:
        for copy in folder.glob("copy *"):
            os.kill(int(copy.name.split()[1]), signal.SIGKILL)
        tree.destroy()
        nasty.app.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One worker for every harm, in whatever order: what one does to it is there for the next."""
    yield from started(tmp_path_factory.mktemp("nasty"))


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
HARMS = (
    "close_stdin close_stderr lose_stdout print_to_a_closed_stream lose_the_folder fork_and_return fork_and_exit "
    "fork_and_raise fork_and_stay leak_threads leave_a_thread_that_dies match_for_long change_signals change_group "
    "lower_recursion change_time empty_the_environment disable_gc take_memory hold_much_memory short_timeouts "
    "silence_logging break_logging exit_now interrupt end_a_generator"
).split()
_gates = itertools.count()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("harm", HARMS)
def test_a_job_that_harms_its_process_harms_nobody_else(house: House, harm: str, place: str) -> None:
    does_no_harm(house, harm, place)


def does_no_harm(house: House, harm: str, place: str) -> None:
    nasty, gate = house.nasty, house.folder / f"gate {next(_gates)}"
    beside = {p: nasty.BESIDE[p].later(str(gate)) for p in ("thread", "loop")}
    until(lambda: all(job.state == "running" for job in beside.values()), lambda: f"beside: {house.tree.log()}")
    job = nasty.IN[place].later(harm)
    until(lambda: job.state.finished, lambda: f"ended: {job.record()}\n{house.tree.log()}")
    gate.touch()
    further = {p: nasty.GOOD[p].later(1) for p in PLACES}
    for p, good in further.items():
        until(
            lambda good=good: good.state.finished,
            lambda p=p, good=good: f"good {p}: {good.record()}\n{house.tree.log()}",
        )
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
