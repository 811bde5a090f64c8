"""What the workers import in a torture of a store with a defect: it takes the settlement of any run of a job that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from msgspec.structs import replace

from piecework.job import Answer
from piecework.outcome import Settlement
from piecework.store import Store
from piecework.torture.dice import Dice
from piecework.torture.faulty import faulty
from piecework.torture.jobs import Jobs
from piecework.torture.ledger import Ledger
from piecework.torture.plan import current_plan


class Unfenced:
    """The store, asked about no fence."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        runs = {record.id: record.run for record in self._store.get([s.id for s in settlements])}
        return self._store.settle([replace(s, run=runs[s.id]) for s in settlements])


_plan = current_plan()
_ledger = Ledger(_plan.ledger)
app = Jobs(
    _plan, _ledger, lambda store: faulty(cast(Store, Unfenced(store)), _ledger, Dice(0), lose=_plan.lose, forge=0.3)
).app
