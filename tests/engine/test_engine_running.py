"""While a job runs: its progress, its cancellation, its context; and how many run at a time."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import books, until

from piecework import Pieces, Piecework, Progress, current
from piecework.errors import BadArguments, JobCancelled, UsageError
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here is the worker's own, whatever the store


# ── progress ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_progress_can_be_read_while_the_job_runs_and_afterwards(app: Piecework, colour: str) -> None:
    gates = [threading.Event() for _ in range(2)]

    def plain() -> None:
        current.progress(3, 10, "third")
        gates[0].wait(10)
        current.progress(4.5)
        gates[1].wait(10)

    async def coroutine() -> None:
        current.progress(3, 10, "third")
        await asyncio.to_thread(gates[0].wait, 10)
        current.progress(4.5)
        await asyncio.to_thread(gates[1].wait, 10)

    task: Any = app.task(name="t")(plain if colour == "def" else coroutine)
    job = task.later()
    with app.worker(concurrency=2):
        until(lambda: job.progress == Progress(3, 10, "third"), "the first report", within=3)
        assert job.state == "running"
        gates[0].set()
        until(lambda: job.progress == Progress(4.5), "the second report", within=3)
        gates[1].set()
        job.result(timeout=5)
    assert job.progress == Progress(4.5)


def test_progress_refuses_what_is_no_number_and_does_nothing_outside_of_a_job(app: Piecework) -> None:
    for bad in (-1, float("nan"), True, "3"):
        with pytest.raises(BadArguments, match="progress"):
            current.progress(bad)  # type: ignore[arg-type]
    current.progress(1, 2)
    current.check()
    assert (current.inside, current.cancelled) == (False, False)
    with pytest.raises(UsageError, match="does not run in a job"):
        _ = current.id


def test_a_job_knows_itself(app: Piecework) -> None:
    @app.task(name="t", queue="mail", attempts=3, retry=0)
    def tell() -> list[Any]:
        if current.attempt == 1:
            raise ValueError
        return [current.inside, current.id, current.attempt, current.run, current.queue]

    job = tell.later()
    drain(app)
    assert job.result(timeout=0) == [True, job.id, 2, 2, "mail"]


# ── cancelling ───────────────────────────────────────────────────────────────────────────────────


def test_a_running_function_that_checks_is_cancelled(app: Piecework, path: Path) -> None:
    begun = threading.Event()

    @app.task(name="t", attempts=5, retry=0)
    def checks() -> None:
        begun.set()
        until(lambda: current.check(), "the check raises")

    job = checks.later()
    with app.worker(concurrency=1):
        assert begun.wait(5)
        assert job.cancel("no longer wanted")
        until(lambda: job.state == "cancelled", "cancelled", within=3)
    record = job.record()
    assert (record.run, record.attempt, record.stopping) == (1, 0, False)
    assert [line.outcome for line in job.attempts()] == ["cancelled"]
    with pytest.raises(JobCancelled, match="cancelled"):
        job.result(timeout=0)
    assert books(path) == []


def test_a_running_function_may_ask_whether_it_was_cancelled_and_end_well(app: Piecework, path: Path) -> None:
    begun = threading.Event()

    @app.task(name="t")
    def asks() -> str:
        begun.set()
        until(lambda: current.cancelled, "asked to stop")
        return "what I had"

    job = asks.later()
    with app.worker(concurrency=1):
        assert begun.wait(5)
        job.cancel()
        assert job.result(timeout=3) == "what I had"
    assert books(path) == []


def test_a_running_function_that_fails_after_being_asked_to_stop_is_not_tried_again(app: Piecework, path: Path) -> None:
    begun = threading.Event()

    @app.task(name="t", attempts=9, retry=0)
    def fails() -> None:
        begun.set()
        until(lambda: current.cancelled, "asked to stop")
        raise ValueError("interrupted work")

    job = fails.later()
    with app.worker(concurrency=1):
        assert begun.wait(5)
        job.cancel("no longer wanted")
        until(lambda: job.state == "cancelled", lambda: f"cancelled: {job.record()}", within=3)
    record = job.record()
    assert (record.run, record.reason) == (1, "no longer wanted")
    assert books(path) == []


def test_a_running_coroutine_gets_a_cancelled_error(app: Piecework, path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    @app.task(name="t", attempts=5, retry=0)
    async def sleeps() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    job = sleeps.later()
    with app.worker(concurrency=1):
        assert begun.wait(5)
        job.cancel()
        until(lambda: job.state == "cancelled", "cancelled", within=3)
    assert ended.is_set()
    assert [line.outcome for line in job.attempts()] == ["cancelled"]
    assert books(path) == []


def test_a_coroutine_that_raises_a_cancelled_error_of_its_own_has_failed(app: Piecework) -> None:
    @app.task(name="t", attempts=1)
    async def gives_up() -> None:
        raise asyncio.CancelledError("nobody asked")

    job = gives_up.later()
    drain(app)
    assert (job.state, job.error.type if job.error else None) == ("failed", "asyncio.exceptions.CancelledError")


def test_a_pending_job_that_is_cancelled_never_starts(app: Piecework, path: Path) -> None:
    ran: list[int] = []

    @app.task(name="t")
    def note(n: int) -> None:
        ran.append(n)

    jobs = [note.later(n) for n in range(3)]
    scheduled = note.using(delay=3600).later(3)
    assert jobs[1].cancel("by hand")
    assert scheduled.cancel()
    assert not jobs[1].cancel()
    drain(app)
    assert ran == [0, 2]
    assert [job.state for job in (*jobs, scheduled)] == ["completed", "cancelled", "completed", "cancelled"]
    assert jobs[1].record().reason == "by hand"
    assert books(path) == []


def test_a_waiting_split_that_is_cancelled_takes_its_pieces_along(app: Piecework, path: Path) -> None:
    ran: list[int] = []
    gate = threading.Event()

    @app.task(name="piece")
    def piece(n: int) -> int:
        ran.append(n)
        until(lambda: gate.is_set() or current.check(), "the gate opens")
        return n

    @app.split(name="split")
    def split(n: int) -> Any:
        for k in range(n):
            yield piece.piece(k)

    @split.compose
    def joined(pieces: Pieces[int], n: int) -> int:
        ran.append(-1)
        return sum(pieces.results())

    job = split.later(50)
    with app.worker(concurrency=2):
        until(lambda: len(ran) == 2 and job.state == "waiting", "two pieces run")
        assert job.cancel("enough")
        until(lambda: app.jobs.where(state="cancelled").count() == 51, lambda: str(app.jobs.counts()), within=4)
    assert len(ran) == 2
    assert job.batch is not None
    assert (job.batch.state, job.batch.open, job.batch.cancelled) == ("stopped", 0, 50)
    assert books(path) == []


# ── at the same time ─────────────────────────────────────────────────────────────────────────────


def test_coroutines_run_at_the_same_time_on_one_loop_up_to_the_concurrency(app: Piecework) -> None:
    inside, most, threads = 0, 0, set()

    @app.task(name="t")
    async def meet(all_of: int) -> None:
        nonlocal inside, most
        threads.add(threading.get_ident())
        inside += 1
        most = max(most, inside)
        end = time.monotonic() + 5
        while most < all_of and time.monotonic() < end:
            await asyncio.sleep(0.001)
        inside -= 1

    jobs = meet.later_many([(8,)] * 40)
    drain(app, concurrency=8)
    assert {job.state for job in jobs} == {"completed"}
    assert (most, len(threads)) == (8, 1)


def test_functions_run_at_the_same_time_up_to_the_concurrency(app: Piecework) -> None:
    barrier = threading.Barrier(4)
    inside, most, lock = 0, 0, threading.Lock()

    @app.task(name="t")
    def meet() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        barrier.wait(5)
        with lock:
            inside -= 1

    jobs = meet.later_many([()] * 40)
    drain(app, concurrency=4)
    assert {job.state for job in jobs} == {"completed"}
    assert (most, barrier.broken) == (4, False)


def test_a_function_that_blocks_does_not_keep_coroutines_from_running(app: Piecework) -> None:
    gate = threading.Event()

    @app.task(name="block")
    def block() -> None:
        gate.wait(10)

    @app.task(name="quick")
    async def quick(n: int) -> int:
        return n

    blocked = block.later()
    with app.worker(concurrency=2):
        until(lambda: blocked.state == "running", "it blocks")
        assert [quick.later(n).result(timeout=5) for n in range(3)] == [0, 1, 2]
        assert blocked.state == "running"
        gate.set()
        blocked.result(timeout=5)


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_context_variables_do_not_leak_from_job_to_job_nor_into_the_caller(
    app: Piecework, colour: str, concurrency: int
) -> None:
    def plain(n: int) -> str:
        before = seen.get()
        seen.set(f"set by {n}")
        return before

    async def coroutine(n: int) -> str:
        before = seen.get()
        seen.set(f"set by {n}")
        await asyncio.sleep(0)
        assert seen.get() == f"set by {n}"
        return before

    task: Any = app.task(name="t")(plain if colour == "def" else coroutine)
    jobs = task.later_many([(n,) for n in range(30)])
    drain(app, concurrency=concurrency)
    assert [job.result(timeout=0) for job in jobs] == ["nothing"] * 30
    assert seen.get() == "nothing"
    assert not current.inside


def test_a_job_that_enqueues_and_waits_for_another_sees_itself_afterwards(app: Piecework) -> None:
    @app.task(name="inner")
    def inner() -> str:
        return current.id

    @app.task(name="outer")
    def outer() -> list[str]:
        before = current.id
        found = inner.later().result(timeout=5)
        return [before, found, current.id]

    job = outer.later()
    drain(app, concurrency=2)
    before, found, after = job.result(timeout=0)
    assert before == after == job.id != found


# ── two apps ─────────────────────────────────────────────────────────────────────────────────────


def test_two_apps_live_in_one_process_and_do_not_mix(app: Piecework, tmp_path: Path) -> None:
    other = Piecework(f"sqlite:///{tmp_path}/other.db")

    @app.task(name="same")
    def one() -> str:
        return "one"

    @other.task(name="same")
    def two() -> str:
        return "two"

    with app.worker(concurrency=1), other.worker(concurrency=1):
        jobs = [one.later(), two.later(), one.later(), two.later()]
        assert [job.result(timeout=5) for job in jobs] == ["one", "two", "one", "two"]
    assert (app.jobs.where(state="completed").count(), other.jobs.where(state="completed").count()) == (2, 2)
    other.close()


# ── splits, in process ───────────────────────────────────────────────────────────────────────────


def test_a_split_that_is_run_later_gives_what_it_gives_now(app: Piecework, path: Path) -> None:
    @app.task(name="leaf")
    async def leaf(word: str, n: int) -> str:
        return f"{word}{n}"

    @app.split(name="inner")
    def inner(word: str) -> Any:
        for n in range(3):
            yield leaf.piece(word, n)

    @inner.compose
    def inner_joined(pieces: Pieces[str], word: str) -> str:
        return "+".join(pieces.results())

    @app.split(name="outer")
    def outer(words: list[str]) -> Any:
        for word in words:
            yield inner.piece(word)

    @outer.compose
    def outer_joined(pieces: Pieces[str], words: list[str]) -> list[str]:
        return list(pieces.results())

    for words in ([], ["a"], ["x", "y", "z"]):
        job = outer.later(words)
        drain(app)
        assert job.result(timeout=0) == outer(words)
    assert books(path) == []


def test_a_splitter_that_raises_half_way_and_is_retried_makes_no_piece_twice(app: Piecework, path: Path) -> None:
    """The first bite is in the store when it raises; the others run while it waits."""

    @app.task(name="leaf")
    def leaf(n: int) -> int:
        return n

    @app.split(name="t", attempts=3, retry=0)
    def split(n: int) -> Any:
        for k in range(n):
            if current.inside and current.attempt == 1 and k == 70:
                raise ValueError("half way")
            yield leaf.piece(k)

    @split.compose
    def joined(pieces: Pieces[int], n: int) -> int:
        return sum(pieces.results())

    job = split.later(120)
    drain(app)
    assert job.result(timeout=0) == sum(range(120))
    assert job.batch is not None
    assert (job.batch.total, app.jobs.where(task="leaf").count()) == (120, 120)
    assert [line.outcome for line in job.attempts()] == ["retry"]
    assert {piece.record().run for piece in job.pieces()} == {1}
    assert books(path) == []


def test_what_a_splitter_may_not_yield_fails_it_with_the_fix(app: Piecework) -> None:
    @app.split(name="t", attempts=1)
    def split() -> Any:
        yield 5

    job = split.later()
    drain(app)
    assert job.error is not None
    assert "yield some_task.piece(…)" in job.error.message


def test_pieces_of_a_failed_fast_batch_do_not_start_any_more(app: Piecework, path: Path) -> None:
    ran: list[int] = []

    @app.task(name="leaf", attempts=1)
    def leaf(n: int) -> int:
        ran.append(n)
        if n == 0:
            raise ValueError("bad piece")
        return n

    @app.split(name="t", on_failure="fail_fast")
    def split(n: int) -> Any:
        for k in range(n):
            yield leaf.piece(k)

    @split.compose
    def joined(pieces: Pieces[int], n: int) -> int:
        raise AssertionError("composed without a piece")

    job = split.later(40)
    drain(app, concurrency=1)
    assert job.state == "failed"
    assert job.error is not None
    assert "piece 0 failed: ValueError: bad piece" in job.error.message
    assert len(ran) < 40
    assert app.jobs.where(state="cancelled").count() == 40 - len(ran)
    assert books(path) == []
