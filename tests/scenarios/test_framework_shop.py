"""The shop on real worker processes, many times as fast: nothing is lost, nothing runs twice, all processes take part."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.shop import PROCESSES, run, trees


@pytest.mark.parametrize("slots", [5, 7, 40, 42, 45])
def test_the_places_are_spread_over_five_processes(slots: int) -> None:
    started = list(trees(slots))
    assert sum(processes for processes, _ in started) == PROCESSES
    assert sum(processes * places for processes, places in started) == slots


def test_s3_12_five_processes_with_forty_two_places(store_url: str, tmp_path: Path) -> None:
    """How long anybody waits is for `make bench-shop` to tell, in real time."""
    seen = run(store_url, tmp_path, slots=42, seconds=1.0, scale=35)
    assert len(seen.waits) >= 150
    assert seen.ends == {"completed": len(seen.waits)}
    assert seen.runs == len(seen.waits)
    assert len(seen.workers) == PROCESSES
