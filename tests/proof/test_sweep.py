"""A bounded system-call sweep: every point of small programs. The whole of it is `make sweep`."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep import STRACE, Sweep


def swept(sweep: Sweep, folder: Path) -> Sweep:
    try:
        return sweep.run(folder)
    except RuntimeError as error:
        if str(error) != STRACE:
            raise
        pytest.fail(STRACE, pytrace=False)


@pytest.mark.parametrize(
    "sweep",
    [
        Sweep("enqueue", "fdatasync"),
        Sweep("single", "pwrite64"),
        Sweep("last", "pwrite64"),
        Sweep("walks", "fdatasync"),
        Sweep("work", "fdatasync", options=("--checkpoints",)),
        Sweep("enqueue", "unlink"),
    ],
    ids=str,
)
def test_a_program_killed_at_any_point_leaves_a_store_that_keeps_its_promises(sweep: Sweep, tmp_path: Path) -> None:
    swept(sweep, tmp_path)
    assert sweep.violations == []
    assert sweep.points > 0, "no point was reached"


@pytest.mark.parametrize(
    "sweep",
    [
        Sweep("enqueue", "fdatasync", "error=EIO"),
        Sweep("single", "pwrite64", "error=ENOSPC"),
        Sweep("single", "pwrite64", "error=EIO"),
        Sweep("last", "fdatasync", "error=EIO"),
    ],
    ids=str,
)
def test_an_error_of_the_disk_is_told_cleanly_and_leaves_nothing_half_done(sweep: Sweep, tmp_path: Path) -> None:
    swept(sweep, tmp_path)
    assert sweep.violations == []
    assert sweep.points > 0, "no point was reached"
    assert sweep.told > 0, "no error was told"


def test_the_sweep_sees_a_compose_that_is_released_in_a_second_transaction(tmp_path: Path) -> None:
    """If not, the layer is broken."""
    sweep = swept(Sweep("last", "pwrite64", options=("--bad",)), tmp_path)
    assert any("is lost: it is waiting" in wrong for wrong in sweep.violations), sweep.violations
