"""The model store: every verb of the seam, each from its room."""

from __future__ import annotations

from piecework.job import Finding
from piecework.testing.model.deleting import Deleting
from piecework.testing.model.enqueue import Enqueue
from piecework.testing.model.liveness import Liveness
from piecework.testing.model.operators import Operators
from piecework.testing.model.parts import ModelParts
from piecework.testing.model.reads import Reads
from piecework.testing.model.work import Work


class ModelStore(Enqueue, Work, Liveness, Operators, Deleting, Reads):
    """The store's contract on dicts, under one lock."""

    url = "model:"

    @property
    def parts(self) -> ModelParts:
        return ModelParts(self)

    def migrate(self) -> list[str]:
        return []

    def examine(self) -> list[Finding]:
        return [Finding("ok", "memory", "This store forgets everything when its process ends.")]

    def is_set_up(self) -> bool:
        return True

    def now(self) -> float:
        return self._clock.now()

    def prune(self, *, before: float, limit: int = 1000) -> int:
        deleted = super().prune(before=before, limit=limit)
        if deleted < limit:
            self.parts.prune(limit=limit)
        return deleted

    def close(self) -> None:
        pass
