"""What a run comes to that the store was not there for, and that leaves nothing behind: it is given back, but not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from piecework.errors import StoreError
from piecework.job import Fetched
from piecework.outcome import Again, Outcome, Release

if TYPE_CHECKING:
    from piecework.store.protocol import Store

AWAY = "the store was not available: "
TIMES = 5  # in a row that a job is given back; whoever has been told so often has a reason of his own
FIRST_PAUSE = 1.0  # seconds before it begins for the third time, and twice as long each time


def given_back(store: Store, job: Fetched, error: BaseException) -> Outcome | None:
    """At once for the first time, for a store comes back; None where the job was given back often enough.

    A store that is away cannot tell how often that was, and cannot take the end of the run either.
    """
    reason = f"{AWAY}{error}"
    try:
        times = _times(store, job)
    except StoreError:
        return Release(reason)
    if times >= TIMES:
        return None
    return Again(FIRST_PAUSE * 2.0 ** (times - 1), reason=reason) if times else Release(reason)


def _times(store: Store, job: Fetched) -> int:
    """How often in a row it was given back, up to `TIMES`."""
    if job.run == 1:
        return 0
    times = 0
    for line in store.attempts(job.id, limit=TIMES, newest=True):
        if not (line.reason or "").startswith(AWAY):
            break
        times += 1
    return times
