"""The crossing, small: worker processes on one large batch and many small ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from crossing import crossing


@pytest.mark.parametrize("shelf", ["postgres"])
def test_processes_that_end_pieces_of_the_same_and_other_batches_meet_no_deadlock(
    store_url: str, tmp_path: Path
) -> None:
    found = crossing(store_url, tmp_path, seconds=0.3, processes=4, in_line=15)
    assert found.wrong == []
    assert found.deadlocks == 0
    assert found.composed > 5
