"""Right and wrong options and results, for type checkers to read; nobody runs it. A line that is wrong ends in `# error`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_type

from piecework import Cancel, Fail, Job, OnFailure, Piece, Pieces, Piecework, Retry, Snooze, fixed

app = Piecework("sqlite:///jobs.db")


@app.task
def plain(user_id: int) -> str:
    return str(user_id)


# ── options of a call ────────────────────────────────────────────────────────────────────────────

plain.using(queue="mail", priority=1, attempts=2, retry=5, timeout=None, delay=1.5, key=None)
plain.using(within=object())
plain.using(prioritet=1)  # error
plain.using(priority="high")  # error
plain.using(queue=7)  # error
plain.using(delay="soon")  # error
plain.using(at="tomorrow")  # error
plain.using(on_duplicate="explode")  # error

# ── options of a task and a split ────────────────────────────────────────────────────────────────

app.task(queue="mail", priority=1, attempts=2, retry=5, timeout=None)
app.task(transaction=True)
app.task(transaction="yes")  # error
app.split(transaction=True)  # error
app.task(quueue="mail")  # error
app.task(priority="high")  # error
app.task(delay=1)  # error
app.split(queue="mail", on_failure="compose")
app.split(on_failure=OnFailure.COMPOSE)
app.split(on_failure="explode")  # error
app.split(quueue="mail")  # error
app.batch(on_failure="explode")  # error

# ── arguments of many calls ──────────────────────────────────────────────────────────────────────

plain.later_many([(1,), (2,)])

# ── the result of a split is its compose's ───────────────────────────────────────────────────────


@app.split
def whole(topic_id: int) -> Iterator[Piece[str]]:
    yield plain.piece(topic_id)


@whole.compose
def join(pieces: Pieces[str], topic_id: int) -> str:
    return ";".join(pieces.results())


@whole.compose(queue="composes")
def join_elsewhere(pieces: Pieces[str], topic_id: int) -> str:
    assert_type(join(pieces, topic_id), str)  # a compose stays the function that it was
    return ""


@app.split
def other(topic_id: int) -> Iterator[Piece[str]]:
    yield plain.piece(topic_id)


def of_other_arguments(pieces: Pieces[str], title: bytes, more: int) -> str:
    return ""


def of_no_pieces(topic_id: int) -> str:
    return ""


other.compose(of_other_arguments)  # error
other.compose(of_no_pieces)  # error
other.compose(7)  # error
job: Job[str] = whole.later(1)

# ── outcomes, pools and expiry ───────────────────────────────────────────────────────────────────

app.task(retry_on=OSError, give_up_on=(ValueError, TypeError))
app.task(retry_on={OSError: 5, TimeoutError: fixed(1)}, expires=60)
app.task(pool="process", timeout=10, grace=2)
app.task(retry_on="OSError")  # error
app.task(retry_on={"OSError": 5})  # error
app.task(give_up_on={OSError: 5})  # error
app.task(pool="processes")  # error
app.task(grace="long")  # error
app.task(expires=datetime.now(UTC))  # error
app.split(retry_on=OSError, expires=60)
app.split(pool="process")  # error
plain.using(expires=60)
plain.using(expires=datetime.now(UTC))
plain.using(expires="tomorrow")  # error
plain.using(pool="process")  # error
plain.using(retry_on=OSError)  # error
Retry()
Retry(5, "busy")
Retry(after=timedelta(minutes=1), reason="busy")
Snooze(60)
Snooze(datetime.now(UTC), reason="not yet")
Cancel("withdrawn")
Fail("refused")
Retry("soon")  # error
Snooze()  # error
Cancel(7)  # error


@app.task
def with_verdicts(n: int) -> str | Retry | Snooze | Cancel | Fail:
    if n > 3:
        return Snooze(60)
    raise Fail("no")


@app.task(pool="process")
def in_a_process(n: int) -> str:
    return str(n)


assert_type(in_a_process.later(1), Job[str])
in_a_process.later("1")  # error
plain.later(1).cancel("not wanted", by="me")
plain.later(1).cancel(by=7)  # error
assert_type(plain.later(1).resume(), bool)
