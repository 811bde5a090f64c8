"""Taking due jobs on the PostgreSQL shelf: one statement, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from psycopg import Cursor

from piecework.errors import LeaseLost
from piecework.job import Claim, Fetched
from piecework.store.postgres.front import START, Place
from piecework.store.postgres.transaction import Opened, Row, Transaction
from piecework.store.reaped import Worker
from piecework.store.sql import fanin, operation, waits
from piecework.store.sql.transaction import to_json

EXPIRED = "it had not been begun by the time that it was given (expires)"
EXPIRY_BITE = 1000
FLAGS = 7  # columns before those of a job
JOB = slice(FLAGS, FLAGS + 13)


class Look(NamedTuple):
    """What a fetch came to: jobs, or what stands in the way of taking some."""

    jobs: list[Fetched]
    ripe: bool  # the time of some has come, and they are not in the line yet
    expired: bool  # the time of some is over
    late: bool  # the wait of some operations is over
    dead: bool  # pieces of a batch that has ended are next
    due: int  # how many of several lines were to be taken, when it looked
    last: Place | None = None  # where it ended in the only line, if there may be more behind

    @property
    def crowded(self) -> bool:
        """Whether others hold the best of all lines: what is behind those has to be asked for line by line."""
        return not self.jobs and not self.blocked and self.due > 0

    @property
    def blocked(self) -> bool:
        return not self.jobs and (self.ripe or self.expired or self.late or self.dead)


def post(tx: Transaction, claim: Claim, place: Place | None = None, *, heed: bool = True) -> Cursor[Row]:
    """Sends the whole fetch, behind a place of one line where one is given; `read` reads its answer.

    Without heed, jobs whose time has come and that are not in the line yet are left aside.
    """
    worker = Worker.named(claim.worker)
    queues, begin = (claim.queues, START) if place is None else ((place.queue,), place)
    return tx.post(
        "fetch_take",
        session=worker.session,
        number=worker.number,
        worker=claim.worker,
        claim=claim.number,
        limit=max(0, claim.limit),
        queues=None if queues is None else to_json(queues),
        heed=heed,
        priority=begin.priority,
        run_at=begin.run_at,
        seq=begin.seq,
    )


def read(opened: Opened, cursor: Cursor[Row], claim: Claim) -> Look:
    """What a fetch came to. What else has to be asked is asked in `opened`, the same transaction or a later one."""
    rows = cursor.fetchall()
    alive, again, ripe, expired, late, dead, due = rows[0][:FLAGS]
    if not alive:
        raise LeaseLost(
            f"worker {claim.worker} is over, or its session is not enlisted or was declared dead; it gets no work"
        )
    if again:
        mine = opened(lambda tx: tx.rows("fetch_again", worker=claim.worker, claim=claim.number))
        return Look(_with_runs(opened, [Fetched(*row) for row in mine]), False, False, False, False, 0)
    jobs = [Fetched(*row[JOB]) for row in rows] if rows[0][FLAGS] is not None else []
    asked = claim.limit > 0
    last = None
    if due is None and len(jobs) == claim.limit > 0:
        last = Place(jobs[-1].queue, jobs[-1].priority, *rows[-1][JOB.stop :])
    return Look(_with_runs(opened, jobs), ripe and asked, expired and asked, late and asked, dead, int(due or 0), last)


def _with_runs(opened: Opened, jobs: list[Fetched]) -> list[Fetched]:
    """The same jobs, the operations among them with what belongs to them: in a transaction only if there may be some."""
    if all(job.cursor is None for job in jobs):
        return jobs
    return opened(lambda tx: operation.with_runs(tx, jobs))


def clearing(claim: Claim, look: Look) -> Callable[[Transaction], Cursor[Row] | None]:
    """What clears a bite of what stands in the way, alone: others get their turn before the next one.

    Returns what put jobs into the line, if any were to be; how many, it knows when the transaction has ended.
    """

    def clear(tx: Transaction) -> Cursor[Row] | None:
        if look.late:
            waits.wake(tx)
        ripened = tx.post("fetch_ripe") if look.ripe else None
        if look.expired:
            _expire(tx)
        elif look.dead:
            _clear_dead(tx, claim)
        return ripened

    return clear


def _expire(tx: Transaction) -> None:
    rows = tx.rows("fetch_expired", limit=EXPIRY_BITE)
    tx.post("cancel_rows", ids=to_json([row[0] for row in rows]), reason=EXPIRED, by=None)
    fanin.follow_cancelled(tx, rows, EXPIRED)


def _clear_dead(tx: Transaction, claim: Claim) -> None:
    """Cancels a bite of the line: those of it whose batch has ended."""
    queues = None if claim.queues is None else to_json(claim.queues)
    met = tx.rows("fetch_dead", limit=fanin.STOP_BITE, queues=queues)
    fanin.cancel_unstarted(tx, met, fanin.ENDED)
