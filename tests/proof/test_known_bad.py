"""Every layer catches the known-bad protocols that are in its reach. One that does not is broken itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from known_bad import BROKEN

from piecework.testing import FrozenClock, ModelStore
from piecework.testing.conformance import StoreConformance
from piecework.testing.simulation import Toys, play

HISTORIES = 2000  # of which at least one must notice
# A suite on a model needs no database's driver, and no plugin: half of the time would go to importing them.
BARE = ("--noconftest", "-c", os.devnull, "-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:pytest_cov")


@pytest.fixture(scope="module")
def toys() -> Toys:
    return Toys()


@pytest.mark.parametrize("name", BROKEN)
def test_the_simulation_catches(name: str, toys: Toys) -> None:
    protocol, _ = BROKEN[name]
    for seed in range(HISTORIES):
        verdict = play(seed, protocol, toys)
        if verdict.violations:
            print(f"{name}: seed {seed}: {verdict.violations[0]}")
            return
    pytest.fail(f"the simulation is broken: {name} was not caught in {HISTORIES:,} histories")


class Suite:
    """The conformance suite in a process that has collected it; a fork of that plays it on one of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            env={**os.environ, "PIECEWORK_BROKEN": "any", "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def play(self, name: str, told: Path) -> int:
        """Plays it up to the first failure, which is told in a file, and returns the exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, str(told)]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("code "):
                return int(line.removeprefix("code "))
        raise AssertionError("the suite was not collected")

    def close(self) -> None:
        self._process.communicate()


# Imports and collecting take many times as long as what is played up to a failure; so do tests with many jobs, for a model,
# and they come last: one failure of any test is enough.
LARGE = ("many", "thousand", "not_limited")
NURSERY = f"""
import json, os, sys
import pytest

class Nursery:
    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: any(word in item.name for word in {LARGE}))

    def pytest_runtestloop(self, session):
        if session.testsfailed:
            return True
        for line in sys.stdin:
            name, told = json.loads(line)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os.environ["PIECEWORK_BROKEN"] = name
                file = os.open(told, os.O_WRONLY | os.O_CREAT, 0o600)
                os.dup2(file, 1)
                os.dup2(file, 2)
                return None
            print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        return True

options = ["-x", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", *{BARE}]
sys.exit(pytest.main([*options, {__file__ + "::TestSuite"!r}], plugins=[Nursery()]))
"""


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    suite = Suite()
    yield suite
    suite.close()


@pytest.mark.parametrize("name", [name for name, (_, store) in BROKEN.items() if store is not None])
def test_the_conformance_suite_catches(name: str, suite: Suite, tmp_path: Path) -> None:
    code, said = suite.play(name, tmp_path / "told"), (tmp_path / "told").read_text()
    assert code == 1, f"the suite is broken: it accepts {name}\n{said}"
    assert "1 failed" in said


def test_the_page_tells_of_each_and_of_who_catches_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "proof.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    told = {row[0]: row[1:3] for row in rows if row[0] in BROKEN}
    assert told == {
        name: ["yes", "yes" if store is not None else "the client’s part"] for name, (_, store) in BROKEN.items()
    }


if "PIECEWORK_BROKEN" in os.environ:

    class TestSuite(StoreConformance):
        """The suite on one of them; collected in the process that the test above starts, and only there."""

        @pytest.fixture
        def clock(self) -> FrozenClock:
            return FrozenClock()

        @pytest.fixture
        def store(self, clock: FrozenClock) -> ModelStore:
            kind = BROKEN[os.environ["PIECEWORK_BROKEN"]][1]
            assert kind is not None
            return kind(clock=clock)
