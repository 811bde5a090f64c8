"""The crash ring: real worker processes, ended hard.

It is played on every shelf. What is the engine's part is played whole on SQLite, and elsewhere as far as a mark says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashkit import Yard


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_nowhere(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_nowhere(item: pytest.Item) -> bool:
    """A point within a transaction is not there where a transaction is a script."""
    call = getattr(item, "callspec", None)
    with_transactions = (None, "sqlite", "postgres")
    return (
        call is not None
        and call.params.get("point") == "settle.in_transaction"
        and call.params.get("shelf") not in with_transactions
    )


@pytest.fixture
def make_yard(
    tmp_path: Path, store_url: str, path: Path | str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[float], Yard]]:
    """Makes a ledger and workers with a lease, on each shelf."""
    if not sys.platform.startswith("linux"):
        pytest.fail("this ring reads /proc, which only Linux has; run it there")
    yards: list[Yard] = []

    def make(lease: float) -> Yard:
        yards.append(Yard(tmp_path, store_url, path, monkeypatch, lease))
        return yards[-1]

    yield make
    for yard in yards:
        yard.close()


@pytest.fixture
def yard(make_yard: Callable[[float], Yard]) -> Yard:
    return make_yard(20.0)


@pytest.fixture
def quick_yard(make_yard: Callable[[float], Yard]) -> Yard:
    """The same with a short lease."""
    return make_yard(2.0)
