"""Which job is taken next, when, and how many: order, times, queues, keys, and what is fetched ahead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import books, until

import piecework
from piecework import Piecework
from piecework.engine.foresight import Foresight
from piecework.errors import BadOption, Duplicate
from piecework.testing.drain import drain


@pytest.fixture
def ran(app: Piecework) -> list[Any]:
    """What the task `note` was called with, in the order of the calls."""
    return []


@pytest.fixture
def note(app: Piecework, ran: list[Any]) -> Any:
    @app.task(name="note")
    def note(what: str) -> None:
        ran.append(what)

    return note


# ── order ────────────────────────────────────────────────────────────────────────────────────────


def test_lower_priority_runs_sooner_and_within_it_the_earlier_arrival(
    app: Piecework, note: Any, ran: list[Any]
) -> None:
    for n, priority in enumerate([5, 0, -3, 5, 0, -3]):
        note.using(priority=priority).later(f"{priority}/{n}")
    drain(app, concurrency=1)
    assert ran == ["-3/2", "-3/5", "0/1", "0/4", "5/0", "5/3"]


def test_priority_counts_across_queues(app: Piecework, note: Any, ran: list[Any]) -> None:
    for n, priority in enumerate([5, 0, -3, 4, 1, -2]):
        note.using(priority=priority, queue="ab"[n % 2]).later(str(priority))
    drain(app, concurrency=1)
    assert ran == ["-3", "-2", "0", "1", "4", "5"]


# ── times ────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_is_not_due_is_left(app: Piecework, note: Any, ran: list[Any], path: Path) -> None:
    note.using(delay=3600).later("in an hour")
    note.using(at=datetime.now(UTC) + timedelta(days=1), priority=-9).later("tomorrow")
    note.using(at=datetime.now(UTC) - timedelta(days=1)).later("yesterday")
    assert drain(app) == 1
    assert ran == ["yesterday"]
    assert app.store.next_due() == pytest.approx(3600, abs=30)
    assert books(path) == []


def test_delayed_jobs_are_started_by_an_idle_worker_when_they_are_due_and_not_before(app: Piecework) -> None:
    begun: dict[float, float] = {}

    @app.task(name="t")
    def note(delay: float) -> None:
        begun[delay] = time.time()

    delays = [0.3, 0.7, 1.2]
    with app.worker(concurrency=2):
        jobs = {delay: note.using(delay=delay).later(delay) for delay in delays}
        until(lambda: len(begun) == 3, lambda: f"all have begun: {begun}", within=5)
    for delay, job in jobs.items():
        late = begun[delay] - job.run_at.timestamp()
        assert 0 <= late < 1.5


def test_a_delayed_job_is_started_while_the_worker_is_busy_with_others(app: Piecework) -> None:
    gate = threading.Event()

    @app.task(name="block")
    def block() -> None:
        gate.wait(10)

    @app.task(name="t")
    def quick() -> str:
        return "done"

    with app.worker(concurrency=2):
        blocked = block.later()
        until(lambda: blocked.state == "running", "it blocks")
        began = time.monotonic()
        assert quick.using(delay=0.3).later().result(timeout=5) == "done"
        assert 0.3 <= time.monotonic() - began < 2.0
        gate.set()


# ── unique keys ──────────────────────────────────────────────────────────────────────────────────


def test_a_unique_key_is_carried_by_one_unfinished_job_and_free_again_after_it(
    app: Piecework, note: Any, ran: list[Any], path: Path
) -> None:
    first = note.using(key="only one").later("first")
    assert note.using(key="only one").later("second") == first
    with pytest.raises(Duplicate) as caught:
        note.using(key="only one", on_duplicate="raise").later("third")
    assert caught.value.job_id == first.id
    drain(app)
    assert note.using(key="only one").later("fourth") != first
    drain(app)
    assert ran == ["first", "fourth"]
    assert books(path) == []


def test_a_unique_key_is_held_while_its_job_runs_and_between_its_attempts(app: Piecework) -> None:
    gate, inside = threading.Event(), threading.Event()

    @app.task(name="t", attempts=2, retry=3600)
    def fails() -> None:
        inside.set()
        gate.wait(10)
        raise ValueError

    keyed = fails.using(key="k")
    job = keyed.later()
    with app.worker(concurrency=1):
        assert inside.wait(5)
        assert keyed.later() == job
        gate.set()
        until(lambda: job.state == "available", "it waits for its next attempt")
        assert keyed.later() == job
    job.cancel()
    assert keyed.later() != job


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def test_a_paused_queue_is_left_alone_until_it_is_resumed(app: Piecework, note: Any, ran: list[Any]) -> None:
    app.store.pause("slow")
    note.using(queue="slow").later("slow")
    note.using(queue="fast").later("fast")
    drain(app)
    assert ran == ["fast"]
    with app.worker(concurrency=1):
        app.store.pause("slow", on=False)
        until(lambda: ran == ["fast", "slow"], "the resumed queue is worked off", within=3)


def test_a_worker_for_some_queues_takes_nothing_from_the_others(app: Piecework, note: Any, ran: list[Any]) -> None:
    for queue in ("mail", "video", "default"):
        note.using(queue=queue).later(queue)
    assert app.worker(concurrency=1, queues=["mail", "video"], burst=True).run() == 2
    assert ran == ["mail", "video"]
    with pytest.raises(BadOption, match="queue name"):
        app.worker(queues=["a b"])


def test_the_compose_of_a_split_runs_in_its_own_queue(app: Piecework) -> None:
    @app.task(name="leaf", queue="leaves")
    def leaf(n: int) -> int:
        return n

    @app.split(name="t", queue="splits")
    def split(n: int) -> Any:
        for k in range(n):
            yield leaf.piece(k)

    @split.compose(queue="composes", priority=-5)
    def joined(pieces: Any, n: int) -> int:
        return sum(pieces.results())

    job = split.later(3)
    assert app.worker(queues=["splits", "leaves"], burst=True).run() == 4
    assert (job.state, job.record().queue, job.record().priority) == ("available", "composes", -5)
    assert app.worker(queues=["composes"], burst=True).run() == 1
    assert job.result(timeout=0) == 3


# ── ahead ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_short_jobs_behind_long_ones_are_handed_back_to_a_second_worker_unspent(
    app: Piecework, path: Path, concurrency: int, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short ones before the long ones make the worker fetch ahead; those handed back tell it nothing of their speed."""
    import asyncio

    learn, learnt = Foresight.learn, []

    def note(self: Foresight, ended: int) -> None:
        learnt.append(ended)
        learn(self, ended)

    monkeypatch.setattr(Foresight, "learn", note)
    gate, inside = threading.Event(), []
    where: dict[int, int] = {}

    def plain_long() -> None:
        inside.append(1)
        gate.wait(20)

    async def async_long() -> None:
        inside.append(1)
        await asyncio.to_thread(gate.wait, 20)

    def plain_short(n: int) -> None:
        where[n] = where.get(n, 0) + 1

    async def async_short(n: int) -> None:
        where[n] = where.get(n, 0) + 1

    long: Any = app.task(name="long")(plain_long if colour == "def" else async_long)
    short: Any = app.task(name="short")(plain_short if colour == "def" else async_short)
    short.later_many([(n,) for n in range(2000)])
    held = long.later_many([()] * concurrency)
    behind = short.later_many([(n,) for n in range(2000, 2600)])
    with app.worker(concurrency=concurrency):
        until(lambda: len(inside) == concurrency, "the long ones run")
        until(lambda: app.jobs.where(state="running").count() == concurrency, "only those are held", within=5)
        with app.worker(concurrency=2):
            until(lambda: all(job.state == "completed" for job in behind), "the second worker does the rest", within=10)
        assert {job.state for job in held} == {"running"}
        gate.set()
    assert set(where.values()) == {1}
    assert {job.record().attempt for job in behind} == {1}
    lines = [line for job in behind for line in job.attempts()]
    assert {(line.outcome, line.attempt, line.reason) for line in lines} == {
        ("released", 0, "the jobs before it took long")
    }
    assert sum(learnt) == 2600 + concurrency
    assert books(path) == []


