"""A worker's trips to the store: what has ended goes out, what is due comes in, both in one call.

What the store has not taken stays here, and is sent again; fences make that safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from piecework.engine.trouble import Trouble
from piecework.errors import LeaseLost, StoreError
from piecework.failpoints import failpoint
from piecework.job import Answer, Claim, Fetched, State
from piecework.outcome import Settlement
from piecework.store.protocol import Store

# A trip that fails is tried again with half of it: where the server gives each statement little time, what is too much
# for one trip would be too much for ever.
LARGEST_PORTION = 100_000


class Trip(NamedTuple):
    """What one trip came to: each settlement with its answer, and the jobs that were fetched for so many places."""

    settlements: Sequence[Settlement]
    answers: Sequence[Answer]
    to_keep: int  # how many of the settlements are operations that are to run on in the worker
    places: int
    jobs: Sequence[Fetched]


class Trips:
    """One worker's, and the ends that wait for the next of them."""

    def __init__(self, worker: str, store: Store, queues: tuple[str, ...] | None, trouble: Trouble) -> None:
        self._worker = worker
        self._store = store
        self._queues = queues
        self._trouble = trouble
        self._sending: list[Settlement] = []
        self._claim = 1
        self._portion = LARGEST_PORTION  # ends that are sent, and jobs that are asked for, on one trip
        self.unsent: list[Settlement] = []
        self.to_keep = 0  # how many of them are operations that are to run on here: they keep their places

    def add(self, settlements: Iterable[Settlement]) -> None:
        """Ends that go out with the next trip."""
        self.unsent.extend(settlements)

    def untaken(self) -> list[str]:
        """The ids of the jobs whose end the store has not taken yet; may be called from any thread."""
        return [s.id for s in (*self._sending, *self.unsent)]

    def go(self, places: int, behind: int = 0) -> Trip | None:
        """Settles, and fetches for so many places; with `behind`, looks at so many jobs more. None where it failed.

        Not everything need go on one trip, and nothing is fetched while something is left. Raises `LeaseLost`.
        """
        settlements = self._sending = self.unsent[: self._portion]
        self.unsent = self.unsent[self._portion :]
        to_keep = sum(s.state is State.RUNNING for s in settlements) if self.to_keep else 0
        self.to_keep -= to_keep
        places = 0 if self.unsent else min(places, self._portion)
        claim = Claim(self._worker, self._claim, max(0, places + (behind if places > 0 else 0)), self._queues)
        try:
            failpoint("worker.before_exchange")
            answers, jobs = self._store.exchange(settlements, claim)
            failpoint("worker.after_exchange")
            if jobs:
                failpoint("worker.after_fetch")
        except LeaseLost:
            # Buried: others have the jobs now, and whatever is settled for them would be refused.
            raise
        except StoreError as error:
            self.unsent, self._sending = settlements + self.unsent, []
            self.to_keep += to_keep
            self._portion = max(1, min(self._portion, max(len(settlements), places)) // 2)
            self._trouble.meet(error)
            return None
        self._trouble.over()
        self._portion = min(LARGEST_PORTION, 2 * self._portion)
        self._sending = []
        self._claim += 1
        return Trip(settlements, answers, to_keep, places, jobs)
