"""Deleting what is past its keep, so that nobody notices.

There is no index of finished jobs by the time of their end, which every settlement would have to pay for. Instead each
process walks the table in the order of arrival and remembers where it stands. It looks as any reader does, and begins a
transaction only to delete a bite of what it found. Where all jobs are too young it stays, and only glances at the times
of those behind: there are old ones among them if a machine's clock was ahead.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from piecework.clock import Clock
from piecework.store.sql import operation
from piecework.store.sql.transaction import Opened, Transaction, to_json

PAGE = 5000  # jobs looked at in one read: some milliseconds, because a long one holds up checkpoints
PAGES = 40  # … in one call
FEW = 10_000  # a walk that kept no more begins anew at once; a longer one rests,
REST = 600e-6  # seconds for each job that it kept: what walks cost is well below a percent of a core

_decode = msgspec.json.Decoder(list[Any]).decode


class Pruner:
    """Where the walk of one store object stands, and what it found and has not deleted yet."""

    def __init__(self, read: Opened, write: Opened, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._found: list[int] = []
        self._at = 0  # jobs up to here have been looked at
        self._kept = 0  # … and so many of them stay; those that were only passed over are among them
        self._over = False  # behind `_at` comes a page of jobs that are all too young, or the end of the table
        self._ahead = 0  # … and up to here there are none but such
        self._anew_at: float | None = None  # once the end was seen: when the next walk may begin at the start
        self._loose_from = (0.0, "")

    def bite(self, before: float, limit: int) -> int:
        """The verb `prune`."""
        with self._lock:
            seqs = self._find(before, limit)
            deleted = 0
            if seqs:
                deleted = self._write(lambda tx: _delete(tx, seqs, before))
                if deleted < len(seqs) / 2:
                    self._found = []  # another process is at the same jobs: one is enough
            if len(seqs) < limit:
                self._clear_loose(before)
            return deleted

    def _find(self, before: float, limit: int) -> list[int]:
        if self._over and not self._found:
            self._go_on()
        for _ in range(PAGES):
            if len(self._found) >= limit or (self._over and self._anew_at is not None):
                break
            if self._over:
                self._pass_over(before)
            else:
                self._turn_page(before)
        seqs, self._found = self._found[:limit], self._found[limit:]
        return seqs

    def _go_on(self) -> None:
        """From where the walk stands; after its rest from the start, to see what became of those that were kept."""
        self._over = False
        if self._anew_at is not None and self._clock.monotonic() >= self._anew_at:
            self._at = self._ahead = self._kept = 0
            self._anew_at = None

    def _turn_page(self, before: float) -> None:
        walked, last, young, gone = self._read(lambda tx: _look(tx, before, self._at))
        self._found += [row[0] for row in gone]
        # One young job does not end a walk: it may have been stored by a machine whose clock was ahead.
        self._over = walked < PAGE or young == walked
        if not self._over:
            self._at = last
            self._kept += walked - len(gone)
        elif walked < PAGE:
            self._see_the_end()

    def _pass_over(self, before: float) -> None:
        """Goes ahead through young jobs, a page: if a clock was ahead for thousands of them, old ones follow."""
        self._ahead = max(self._ahead, self._at)
        asked = {"before": before, "after": self._ahead, "limit": PAGE}
        walked, last, young = self._read(lambda tx: tx.row("prune_ahead", **asked))
        if young < walked:
            self._at, self._over = self._ahead, False
            return
        self._kept += walked
        if walked < PAGE:
            self._see_the_end()
        else:
            self._ahead = last

    def _see_the_end(self) -> None:
        if self._anew_at is None:
            self._anew_at = self._clock.monotonic() + (REST * self._kept if self._kept > FEW else 0.0)

    def _clear_loose(self, before: float) -> None:
        """Batches without a continuation, once their pieces are gone; a page of them."""
        after, id = self._loose_from
        asked = {"before": before, "after": after, "id": id, "limit": PAGE}
        page = self._read(lambda tx: tx.rows("prune_loose_look", **asked))
        self._loose_from = page[-1][:2] if len(page) == PAGE else (0.0, "")
        if bare := [row[1] for row in page if row[2]]:
            self._write(lambda tx: tx.run("prune_loose", ids=to_json(bare), before=before))


def _look(tx: Transaction, before: float, after: int) -> tuple[int, int, int, list[Any]]:
    return _seen(tx, "seq > :after ORDER BY seq LIMIT :limit", {"before": before, "after": after, "limit": PAGE})


def _seen(tx: Transaction, which: str, params: dict[str, Any]) -> tuple[int, int, int, list[Any]]:
    ((walked, last, young, gone),) = tx.fill("prune_look", {"which": which}, params)
    return walked, last, young, _decode(gone)


def _delete(tx: Transaction, seqs: Sequence[int], before: float) -> int:
    """Deletes those of these jobs that are still past their keep: somebody may have retried one since it was found."""
    mine = seqs if tx.only_writer else [row[0] for row in tx.rows("prune_lock", seqs=to_json(seqs))]
    rows = _seen(tx, tx.of_seqs, {"before": before, "seqs": to_json(mine)})[3]
    placed = [] if tx.only_writer else [row[0] for row in rows if row[6]]
    if placed:
        held = {row[0] for row in tx.rows("prune_held", seqs=to_json(placed))}
        rows = [row for row in rows if row[0] not in held]
    if not rows:
        return 0
    if tagged := [row[0] for row in rows if row[7]]:
        tx.post("prune_tags", seqs=to_json(tagged))
    tx.post("prune_jobs", seqs=to_json([row[0] for row in rows]))
    if told := [row[1] for row in rows if row[4]]:
        tx.post("prune_attempts", ids=to_json(told))
    if split := [row[1] for row in rows if row[5]]:
        tx.post("prune_batches", ids=to_json(split))
    if placed := [row for row in rows if row[6]]:
        operation.forget(tx, [row[0] for row in placed], to_json([row[1] for row in placed]))
    for row in rows:
        tx.moved(row[2], row[3], None)
    return len(rows)