def test_a_burst_after_an_idle_time_is_not_handed_back_at_once(app: Piecework, path: Path) -> None:
    """Jobs of 20 ms are not stuck, however long ago the last job ended."""

    @app.task(name="quick")
    def quick() -> None:
        pass

    @app.task(name="steady")
    def steady() -> None:
        time.sleep(0.02)

    with app.worker(concurrency=2):
        first = quick.later_many([()] * 3000)
        until(lambda: all(job.state == "completed" for job in first[-5:]) and first[0].state == "completed")
        until(lambda: app.jobs.where(state="completed").count() == 3000, "the short ones are done")
        ended = time.monotonic()
        until(lambda: time.monotonic() - ended > 0.5, "the worker was idle")
        jobs = steady.later_many([()] * 40)
        until(lambda: app.jobs.where(state="completed").count() == 3040, "the others are done")
    released = [line for job in jobs for line in job.attempts()]
    assert released == []


def test_what_is_fetched_ahead_never_exceeds_its_bound(app: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "piecework.engine.foresight.MAX_AHEAD", 50
    )  # far below what the speed of these jobs would ask for
    held: list[int] = []
    real = app.store.exchange

    def counted(settlements: Any, claim: Any) -> Any:
        answers, jobs = real(settlements, claim)
        settled = len(settlements)
        held.append((held[-1] if held else 0) - settled + len(jobs))
        return answers, jobs

    app.store.exchange = counted  # type: ignore[method-assign]

    @app.task(name="quick")
    def quick() -> None:
        pass

    quick.later_many([()] * 10_000)
    drain(app, concurrency=4)
    assert app.jobs.where(state="completed").count() == 10_000
    assert max(held) == 54


