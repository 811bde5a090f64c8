"""S0-1, S0-2, S0-5, S0-11: the same answer, now or later, in order, of nothing, and of splits in splits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from piecework import Piece, Pieces, Piecework
from piecework.job import Filter, State
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]

TOPICS = {1: ("Ruby", [("A", "1"), ("B", "2"), ("C", "3")]), 2: ("Ruby", []), 3: ("Perl", [("D", "4")])}


def unsplit(topic_id: int) -> str:
    """The computation in one piece, as the source document has it."""
    title, posts = TOPICS[topic_id]
    return title + ": " + ";".join(f"{title}: {body}" for title, body in posts)


def topics(app: Piecework) -> Any:
    @app.task
    def export_post(topic_id: int, n: int) -> str:
        title, body = TOPICS[topic_id][1][n]
        return f"{title}: {body}"

    @app.split
    def export_topic(topic_id: int) -> Iterator[Piece[str]]:
        for n in range(len(TOPICS[topic_id][1])):
            yield export_post.piece(topic_id, n)

    @export_topic.compose
    def join(pieces: Pieces[str], topic_id: int) -> str:
        return f"{TOPICS[topic_id][0]}: " + ";".join(pieces.results())

    return export_topic


# ── S0-1 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_1_unsplit_split_now_and_split_later_give_the_same_answer(app: Piecework) -> None:
    export_topic = topics(app)
    job = export_topic.later(1)
    drain(app)
    assert unsplit(1) == export_topic(1) == job.result(timeout=0) == "Ruby: A: 1;B: 2;C: 3"


def test_s0_1_a_worker_gives_the_same_answer(app: Piecework) -> None:
    export_topic = topics(app)
    with app.worker(concurrency=4):
        jobs = {topic: export_topic.later(topic) for topic in TOPICS}
        assert {topic: job.result(timeout=30) for topic, job in jobs.items()} == {t: unsplit(t) for t in TOPICS}


async def test_s0_1_a_coroutine_gets_the_same_answer(app: Piecework) -> None:
    export_topic = topics(app)
    with app.worker(concurrency=2):
        job = await export_topic.alater(1)
        assert await job.aresult(timeout=30) == unsplit(1)


# ── S0-2 ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [[3, 0, 4, 1, 2], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])
def test_s0_2_results_come_in_the_order_of_the_pieces_whatever_finished_first(
    app: Piecework, until: Until, order: Sequence[int]
) -> None:
    finished: list[int] = []
    ids: dict[int, str] = {}

    @app.task
    def part(n: int) -> str:
        before = order[: order.index(n)]
        until(lambda: all(ids.get(m) and app.jobs.get(ids[m]).state is State.COMPLETED for m in before))
        finished.append(n)
        return f"r{n}"

    @app.split
    def whole() -> Iterator[Piece[str]]:
        for n in range(5):
            yield part.piece(n)

    @whole.compose
    def join(pieces: Pieces[str]) -> str:
        return ";".join(pieces.results())

    with app.worker(concurrency=5):
        job = whole.later()
        until(lambda: (batch := job.batch) is not None and batch.total == 5)
        ids.update(enumerate(piece.id for piece in job.pieces()))
        assert job.result(timeout=30) == "r0;r1;r2;r3;r4"
    assert finished == list(order)


# ── S0-5 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_5_an_empty_split_composes_once_and_can_tell(app: Piecework) -> None:
    seen: list[tuple[int, int, list[str]]] = []

    @app.split
    def export_topic() -> Iterator[Piece[str]]:
        yield from ()

    @export_topic.compose
    def join(pieces: Pieces[str]) -> str:
        results = list(pieces.results())
        seen.append((pieces.total, len(pieces), results))
        return "Ruby: " + ";".join(results)

    job = export_topic.later()
    assert drain(app) == 2
    assert job.result(timeout=0) == "Ruby: "
    assert job.state is State.COMPLETED
    assert seen == [(0, 0, [])]
    assert job.batch is not None
    assert (job.batch.total, job.batch.open, job.batch.sealed) == (0, 0, True)
    assert export_topic() == "Ruby: "
    assert drain(app) == 0


def test_s0_5_an_empty_split_without_a_compose_completes(app: Piecework) -> None:
    @app.split
    def nothing() -> Iterator[Piece[str]]:
        yield from ()

    job = nothing.later()
    drain(app)
    assert job.state is State.COMPLETED
    assert job.result(timeout=0) is None is nothing()


# ── S0-11 ────────────────────────────────────────────────────────────────────────────────────────


def forum(app: Piecework, ran: Counter[str], lock: threading.Lock) -> Any:
    def count(what: str) -> None:
        with lock:
            ran[what] += 1

    @app.task
    def post(topic: str, n: int) -> str:
        count("leaf")
        return f"{topic}{n}"

    @app.split
    def topic(name: str) -> Iterator[Piece[str]]:
        count("topic split")
        for n in range(3):
            yield post.piece(name, n)

    @topic.compose
    def join_topic(pieces: Pieces[str], name: str) -> str:
        count("topic compose")
        return f"{name}({','.join(pieces.results())})"

    @app.split
    def forum() -> Iterator[Piece[str]]:
        count("forum split")
        for name in "ab":
            yield topic.piece(name)

    @forum.compose
    def join_forum(pieces: Pieces[str]) -> str:
        count("forum compose")
        return "+".join(pieces.results())

    return forum


ONCE_EACH = {"leaf": 6, "topic split": 2, "topic compose": 2, "forum split": 1, "forum compose": 1}
ANSWER = "a(a0,a1,a2)+b(b0,b1,b2)"


def test_s0_11_a_split_of_splits_runs_every_part_once(app: Piecework) -> None:
    ran: Counter[str] = Counter()
    job = forum(app, ran, threading.Lock()).later()
    with app.worker(concurrency=8):
        assert job.result(timeout=30) == ANSWER
    assert ran == ONCE_EACH
    assert drain(app) == 0
    below = app.store.find(Filter(root=job.id), limit=100)
    assert len(below) == 8
    assert {record.state for record in below} == {State.COMPLETED}


def test_s0_11_the_same_now(app: Piecework) -> None:
    ran: Counter[str] = Counter()
    assert forum(app, ran, threading.Lock())() == ANSWER
    assert ran == ONCE_EACH


def test_s0_11_the_error_tree_is_reached_from_the_root(app: Piecework) -> None:
    @app.task(attempts=1)
    def leaf(n: int) -> int:
        raise ValueError(f"bad leaf {n}")

    @app.split
    def inner(n: int) -> Iterator[Piece[int]]:
        yield leaf.using(key=f"leaf-{n}").piece(n)

    @app.split
    def outer() -> Iterator[Piece[Any]]:
        yield inner.piece(1)
        yield inner.piece(2)

    job = outer.later()
    drain(app)
    assert job.state is State.FAILED
    tree = job.errors()
    assert tree is not None
    assert [node.key for node in tree.pieces] == ["0", "1"]
    leaves = [leaf for node in tree.pieces for leaf in node.pieces]
    assert [(leaf.key, leaf.error and leaf.error.message) for leaf in leaves] == [
        ("leaf-1", "bad leaf 1"),
        ("leaf-2", "bad leaf 2"),
    ]
    assert all(leaf.error and "raise ValueError" in leaf.error.traceback for leaf in leaves)
