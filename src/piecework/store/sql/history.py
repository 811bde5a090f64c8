"""The lines about runs that did not complete: a bounded number for each job, however often it runs."""

from __future__ import annotations

from collections.abc import Sequence

from piecework.job import FIRST_RUNS, LAST_RUNS, AttemptRecord
from piecework.store.sql.rows import attempt_record
from piecework.store.sql.transaction import Transaction

NO_RUN = 2**62  # after every run
ALL = 2**62  # lines
_FIELDS = ("id", "run", "attempt", "outcome", "error", "reason")

Line = tuple[str, int, int, str, str | None, str | None]  # job, run, attempt, outcome, error, reason


def remember(tx: Transaction, lines: Sequence[Line]) -> None:
    """Adds lines; of a job that runs for the hundredth time and more, the oldest but the first few make room."""
    tx.post("history_add", rows=tx.table(_FIELDS, lines))
    if long := [line[:2] for line in lines if line[1] > FIRST_RUNS + LAST_RUNS]:
        rows = tx.table(_FIELDS[:2], long)
        for title in ("history_trim", "history_trim_visit"):
            tx.post(title, rows=rows, first=FIRST_RUNS, last=LAST_RUNS)


def page(tx: Transaction, id: str, after: int, before: int | None, limit: int, newest: bool) -> list[AttemptRecord]:
    """The verb `attempts`: a page that may have ended between two lines of a run is completed."""
    title = "attempts_newest" if newest else "attempts_read"
    before = NO_RUN if before is None else before
    rows = [attempt_record(row) for row in tx.rows(title, id=id, after=after, before=before, limit=limit)]
    if not rows or len(rows) < limit:
        return rows
    last = rows[-1].run
    whole = tx.rows(title, id=id, after=last - 1, before=last + 1, limit=ALL)
    return [row for row in rows if row.run != last] + [attempt_record(row) for row in whole]
