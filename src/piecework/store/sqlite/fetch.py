"""Taking due jobs on the SQLite shelf."""

from __future__ import annotations

from collections import Counter

import msgspec

from piecework.errors import LeaseLost
from piecework.job import Claim, Fetched
from piecework.store.reaped import Worker, is_over
from piecework.store.sql import fanin, operation, waits
from piecework.store.sql.transaction import to_json
from piecework.store.sqlite.transaction import Transaction

EXPIRED = "it had not been begun by the time that it was given (expires)"
EXPIRY_BITE = 1000

_decode = msgspec.json.Decoder(list[Fetched]).decode


def fetch(tx: Transaction, claim: Claim) -> list[Fetched] | None:
    """The verb `fetch`, inside a transaction.

    None where a bite of jobs that must not run any more had to be cleared away first, and more of them are next: the
    caller asks again, in a transaction of its own, so that others get their turn between.
    """
    if is_refused(tx, claim):
        raise LeaseLost(
            f"worker {claim.worker} is over, or its session is not enlisted or was declared dead; it gets no work"
        )
    (again,) = tx.row("fetch_again", worker=claim.worker, claim=claim.number)
    if again != "[]":
        return operation.with_runs(tx, _decode(again))
    if claim.limit <= 0:
        return []
    if not ripen(tx):
        return None
    seqs, jobs = candidates(tx, claim)
    if _clear_dead(tx, claim, jobs):
        seqs, jobs = candidates(tx, claim)
        if _dead_batches(tx, jobs):
            return None
    if jobs:
        tx.run("fetch_start", seqs=seqs, worker=claim.worker, claim=claim.number)
    for queue, n in Counter([job.queue for job in jobs]).items():
        tx.moved(queue, "available", "running", n)
    return operation.with_runs(tx, jobs)


def is_refused(tx: Transaction, claim: Claim) -> bool:
    """Whether the worker was reaped, or its session is not enlisted or was buried."""
    worker = Worker.named(claim.worker)
    row = tx.row("reaped_read", id=worker.session)
    return row is None or is_over(row[0], worker.number)


def _clear_dead(tx: Transaction, claim: Claim, jobs: list[Fetched]) -> bool:
    """Where pieces of dead batches are next, cancels a bite of the line: those of them that are in it."""
    if not _dead_batches(tx, jobs):
        return False
    _, line = candidates(tx, msgspec.structs.replace(claim, limit=fanin.STOP_BITE))
    dead = _dead_batches(tx, line)
    met = [(job.id, job.queue, "available", job.batch) for job in line if job.batch in dead]
    fanin.cancel_unstarted(tx, met, fanin.ENDED)
    return True


def ripen(tx: Transaction) -> bool:
    """Lets jobs whose time has come join the line, a bite of them, and cancels those whose time is over.

    False while more of the latter are left than one transaction should cancel: nothing is taken before they are gone.
    """
    due, expiry, wake = tx.row("fetch_due")
    if wake is not None and wake <= tx.now:
        waits.wake(tx)
    if due is not None and due <= tx.now:
        tx.run("fetch_ripe")
    return expiry is None or expiry > tx.now or _expire(tx)


def _expire(tx: Transaction) -> bool:
    rows = tx.rows("fetch_expired", limit=EXPIRY_BITE)
    tx.run("cancel_rows", ids=to_json([row[0] for row in rows]), reason=EXPIRED, by=None)
    fanin.follow_cancelled(tx, rows, EXPIRED)
    return len(rows) < EXPIRY_BITE


def candidates(tx: Transaction, claim: Claim) -> tuple[str, list[Fetched]]:
    """The jobs that are next, best first, as one row: a step for each job would give the interpreter lock away each time."""
    lines = [row[0] for row in tx.rows("fetch_lines")]
    if claim.queues is not None:
        lines = [line for line in lines if line in claim.queues]
    if not lines:
        return "[]", []
    if len(lines) == 1:
        seqs, jobs = tx.row("fetch_one_line", queue=lines[0], limit=claim.limit)
    else:
        seqs, jobs = tx.row("fetch_lines_merged", queues=to_json(lines), limit=claim.limit)
    return seqs, _decode(jobs)


def _dead_batches(tx: Transaction, jobs: list[Fetched]) -> set[str]:
    batches = {job.batch for job in jobs if job.batch is not None}
    if not batches:
        return set()
    return {row[0] for row in tx.rows("fetch_dead_batches", ids=to_json(list(batches)))}
