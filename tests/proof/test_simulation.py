"""The simulation by itself: some fixed histories, those that once broke a promise, and that a seed is one history."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from piecework.clock import Clock
from piecework.store import Store, open_store
from piecework.testing.simulation import Protocol, Toys, Verdict, play
from piecework.testing.simulation.people import DEEDS
from piecework.testing.simulation.wire import Fault

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toys() -> Toys:
    return Toys()


@functools.cache
def played(seed: int, toys: Toys) -> Verdict:
    """A history on the model, played once for all tests that ask about it."""
    return play(seed, Protocol(), toys)


def failures(seeds: range | list[int], toys: Toys, protocol: Protocol | None = None) -> dict[int, list[str]]:
    verdicts = [play(seed, protocol, toys) if protocol else played(seed, toys) for seed in seeds]
    return {verdict.seed: verdict.violations for verdict in verdicts if verdict.violations}


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_these_histories_keep_every_promise(first: int, toys: Toys) -> None:
    assert failures(range(first, first + 100), toys) == {}


# A seed that failed goes here, with a word on what it found. A change of the simulation makes other histories of the
# same seeds, so what a seed found has a test of its own as well, in the ring of the room that was wrong.
ONCE_BROKEN = {
    605: "a session was buried early: its silence was counted from before a slow read of the sessions",
    2215: "a compose was begun late: it had read its batch first, which took longer than the lease",
    3423: "a job was begun after another worker had completed it: the supervisor stood still, and the worker did not",
    17399: "a job went there and back: the model took a claim for fewer than no jobs for one without a limit",
    733006058: "the oracle took it for a beat that a session was enlisted once more, late, after it had been buried",
}


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_a_history_that_once_broke_a_promise_keeps_it(seed: int, toys: Toys) -> None:
    assert failures([seed], toys) == {}


def test_the_shelf_keeps_the_same_promises_under_the_same_faults(
    fresh_store: Callable[[Clock], Store], toys: Toys, shelf: str
) -> None:
    histories = 60 if shelf == "sqlite" else 12  # over a socket, each takes several times as long
    assert failures(range(histories), toys, Protocol(store=fresh_store)) == {}


def test_the_histories_meet_every_fault_and_every_answer(toys: Toys) -> None:
    """Else they prove less than they seem to."""
    verdicts = [played(seed, toys) for seed in range(300)]
    met = sum((verdict.faults for verdict in verdicts), start=verdicts[0].faults.copy())
    answers = sum((verdict.answers for verdict in verdicts), start=verdicts[0].answers.copy())
    assert set(Fault) <= set(met)
    assert set(DEEDS) <= set(met)
    assert {"ok", "already", "gone"} <= {answer for answer, n in answers.items() if n}, answers


def traced(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "piecework.testing.simulation", "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_seed_is_the_same_history_in_every_process() -> None:
    one, other = traced(9, "1"), traced(9, "2")
    assert one == other
    assert len(one.splitlines()) > 100


def test_a_failing_seed_prints_itself_and_the_command_that_replays_it() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "piecework.testing.simulation", "--seconds", "60"),
            *("--protocol", "tests.proof.known_bad:OneTransactionEach"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    seed = re.match(r"seed (\d+) broke a promise", done.stdout)
    assert seed is not None, done.stdout
    assert f"--seed {seed[1]} --protocol tests.proof.known_bad:OneTransactionEach" in done.stdout


def test_a_store_on_a_file_can_be_named(tmp_path: Path, toys: Toys) -> None:
    """Any store will do whose time is handed in."""

    def make(clock: Clock) -> Store:
        return open_store(f"sqlite:///{tmp_path}/one.db", clock=clock)

    assert failures([3], toys, Protocol(store=make)) == {}
