"""What is held: jobs that are added once their transaction has committed, or forgotten with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from piecework.job import NewJob

log = logging.getLogger("piecework.aftercommit")

Add = Callable[[Sequence[NewJob]], list[str]]


class Held:
    """Jobs that are held; their handles ask it what became of them."""

    def __init__(self, jobs: Sequence[NewJob], add: Add) -> None:
        self._jobs = jobs
        self._add = add
        self._stored: dict[str, str] = {}
        self._cancelled: set[str] = set()
        self._lost: str | None = None
        self._over = False

    @property
    def ids(self) -> list[str]:
        """The ids of the jobs: of one whose unique key another had before, that of the other, once that is known."""
        return [self._stored.get(job.id, job.id) for job in self._jobs]

    def store(self) -> None:
        """Adds the jobs now. Raises what the store raises."""
        jobs = [job for job in self._jobs if job.id not in self._cancelled]
        if jobs:
            self._stored = {job.id: id for job, id in zip(jobs, self._add(jobs), strict=True)}

    def committed(self) -> None:
        """Adds the jobs after a commit, once; where that fails it is logged, for no error could undo a commit."""
        if self._over:
            return
        self._over = True
        try:
            self.store()
        except Exception as error:
            self._lost = f"{type(error).__name__}: {error}"
            ids = ", ".join(job.id for job in self._jobs[:10]) + (", …" if len(self._jobs) > 10 else "")
            log.exception("lost: jobs that were held until a transaction committed could not be added then: %s", ids)

    def stored_as(self, id: str) -> str | None:
        """The id under which a job is in the store; None as long as it is not."""
        return self._stored.get(id)

    def cancel(self, id: str) -> bool:
        """Forgets one that is not in the store; False where there is none left to forget."""
        if self._stored or self._lost is not None or id in self._cancelled:
            return False
        self._cancelled.add(id)
        return True

    def why_not(self, id: str) -> str:
        """Why a job is not in the store."""
        if id in self._cancelled:
            return f"job {id} is not stored: it was cancelled while it was held"
        if self._lost is not None:
            return f"job {id} was lost: it could not be added when the transaction had committed: {self._lost}"
        return f"job {id} is not stored: it is held until its transaction commits, or was forgotten with it"
