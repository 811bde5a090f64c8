"""S0-12: what cannot be right is refused at the call; what turned out wrong fails, and says what."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework import Piece, Pieces, Piecework
from piecework.errors import BadArguments, JobFailed, SplitChanged, UnknownTask
from piecework.job import State
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it, and after


@pytest.fixture
def foreign() -> Piece[int]:
    """A piece of a task that is registered elsewhere."""
    other = Piecework("sqlite://:memory:")

    @other.task(name="elsewhere")
    def elsewhere(n: int) -> int:
        return n

    return elsewhere.piece(1)


def test_s0_12_a_piece_of_an_unregistered_task_is_refused_now(app: Piecework, foreign: Piece[int]) -> None:
    @app.split
    def whole() -> Iterator[Piece[int]]:
        yield foreign

    with pytest.raises(UnknownTask, match="elsewhere"):
        whole()


def test_s0_12_a_piece_of_an_unregistered_task_fails_the_splitter_and_is_not_stored(
    app: Piecework, foreign: Piece[int]
) -> None:
    """Stored, it would be parked, and the split would wait for it for ever."""

    @app.split(attempts=1)
    def whole() -> Iterator[Piece[int]]:
        yield foreign

    job = whole.later()
    drain(app)
    assert job.state is State.FAILED
    assert job.error is not None
    assert "elsewhere" in job.error.message
    assert list(job.pieces()) == []


def test_s0_12_a_piece_of_an_unregistered_task_is_refused_by_a_batch(app: Piecework, foreign: Piece[int]) -> None:
    with app.batch() as batch, pytest.raises(UnknownTask, match="elsewhere"):
        batch.add(foreign)


def test_s0_12_an_unregistered_continuation_is_refused(app: Piecework, foreign: Piece[int]) -> None:
    with pytest.raises(UnknownTask, match="elsewhere"):
        app.batch(then=foreign)


@pytest.mark.parametrize("bad", ["text", None, 0, ("task", 1), object])
def test_s0_12_what_is_no_piece_is_refused_with_the_fix(app: Piecework, bad: Any) -> None:
    @app.split(attempts=1)
    def whole() -> Iterator[Any]:
        yield bad

    with pytest.raises(BadArguments, match=r"whole yielded .*piece\("):
        whole()
    job = whole.later()
    drain(app)
    with pytest.raises(JobFailed, match=r"whole yielded .*piece\("):
        job.result(timeout=0)
    with app.batch() as batch, pytest.raises(BadArguments, match=r"piece\("):
        batch.add(bad)


def test_s0_12_a_job_in_place_of_a_piece_is_refused(app: Piecework) -> None:
    """A splitter that writes `.later` where it means `.piece`."""

    @app.task
    def part() -> None: ...

    @app.split(attempts=1)
    def whole() -> Iterator[Any]:
        yield part.later()

    job = whole.later()
    drain(app)
    with pytest.raises(JobFailed, match=r"yielded Job .*yield some_task\.piece\("):
        job.result(timeout=0)


def test_s0_12_bad_arguments_of_a_piece_fail_the_splitter_where_they_are_given(app: Piecework) -> None:
    @app.task
    def part(n: int) -> None: ...

    @app.split(attempts=1)
    def whole() -> Iterator[Piece[None]]:
        yield part.piece("no int")  # type: ignore[arg-type]

    job = whole.later()
    drain(app)
    with pytest.raises(JobFailed, match="BadArguments.*argument n"):
        job.result(timeout=0)
    assert list(job.pieces()) == []


def test_s0_12_a_target_that_was_deleted_fails_its_piece_and_is_named(app: Piecework) -> None:
    posts = {1: "a", 2: "b"}

    @app.task(attempts=1)
    def export_post(id: int) -> str:
        if id not in posts:
            raise LookupError(f"there is no post {id}")
        return posts[id]

    @app.split
    def export() -> Iterator[Piece[str]]:
        for id in list(posts):
            yield export_post.using(queue="posts").piece(id)

    @export.compose
    def join(pieces: Pieces[str]) -> str:
        return "".join(pieces.results())

    app.store.pause("posts")
    job = export.later()
    drain(app)
    del posts[2]
    app.store.pause("posts", on=False)
    drain(app)
    with pytest.raises(JobFailed, match="piece 1 failed: LookupError: there is no post 2"):
        job.result(timeout=0)


def test_s0_12_a_key_that_is_offered_twice_is_refused_now_and_later_in_the_same_words(app: Piecework) -> None:
    @app.task
    def part() -> None: ...

    @app.split(attempts=1)
    def whole() -> Iterator[Piece[None]]:
        yield part.using(key="a").piece()
        yield part.using(key="a").piece()

    with pytest.raises(SplitChanged) as refused:
        whole()
    job = whole.later()
    drain(app)
    assert job.error is not None
    assert job.error.message == str(refused.value)
    assert "'a'" in str(refused.value)


def test_s0_12_a_key_that_looks_like_another_pieces_place_is_a_key_of_its_own_or_refused(app: Piecework) -> None:
    """The key of a piece without one is its ordinal: "1" may then be two pieces."""

    @app.task
    def part(n: int) -> int:
        return n

    @app.split(attempts=1)
    def whole() -> Iterator[Piece[int]]:
        yield part.using(key="1").piece(0)
        yield part.piece(1)

    @whole.compose
    def join(pieces: Pieces[int]) -> list[str]:
        return [key for key, _ in pieces.items()]

    def answer(run: Any) -> Any:
        try:
            return run()
        except Exception as error:
            return type(error).__name__

    def later() -> Any:
        job = whole.later()
        drain(app)
        assert job.state.finished
        if job.error is not None:
            return job.error.type.rpartition(".")[2]
        return job.result(timeout=0)

    assert answer(whole) == answer(later)


def test_s0_12_a_task_that_nobody_registered_is_kept_and_runs_once_somebody_does(
    app: Piecework, tmp_path: Path
) -> None:
    caller = Piecework(app.settings.url)

    @caller.task(name="renamed")
    def before(n: int) -> int: ...  # type: ignore[empty-body]

    job = before.later(7)
    drain(app)
    assert job.state is State.PARKED
    assert "renamed" in str(job.record().reason)

    @app.task(name="renamed")
    def after(n: int) -> int:
        return n

    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == 7
    caller.close()


@pytest.mark.parametrize("shelf", ["sqlite"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", None),
        ("state", "complete"),
        ("state", ""),
        ("task", None),
        ("args", None),
        ("queue", None),
        ("run_at", "soon"),
    ],
)
def test_s0_12_the_schema_rejects_a_job_that_cannot_be(app: Piecework, tmp_path: Path, column: str, value: Any) -> None:
    @app.task
    def part() -> None: ...

    job = part.later()
    with sqlite3.connect(tmp_path / "jobs.db") as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"UPDATE piecework_job SET {column} = ? WHERE id = ?", (value, job.id))


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_s0_12_the_schema_rejects_a_second_piece_at_one_place(app: Piecework, tmp_path: Path) -> None:
    @app.task
    def part() -> None: ...

    @app.split
    def whole() -> Iterator[Piece[None]]:
        yield part.piece()
        yield part.piece()

    job = whole.later()
    drain(app)
    with sqlite3.connect(tmp_path / "jobs.db") as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE piecework_job SET ordinal = 0 WHERE batch = ?", (job.id,))