def test_slow_jobs_are_not_fetched_ahead(app: Piecework) -> None:
    """Two that end at nearly the same time do not make the worker believe that they are short."""
    held: list[int] = []

    @app.task(name="slow")
    def slow(seconds: float) -> None:
        held.append(app.jobs.where(state="running").count())
        time.sleep(seconds)

    slow.later_many([(0.1 + 0.004 * (n % 2),) for n in range(24)])
    drain(app, concurrency=2)
    assert max(held) <= 4


# ── hints ────────────────────────────────────────────────────────────────────────────────────────

ENQUEUE = """
import sys, time
from piecework import Piecework
app = Piecework(sys.argv[1])
@app.task(name="t")
def t(at: float) -> None: ...
app.store.counts()
for line in sys.stdin:
    t.later(time.time())
    print("stored", flush=True)
"""


def test_what_another_process_enqueues_starts_well_within_the_poll_interval(app: Piecework, store_url: str) -> None:
    late: list[float] = []

    @app.task(name="t")
    def note(at: float) -> None:
        late.append(time.time() - at)

    source = str(Path(piecework.__file__).parent.parent)
    other = subprocess.Popen(
        [sys.executable, "-c", ENQUEUE, store_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": source},
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None
    with other, app.worker(concurrency=2):
        for n in range(1, 11):
            other.stdin.write("one\n")
            other.stdin.flush()
            assert other.stdout.readline() == "stored\n"
            until(lambda n=n: len(late) == n, "it has started", within=5)  # type: ignore[misc]
        other.stdin.close()
    assert sorted(late)[5] < 0.1  # polling alone would take half a second on average
    assert max(late) < 0.9


def test_with_hints_switched_off_everything_still_runs(app: Piecework, note: Any, ran: list[Any]) -> None:
    lost = threading.Event()

    def no_hint(timeout: float) -> bool:
        lost.set()
        threading.Event().wait(timeout)
        return False

    app.store.wait = no_hint  # type: ignore[method-assign]
    with app.worker(concurrency=1):
        assert lost.wait(5)
        for n in range(3):
            note.later(str(n))
            until(lambda n=n: len(ran) == n + 1, "a poll found it", within=3)  # type: ignore[misc]


@pytest.mark.parametrize(
    "shelf", ["sqlite"]
)  # where a transaction that writes nothing holds up nobody, it may begin one
def test_an_idle_worker_writes_nothing_but_its_beat(app: Piecework, path: Path) -> None:
    """Otherwise idle workers would keep everybody else's writes waiting."""
    commits = 0
    real = app.store.db.write  # type: ignore[attr-defined]

    def counted(**how: Any) -> Any:
        nonlocal commits
        commits += 1
        return real(**how)

    looks = []
    real_exchange = app.store.exchange
    app.store.exchange = lambda s, c: (looks.append(1), real_exchange(s, c))[1]  # type: ignore[func-returns-value, method-assign]
    with app.worker(concurrency=2):
        until(lambda: looks, "it has looked")
        app.store.renew = lambda *_, **__: True  # type: ignore[method-assign]
        app.store.db.write = counted  # type: ignore[attr-defined]
        until(lambda: len(looks) >= 4, "it has looked three times more", within=6)
        assert commits == 0
