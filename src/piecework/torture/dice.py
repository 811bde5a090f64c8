"""The one room of the torture in which chance is made: seeded, so that a plan of faults can be drawn again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A source of chance.

    The same seed draws the same plan; how a machine's timing meets that plan is never the same.
    """

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._random = random.Random(seed)

    def fork(self, name: str) -> Dice:
        """Dice of somebody else's, which do not depend on how often these are thrown."""
        return Dice(f"{self.seed}/{name}")

    def happens(self, share: float) -> bool:
        """True in this share of the throws."""
        return share > 0 and self._random.random() < share

    def between(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self._random.randint(low, high)

    def one(self, of: Sequence[T]) -> T:
        return self._random.choice(of)

    def weighed(self, of: dict[T, float]) -> T:
        """One of the keys, as often as its weight says."""
        return self._random.choices(list(of), weights=list(of.values()))[0]
