"""Every layer catches the known-bad protocols that are in its reach. One that does not is broken itself."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.parametrize("name", [name for name, (_, store) in BROKEN.items() if store is not None])
def test_the_conformance_suite_catches(name: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *BARE,
            f"{__file__}::TestSuite",
        ],
        env={**os.environ, "PIECEWORK_BROKEN": name, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, f"the suite is broken: it accepts {name}\n{done.stdout}{done.stderr}"
    assert "1 failed" in done.stdout


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
