"""The store on one SQLite file: the verbs that it does in its own way; the others are those of every shelf on SQL."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import msgspec

from piecework.clock import Clock, SystemClock
from piecework.errors import StoreUnavailable
from piecework.failpoints import failpoint
from piecework.job import Answer, Claim, Fence, Fetched, Finding, NewBatch, NewJob, PieceResult, Progress
from piecework.outcome import Settlement
from piecework.store.callers import Aside, is_awaited_sqlalchemy, no_connection, refuse_awaited, synchronous_half
from piecework.store.sql import verbs
from piecework.store.sql.settle import FenceMismatch, Settling
from piecework.store.sql.transaction import to_json
from piecework.store.sql.verbs import PROGRESS, Verbs
from piecework.store.sqlite import effects, enqueue, examine, fetch, schema
from piecework.store.sqlite.ground import Ground
from piecework.store.sqlite.transaction import Transaction
from piecework.store.sqlite.within import TAKES, theirs

_pieces = msgspec.json.Decoder(list[PieceResult]).decode


class SqliteStore(Ground, Verbs):
    """Jobs in one SQLite file, shared by any number of processes of one machine.

    `synchronous` is FULL unless the URL says ``?synchronous=normal``: with FULL, what was acknowledged survives a loss
    of power; with NORMAL it survives the death of any process, but the last commits may be gone after a loss of power.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, synchronous: str = "FULL") -> None:
        super().__init__(url, clock or SystemClock(), synchronous)
        self._begin_walks()

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    _plainly = _alone = _beside = Ground._write  # there is one writer at a time

    def _begin_walks(self) -> None:
        Verbs._begin_walks(self)

    def _set_up_beside(self) -> None:
        """The same while a caller has a transaction on this file, beside which none can be written."""
        try:
            self._set_up()
        except StoreUnavailable as error:
            set_up = False
            with suppress(StoreUnavailable):  # of a file that is no queue yet nothing can be read either
                set_up = self.is_set_up()
            if set_up:
                raise
            raise StoreUnavailable(
                f"the store {self.db.path} has no tables yet, and they cannot be made beside your transaction: call "
                "app.migrate(), or run piecework migrate, before it begins"
            ) from error

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        applied = schema.migrate(self.db, self.clock.now())
        self._ready_for = os.getpid()
        return applied

    def script(self, after: int | None = None) -> str:
        if after is None:
            after = (schema.version(self.db) or 0) if schema.exists(self.db) else 0
        return schema.script(after)

    def examine(self) -> list[Finding]:
        return examine.examine(self.db)

    def is_set_up(self) -> bool:
        return schema.exists(self.db)

    def now(self) -> float:
        return self.clock.now()

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        fence: Fence | None = None,
        within: Any = None,
    ) -> list[str]:
        if within is not None:
            refuse_awaited(within)
            self._set_up_beside()
            with theirs(within, self.db, self.clock.now) as tx:
                return enqueue.add(tx, jobs, batch, fence)
        return self._write(lambda tx: enqueue.add(tx, jobs, batch, fence), long=len(jobs) >= enqueue.MANY)

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        if not is_awaited_sqlalchemy(within):
            raise no_connection(within, TAKES)
        await aside(self._set_up)
        # SQLAlchemy switches between the two worlds by itself.
        answers: list[str] = await synchronous_half(within).run_sync(lambda half: self.add(jobs, within=half))
        return answers

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        if not self._anything(claim):
            return []
        while True:
            jobs = self._write(lambda tx: fetch.fetch(tx, claim))
            if jobs is not None:
                return jobs
            time.sleep(verbs.CLEARING_PAUSE)

    def _anything(self, claim: Claim) -> bool:
        """Looks before it locks: an idle worker's question must not hold up those who write."""

        def looked(tx: Transaction) -> bool:
            if fetch.is_refused(tx, claim):
                return True
            if any(moment is not None and moment <= tx.now for moment in tx.row("fetch_due")):
                return True
            if tx.row("fetch_again", worker=claim.worker, claim=claim.number)[0] != "[]":
                return True
            lines = {row[0] for row in tx.rows("fetch_lines")}
            return bool(lines if claim.queues is None else lines & set(claim.queues))

        return self._read(looked)

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        return self._exchange(settlements, None)[0] if settlements else []

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        if not settlements:
            return [], self.fetch(claim)
        return self._exchange(settlements, claim)

    def _exchange(self, settlements: Sequence[Settlement], claim: Claim | None) -> tuple[list[Answer], list[Fetched]]:
        both = partial(_settle_and_fetch, settlements=settlements, claim=claim)
        try:
            answers, jobs = self._write(partial(both, careful=False))
        except FenceMismatch:
            answers, jobs = self._write(partial(both, careful=True))
        return answers, self.fetch(claim) if jobs is None and claim is not None else jobs or []

    def transaction(self) -> AbstractContextManager[effects.Effects]:
        self._set_up()
        return effects.opened(self.db, self.clock.now)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        if progress:
            rows = [(id, to_json(value)) for id, value in progress.items()]
            self._write(lambda tx: tx.run("report_progress", rows=tx.table(PROGRESS, rows), worker=worker))
        return [row[0] for row in self._read(lambda tx: tx.rows("report_stopping", worker=worker))]

    # ── liveness and operators ───────────────────────────────────────────────────────────────────

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        return bool(self._write(lambda tx: tx.run("session_renew", id=session, polled=polled)))

    def pause(self, queue: str, on: bool = True) -> None:
        self._write(lambda tx: tx.run("pause_on" if on else "pause_off", queue=queue))

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        title = "pieces_failed_page" if failed else "pieces_page"
        return _pieces(self._read(lambda tx: tx.row(title, batch=batch, after=after, limit=limit))[0])

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        self._set_up()
        return self.db.changed(timeout)

    def next_due(self) -> float | None:
        def soonest(tx: Transaction) -> float | None:
            moments = [moment for moment in tx.row("fetch_due") if moment is not None]
            return max(0.0, min(moments) - tx.now) if moments else None

        return self._read(soonest)


def _settle_and_fetch(
    tx: Transaction, settlements: Sequence[Settlement], claim: Claim | None, *, careful: bool
) -> tuple[list[Answer], list[Fetched] | None]:
    answers = Settling(tx, settlements, careful=careful).finish()
    failpoint("settle.in_transaction")
    return answers, [] if claim is None else fetch.fetch(tx, claim)
