"""Right and wrong options and results, for type checkers to read; nobody runs it. A line that is wrong ends in `# error`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

from piecework import Job, OnFailure, Piece, Pieces, Piecework

app = Piecework("sqlite:///jobs.db")


@app.task
def plain(user_id: int) -> str:
    return str(user_id)


# ── options of a call ────────────────────────────────────────────────────────────────────────────

plain.using(queue="mail", priority=1, attempts=2, retry=5, timeout=None, delay=1.5, key=None)
plain.using(prioritet=1)  # error
plain.using(priority="high")  # error
plain.using(queue=7)  # error
plain.using(delay="soon")  # error
plain.using(at="tomorrow")  # error
plain.using(on_duplicate="explode")  # error

# ── options of a task and a split ────────────────────────────────────────────────────────────────

app.task(queue="mail", priority=1, attempts=2, retry=5, timeout=None)
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
