"""The store on PostgreSQL: the verbs that it does in its own way; the others are those of every shelf on SQL."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import msgspec
from psycopg import Pipeline

from piecework.clock import Clock, SystemClock
from piecework.failpoints import failpoint
from piecework.job import Answer, Claim, Fence, Fetched, Finding, NewBatch, NewJob, PieceResult, Progress, State
from piecework.outcome import Settlement
from piecework.store.callers import (
    Aside,
    caller_of,
    is_awaited,
    is_awaited_sqlalchemy,
    refuse_awaited,
    synchronous_half,
)
from piecework.store.postgres import bulk, effects, enqueue, examine, fetch, schema
from piecework.store.postgres.asking import Asking, Own, at_once
from piecework.store.postgres.database import Gate
from piecework.store.postgres.ear import Ear
from piecework.store.postgres.fetch import Look
from piecework.store.postgres.front import Front, Place
from piecework.store.postgres.ground import Ground
from piecework.store.postgres.transaction import ASKED, Con, Statements, Transaction, channel
from piecework.store.postgres.within import Within, line_of
from piecework.store.sql.rows import error_of
from piecework.store.sql.settle import FenceMismatch, Settling
from piecework.store.sql.transaction import to_json
from piecework.store.sql.verbs import PROGRESS, Verbs

HELD_PAUSE = 0.1  # seconds until jobs are asked for again whose time has come and that others hold
BEAT_SILENCE = 8.0  # seconds without a word after which a beat gives up: another has to come through within the lease

T = TypeVar("T")


class PostgresStore(Ground, Verbs):
    """Jobs in one schema of a PostgreSQL database, shared by any number of processes and machines.

    The URL is libpq's, ``postgresql://user:password@host:5432/database``, with options of piecework's own:
    ``?schema=piecework`` says where the tables are, ``?connections=3`` how many connections a process holds at most
    (one more listens for hints), ``?pooler=yes`` that a pooler hands connections round between transactions, which is
    found out where nothing is said, and ``?silence=60`` how many seconds a call waits for a server that says nothing.
    Time is the server's, unless a clock is given.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__(url, clock or SystemClock())
        self._begin_walks()
        self._ear = Ear(self.db, lambda id: self._write(lambda tx: tx.post("sleep", id=id)))
        self._front = Front()
        # A caller's transaction, or a task's, may have begun long ago: a delay is counted from the call, and an end is
        # when it ends.
        self._theirs = Statements(self.db.place.schema, server_time=self._server_time, moment=ASKED)
        self._within = Within(self.db, self._theirs)
        self._plans: set[str] = set()  # that were stored ahead of a caller's transaction
        self._held_up = False  # whether the last fetch met jobs whose time has come and that others hold

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        applied = schema.migrate(self.db)
        self._ready = True
        return applied

    def script(self, after: int | None = None) -> str:
        return schema.script_for(self.db) if after is None else schema.script(self.db.place.schema, after)

    def examine(self) -> list[Finding]:
        return examine.examine(self.db)

    def is_set_up(self) -> bool:
        return schema.version(self.db) is not None

    def now(self) -> float:
        if not self._server_time:
            return self.clock.now()
        return float(self._read(lambda tx: tx.row("now_read"))[0])

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
            self._prepare(jobs)
            return at_once(self._added_within(within, partial(enqueue.add, jobs=jobs, batch=batch, fence=fence), _here))
        if (
            len(jobs) == 1
            and batch is None
            and fence is None
            and enqueue.is_plain(jobs[0])
            and not self.db.place.pooler
        ):
            self._add_one(jobs[0])
            return [jobs[0].id]
        try:
            if self._add_bulk(jobs, batch, fence):
                return [job.id for job in jobs]
        except bulk.KnownError:
            pass
        # Plain jobs touch nothing that others count, and need not wait for anybody.
        plain = batch is None and fence is None and all(job.batch is None and job.operation is None for job in jobs)
        return self._in(
            Gate.OPEN if plain else Gate.SHARED, lambda tx: at_once(enqueue.add(Own(tx), jobs, batch, fence))
        )

    def _add_one(self, job: NewJob) -> None:
        """The commonest call of all, in one statement and one trip."""
        self._set_up()
        params = {
            "id": job.id, "args": job.args, "task": job.task, "queue": job.queue, "priority": job.priority,
            "run_at": job.run_at, "delay": job.delay or 0.0, "options": job.options, "now": self._now(),
            "channel": channel(self._statements.schema),
        }  # fmt: skip
        self.db.write_one(self._statements["add_one"], params)
        self._wrote(1)

    def _add_bulk(self, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> bool:
        """Adds very many by COPY; False where these are not for that."""
        groups = bulk.plain(jobs) if batch is None and fence is None else []
        if groups:
            self._copied(lambda tx: bulk.add(tx, groups), Gate.OPEN)
        elif groups := bulk.pieces(jobs, fence):
            self._copied(lambda tx: bulk.add_pieces(tx, groups, batch, fence), Gate.SHARED)
        return bool(groups)

    def _copied(self, body: Callable[[Transaction], None], gate: Gate) -> None:
        self._set_up()

        def copied(con: Con, _: Pipeline | None) -> int:
            tx = Transaction(con, self._statements, self._now())
            body(tx)
            return tx.finish()

        self._wrote(self.db.write(copied, gate, piped=False))

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        body = partial(enqueue.add, jobs=jobs, batch=None, fence=None)
        await aside(partial(self._prepare, jobs))
        if not is_awaited(within):
            return at_once(self._added_within(within, body, _here))  # its statements hold up the loop anyway
        if not is_awaited_sqlalchemy(within):
            return await self._added_within(within, body, aside)
        # SQLAlchemy switches between the two worlds by itself.
        answers: list[str] = await synchronous_half(within).run_sync(
            lambda half: at_once(self._added_within(half, body, _here))
        )
        return answers

    async def _added_within(
        self, within: Any, body: Callable[[Asking], Awaitable[list[str]]], aside: Aside
    ) -> list[str]:
        caller = caller_of(within)
        line = line_of(caller, within)
        assert caller is not None
        return await self._within.write(caller, line, self._now(), body, aside)

    def _prepare(self, jobs: Sequence[NewJob]) -> None:
        """Does beforehand, on a connection of its own, what others would wait for until the caller's transaction ends."""
        self._set_up()
        self.db.identity()
        plans = {job.operation.digest: job.operation.plan for job in jobs if job.operation is not None}
        if new := {digest: plan for digest, plan in plans.items() if digest not in self._plans}:
            self._in(Gate.OPEN, lambda tx: at_once(enqueue.store_plans(Own(tx), new)))
            self._plans |= new.keys()

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        place, began = self._front.place(claim), time.monotonic()
        look = self._look(claim, place)
        return self._cleared(claim, look, place, began)

    def _look(self, claim: Claim, place: Place | None = None, *, heed: bool = True) -> Look:
        # The commit travels with the fetch, which is whole without it: what is asked about what was taken comes after.
        answer = self._write(lambda tx: fetch.post(tx, claim, place, heed=heed))
        return fetch.read(self._read, answer, claim)

    def _cleared(self, claim: Claim, look: Look, place: Place | None, began: float) -> list[Fetched]:
        """Takes what stands in the way of a fetch away, a bite at a time, and fetches again."""
        self._front.taken(claim, look.last, time.monotonic() - began, whole=place is None)
        if place is not None and not look.jobs and not look.blocked:  # nothing behind it: something before?
            look = self._look(claim)
        heed = True
        while look.blocked:
            ripened = self._alone(fetch.clearing(claim, look))
            if ripened is not None and not ripened.rowcount:  # others hold them, for as long as they like
                heed = False
            look = self._look(claim, heed=heed)
        self._held_up = not heed
        if look.jobs:
            self._ear.found()
        return self._line_by_line(claim) if look.crowded else look.jobs

    def _line_by_line(self, claim: Claim) -> list[Fetched]:
        queues = claim.queues or [row[0] for row in self._read(lambda tx: tx.rows("fetch_lines"))]
        for queue in queues:
            jobs = self.fetch(msgspec.structs.replace(claim, queues=(queue,)))
            if jobs:
                return jobs
        return []

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        return self._exchange(settlements, None)[0] if settlements else []

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        if not settlements:
            return [], self.fetch(claim)
        place, began = self._front.place(claim), time.monotonic()
        answers, look = self._exchange(settlements, claim, place)
        return answers, [] if look is None else self._cleared(claim, look, place, began)

    def _exchange(
        self, settlements: Sequence[Settlement], claim: Claim | None, place: Place | None = None
    ) -> tuple[list[Answer], Look | None]:
        def hopefully(tx: Transaction) -> tuple[list[Answer], Look | None]:
            return _settle_and_fetch(tx, settlements, claim, place, careful=False)

        def carefully(tx: Transaction) -> tuple[list[Answer], Look | None]:
            return _settle_and_fetch(tx, settlements, claim, place, careful=True)

        try:
            return self._beside(hopefully)
        except FenceMismatch:
            return self._beside(carefully)

    def transaction(self) -> AbstractContextManager[effects.Effects]:
        self._set_up()
        return effects.opened(self.db, self._theirs, self._now)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        def reported(tx: Transaction) -> list[str]:
            if progress:
                rows = [(id, to_json(value)) for id, value in progress.items()]
                tx.post("report_progress", rows=tx.table(PROGRESS, rows), worker=worker)
            return [row[0] for row in tx.rows("report_stopping", worker=worker)]

        return self._write(reported) if progress else self._read(reported)

    # ── liveness and operators ───────────────────────────────────────────────────────────────────

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        def renewed(tx: Transaction) -> bool:
            return bool(tx.run("session_renew", id=session, polled=polled))

        return self._in(Gate.OPEN, renewed, silence=BEAT_SILENCE)

    def pause(self, queue: str, on: bool = True) -> None:
        def paused(tx: Transaction) -> None:
            tx.post("pause_on" if on else "pause_off", queue=queue)
            tx.wakes = not on

        self._write(paused)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        title = "pieces_failed_page" if failed else "pieces_page"
        self._set_up()
        # For a new split little is known of the table, and the whole rest of it would be read and sorted for each page.
        rows = self.db.read_by_index(
            lambda con: Transaction(con, self._statements, self._now()).rows(
                title, batch=batch, after=after, limit=limit
            )
        )
        return [
            PieceResult(ordinal, piece, id, task, State(state), result, error_of(error))
            for ordinal, piece, id, task, state, result, error in rows
        ]

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        self._set_up()
        return self._ear.wait(timeout)

    def next_due(self) -> float | None:
        moments = [moment for moment in self._read(lambda tx: tx.row("fetch_due")) if moment is not None]
        return max(HELD_PAUSE if self._held_up else 0.0, min(moments)) if moments else None

    def close(self) -> None:
        self._ear.close()
        super().close()


def _settle_and_fetch(
    tx: Transaction, settlements: Sequence[Settlement], claim: Claim | None, place: Place | None, *, careful: bool
) -> tuple[list[Answer], Look | None]:
    """Where nothing follows from the ends, the fetch travels with them; else it waits for what they release."""
    settling = Settling(tx, settlements, careful=careful)
    early = fetch.post(tx, claim, place) if claim is not None and settling.simple else None
    answers = settling.finish()
    failpoint("settle.in_transaction")
    if claim is None:
        return answers, None
    return answers, fetch.read(lambda ask: ask(tx), early or fetch.post(tx, claim, place), claim)


async def _here(function: Callable[[], T]) -> T:
    """On this thread, which waits anyway."""
    return function()
