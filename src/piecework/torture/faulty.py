"""A store whose line is bad: it loses requests and replies, and sends what came too late or was never true.

It wraps a store behind the seam. A lost request was never applied; a lost reply was. Both look the same to who called,
as they do on a network. Beside some trips of a worker a *ghost* is sent: a settlement that was recorded before, or that
of an older run of a job that this worker has just been given. The store must refuse every one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from piecework.errors import StoreUnavailable
from piecework.job import Answer, Claim, Fetched, State
from piecework.outcome import Settlement
from piecework.store import Store
from piecework.torture.dice import Dice
from piecework.torture.ledger import Kind, Ledger

NEVER_LOST = {
    "close",
    "wait",  # a hint, which says nothing that could be lost
    "migrate",
    "examine",
}
GHOSTS_KEPT = 200  # settlements that may be sent again later

_OWN = {Answer.ALREADY: Kind.REPLAYED, Answer.STALE: Kind.REFUSED}
_FORGED = {Answer.OK: Kind.FORGED_OK, Answer.ALREADY: Kind.FORGED_ALREADY, Answer.STALE: Kind.FORGED_STALE}


def faulty(store: Store, ledger: Ledger, dice: Dice, *, lose: float, forge: float = 0.0) -> Store:
    """The store behind a bad line: `lose` is the share of requests lost and of replies lost, `forge` that of ghosts."""
    return cast(Store, Faulty(store, ledger, dice, lose=lose, forge=forge))


class Faulty:
    """Every verb of the store passes through `__getattr__`, so a verb that the seam gains is tried too."""

    def __init__(self, store: Store, ledger: Ledger, dice: Dice, *, lose: float, forge: float = 0.0) -> None:
        self._store = store
        self._ledger = ledger
        self._dice = dice
        self._lose = lose
        self._forge = forge
        self._lock = threading.Lock()
        self._ghosts: deque[Settlement] = deque(maxlen=GHOSTS_KEPT)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if name in NEVER_LOST or not callable(value):
            return value

        def verb(*args: Any, **kwargs: Any) -> Any:
            return self._over_the_line(name, lambda: value(*args, **kwargs))

        return verb

    def _over_the_line(self, name: str, call: Callable[[], Any]) -> Any:
        if self._dice.happens(self._lose):
            self._ledger.note(Kind.LOST_REQUEST)
            raise StoreUnavailable(f"torture: the request of {name} was lost")
        answer = call()
        if self._dice.happens(self._lose):
            self._ledger.note(Kind.LOST_REPLY)
            raise StoreUnavailable(f"torture: the reply to {name} was lost")
        return answer

    # ── settlements ──────────────────────────────────────────────────────────────────────────────

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        def call() -> list[Answer]:
            answers = self._store.settle(settlements)
            self._keep(settlements, answers)
            return answers

        return cast(list[Answer], self._over_the_line("settle", call))

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        def call() -> tuple[list[Answer], list[Fetched]]:
            answers, jobs = self._store.exchange(settlements, claim)
            self._keep(settlements, answers)
            self._haunt(jobs)
            return answers, jobs

        return cast(tuple[list[Answer], list[Fetched]], self._over_the_line("exchange", call))

    def _keep(self, settlements: Sequence[Settlement], answers: Sequence[Answer]) -> None:
        """Writes down what the store said of a worker's settlements."""
        self._ledger.note_all(
            (Kind.RECORDED if answer is Answer.OK else _OWN[answer], s.id, s.run)
            for s, answer in zip(settlements, answers, strict=True)
            if answer is not Answer.OK or s.state is State.COMPLETED
        )
        if settlements and self._dice.happens(self._forge):
            with self._lock:
                self._ghosts.append(self._dice.one(settlements))

    def _haunt(self, jobs: Sequence[Fetched]) -> None:
        """Sends ghosts: of a job's older run while a newer one holds it, and of a run that was recorded some time ago."""
        ghosts: list[Settlement] = []
        if jobs and self._dice.happens(self._forge):
            job = max(jobs, key=lambda job: job.run)  # of one that ran before, if there is any
            ghosts.append(Settlement(job.id, job.run - 1, State.COMPLETED, job.attempt + 1, job.queue, batch=job.batch))
        with self._lock:
            if len(self._ghosts) > 1 and self._dice.happens(self._forge):
                ghosts.append(self._ghosts.popleft())
        for ghost in ghosts:
            (answer,) = self._store.settle([msgspec.structs.replace(ghost, result=None)])
            self._ledger.note(_FORGED[answer], ghost.id, ghost.run)
