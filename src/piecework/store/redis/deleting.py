"""What is not kept on the Redis shelf: the old, the unwanted, and what a dead batch has left; so that nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from piecework.clock import Clock
from piecework.job import Filter
from piecework.store.redis import reads, staging
from piecework.store.redis.shard import Shard

FEW = 10_000  # a walk that kept no more begins anew at once; a longer one rests,
REST = 600e-6  # seconds for each job that it kept: what walks cost is well below a percent of a core
BITES = 200  # … in one call of `prune`
SMALLEST_PAGE = 60  # jobs that one script deletes
SWEEPS = 200  # … in one call of `repair`


# ── delete ───────────────────────────────────────────────────────────────────────────────────────


def delete(shard: Shard, which: Filter, *, limit: int = 1000) -> int:
    deleted, left = _dig(shard), limit
    for asked in reads.searches(shard, which):
        at, over = None, False
        while not over and left > 0:
            told = {"which": asked, "after": at, "limit": left}
            n, heads, at, over, large, graves = shard.run("delete", told)
            deleted += n
            left -= heads
            if graves:
                deleted += _dig(shard)
            if large and _is_over(shard, large):
                deleted += _dig(shard, large)
                left -= 1
    return deleted


def _is_over(shard: Shard, id: str) -> bool:
    """Whether a job may go with all below it, however much that is. What has ended begins again only with its root."""
    over, left = shard.run("survey", {"id": id})
    while over and left:
        over, left = shard.run("survey", {"id": id, "left": left})
    return bool(over)


def _dig(shard: Shard, id: str | None = None) -> int:
    """Deletes the head of a tree, if one is named, and all that is below heads that were deleted."""
    deleted, graves = 0, True
    while graves:
        n, graves = shard.run("dig", {"id": id or False})
        deleted, id = deleted + n, None
    return deleted


# ── prune ────────────────────────────────────────────────────────────────────────────────────────


class Pruner:
    """Where the walk of one store object stands, in each list of a shard's jobs that ended well or were cancelled.

    There is no index of jobs by the time of their end, which every settlement would have to pay for. The lists are in
    the order of arrival; where all jobs of a page are too young, the rest of a list is not looked at.
    """

    def __init__(self, shard: Shard, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock
        self._lock = threading.Lock()
        self._lists: list[tuple[str, str]] = []  # state and queue; the first is being walked,
        self._at: str | None = None  # … and jobs up to here have been looked at
        self._kept = 0  # by this walk
        self._anew_at = 0.0  # when the next walk may begin
        self._loose_from: str | None = None

    def bite(self, before: float, limit: int) -> int:
        """The verb `prune`."""
        with self._lock:
            deleted = _dig(self._shard)
            if not self._lists and self._clock.monotonic() >= self._anew_at:
                self._begin()
            # Who asks for much is in haste, and others wait longer for each script.
            page = max(SMALLEST_PAGE, limit // 2)
            for _ in range(BITES):
                if deleted >= limit or not self._lists:
                    break
                deleted += self._turn_page(before, min(page, limit - deleted))
            if deleted < limit:
                self._clear_loose(before)
            return deleted

    def _begin(self) -> None:
        ended = (("completed", "c"), ("cancelled", "x"))
        counts = reads.counts(self._shard)
        self._lists = [(letter, queue) for name, letter in ended for queue, state in counts if state == name]
        self._kept = 0

    def _turn_page(self, before: float, limit: int) -> int:
        state, queue = self._lists[0]
        asked = {"state": state, "queue": queue, "after": self._at, "before": before, "limit": limit}
        deleted, kept, self._at, over = self._shard.run("prune", asked)
        self._at = self._at or None
        self._kept += kept
        if over:
            del self._lists[0]
            self._at = None
            if not self._lists:
                self._anew_at = self._clock.monotonic() + (REST * self._kept if self._kept > FEW else 0.0)
        return int(deleted)

    def _clear_loose(self, before: float) -> None:
        """Batches without a continuation, once their pieces are gone; a page of them."""
        said = self._shard.run("prune_loose", {"before": before, "after": self._loose_from})
        self._loose_from = said or None


# ── repair ───────────────────────────────────────────────────────────────────────────────────────


def close_on(shard: Shard, batches: Sequence[str]) -> None:
    """Closes what is below batches that have just ended, where no fetch comes by: the rest of a tree of many splits."""
    while batches:
        batches = shard.run("close_on", {"batches": batches})


class Mender:
    """Where one store object stands in the batches of a shard that may need a hand."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._lock = threading.Lock()
        self._open_from: str | None = None
        self._held: set[tuple[str, int]] = set()  # batches that a retry holds open, and how far it had come
        self._dead_from: str | None = None
        self._piece: str | None = None  # where the sweep of the next dead batch goes on

    def bite(self, limit: int) -> list[str]:
        """The verb `repair`."""
        with self._lock:
            staging.go_on(self._shard)
            _dig(self._shard)
            self._sweep(limit)
            mended: list[str] = []
            looked = 0
            while looked < limit:
                asked = {"after": self._open_from, "limit": limit - looked}
                more, n, at = self._shard.run("repair", asked)
                mended += more
                looked += n
                self._open_from = at or None
                if not at:
                    break
            self._let_go_of_the_dead()
            return mended

    def _let_go_of_the_dead(self) -> None:
        """A retry that got no further since the last look has died. What did not come back may be retried again."""
        held = {(id, left) for id, left in self._shard.run("held", {"let_go": []})}
        if dead := [id for id, _ in held & self._held]:
            self._shard.run("held", {"let_go": dead})
        self._held = held

    def _sweep(self, limit: int) -> None:
        """Cancels what is left of up to `limit` dead batches, where no fetch comes by: in paused queues, or due long from now."""
        dead = self._dead(self._dead_from, limit)
        if not dead and self._dead_from is not None:
            dead = self._dead(None, limit)
        pages = SWEEPS
        for batch in dead:
            while pages:
                pages -= 1
                said = self._shard.run("sweep", {"batch": batch, "after": self._piece})
                self._piece = None if said in (True, False) else said
                if said is False:
                    break
            else:
                return  # the next call goes on here
            self._dead_from = batch

    def _dead(self, after: str | None, limit: int) -> list[str]:
        ids: list[str] = self._shard.run("sweep", {"after": after, "limit": limit})
        return ids
