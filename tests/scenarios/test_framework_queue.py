"""What one expects of a framework for background jobs: calls with options, limits, a queue that can be asked, order."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from support import is_redis, opened

from piecework import Job, Piecework, State, current, fixed
from piecework.errors import BadArguments, BadOption, TooLarge, UsageError
from piecework.job import NewJob
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]
SENT: list[tuple[int, str, str]] = []


class User:
    """A model that is rebuilt from its key."""

    def __init__(self, id: int) -> None:
        self.id = id

    def send_heavy_report(self, name: str, fmt: str = "txt") -> None:
        SENT.append((self.id, name, fmt))


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    SENT.clear()


# ── S3-1: a proxy of any object ──────────────────────────────────────────────────────────────────


def test_s3_1_any_method_later_with_options(app: Piecework) -> None:
    app.task(name="User")(User)
    user = User(7)
    delayed = app.using(priority=5, queue="low", attempts=7)
    job = delayed.later(user.send_heavy_report, "x", fmt="pdf")
    record = job.record()
    assert (record.priority, record.queue, json.loads(record.options or "")) == (5, "low", {"attempts": 7})
    assert app.jobs.where().count() == 1
    assert SENT == []
    drain(app)
    assert SENT == [(7, "x", "pdf")]


@pytest.mark.elsewhere(shelf=())
def test_s3_1_what_cannot_be_is_refused_at_the_call(app: Piecework) -> None:
    app.task(name="User")(User)
    user = User(7)
    with pytest.raises(AttributeError):
        app.later(user.send_hevay_report, "x")  # type: ignore[attr-defined]
    with pytest.raises(BadArguments):
        app.later(user.send_heavy_report)  # type: ignore[call-arg]
    for option in ("max_attempts", "run_at", "attempt"):
        with pytest.raises(TypeError, match=f"unknown option '{option}'"):
            app.using(**{option: 7})  # type: ignore[arg-type]
    assert app.jobs.where().count() == 0


# ── S3-2: limits ─────────────────────────────────────────────────────────────────────────────────


def test_s3_2_three_attempts_a_minute_apart(app: Piecework, leaping: LeapingClock) -> None:
    started: list[float] = []

    @app.task(attempts=3, retry=fixed(60))
    def always_fails() -> None:
        started.append(leaping.now())
        raise ConnectionError("no")

    job = always_fails.later()
    for _ in range(5):
        drain(app)
        assert drain(app) == 0, "before its time is over, nothing runs"
        leaping.leap(60)
    assert [round((at - started[0]) / 60) for at in started] == [0, 1, 2]
    assert all(at - before >= 60 for before, at in itertools.pairwise(started))
    assert job.state is State.FAILED
    assert [(line.outcome, line.error and line.error.message) for line in job.attempts()] == [
        ("retry", "no"),
        ("retry", "no"),
        ("failed", "no"),
    ]


def test_s3_2_only_what_is_listed_is_tried_again(app: Piecework) -> None:
    errors: Iterator[Exception] = iter([TimeoutError("once"), ValueError("not listed"), AssertionError("never")])

    @app.task(attempts=7, retry=0, retry_on=TimeoutError)
    def fails() -> None:
        raise next(errors)

    job = fails.later()
    drain(app)
    assert (job.state, len(job.attempts())) == (State.FAILED, 2)
    assert job.error is not None
    assert job.error.message == "not listed"


# ── S3-3: monitored with the queries one has ─────────────────────────────────────────────────────


def test_s3_3_failures_of_a_queue_are_counted(app: Piecework, path: Path | str) -> None:
    @app.task(attempts=1)
    def fails() -> None:
        raise ValueError("no")

    for queue in ("toxic", "elsewhere", "toxic"):
        fails.using(queue=queue).later()
    drain(app)
    failed = app.jobs.where(queue="toxic", state="failed")
    assert failed.count() == 2
    assert [job.queue for job in failed] == ["toxic", "toxic"]
    if not is_redis(path):  # where there is SQL, a monitor that knows no more than that counts them, too
        with opened(path) as con:
            sql = "SELECT count(*) FROM piecework_job WHERE queue = ? AND state = ? AND finished_at IS NOT NULL"
            assert con.execute(sql, ("toxic", "failed")).fetchone()[0] == 2
    assert app.jobs.counts()["toxic", "failed"] == 2


# ── S3-4: inspected without being changed ────────────────────────────────────────────────────────


def test_s3_4_a_queue_is_peeked_at(app: Piecework) -> None:
    @app.task(queue="low")
    def update_metrics(n: int) -> None: ...

    for n in (5, 9, 3, 3, 9, 3):
        update_metrics.later(n)
    low = app.jobs.where(queue="low")
    before = [job.record() for job in low]
    assert [job.arguments["n"] for job in low.page(limit=10)] == [5, 9, 3, 3, 9, 3]
    second = low.page(limit=2)[-1]
    assert [job.arguments["n"] for job in low.page(after=second.id, limit=2)] == [3, 3]
    assert [job.arguments["n"] for job in low.page(limit=2, newest=True)] == [3, 9]
    assert type(low.page(limit=1)) is type(low.page(limit=6)) is list
    first = low.first()
    assert first is not None
    assert first.arguments == {"n": 5}
    assert [job.record() for job in low] == before
    assert low.count() == 6


def test_s3_4_thousands_are_searched_by_what_they_are_about(app: Piecework, leaping: LeapingClock) -> None:
    """A queue of thousands: by tag, by identity, by time, by state; and acted on."""

    @app.task(queue="imports", tags="import", identity="shop", attempts=1)
    def import_shop(shop: str, n: int) -> None:
        if shop == "acme" and n % 100 == 0:
            raise ValueError(f"row {n}")

    import_shop.later_many([(("acme", "duff", "ink")[n % 3], n) for n in range(2000)])
    night = import_shop.using(tags=["nightly", "import"]).later_many([("acme", 100), ("duff", 100)])
    leaping.leap(3600)
    begun = datetime.fromtimestamp(leaping.now(), UTC)
    late = import_shop.later("acme", 1)
    assert app.jobs.where(tags="import").count() == 2003
    assert list(app.jobs.where(tags="nightly")) == night
    assert list(app.jobs.where(tags=["import", "nightly"], identity="acme")) == night[:1]
    assert list(app.jobs.where(identity="acme", created_after=begun)) == [late]
    assert app.jobs.where(tags="import", created_before=begun).count() == 2002
    drain(app, concurrency=10)
    failed = app.jobs.where(identity="acme", state="failed", finished_after=begun)
    rows = [n for n in range(0, 2000, 100) if n % 3 == 0]
    assert sorted(job.arguments["n"] for job in failed) == sorted([*rows, 100])
    assert failed.count() == len(rows) + 1
    assert app.jobs.where(tags="nightly", state="failed").retry() == 1
    assert app.jobs.where(tags="import", finished_after=begun + timedelta(days=1)).count() == 0
    assert app.jobs.where(tags="import", state="completed").delete() == 2003 - len(rows) - 1


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize(
    "asked",
    [
        {"state": "broken"},
        {"created_after": "yesterday"},
        {"created_before": datetime(2026, 1, 1)},
        {"finished_after": 7},
        {"tags": [7]},
        {"identity": object()},
        {"identity": "x" * 301},
    ],
    ids=lambda asked: "-".join([*asked, *(type(value).__name__ for value in asked.values())]),
)
def test_s3_4_what_cannot_be_searched_for(app: Piecework, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        app.jobs.where(**asked)


# ── S3-10: poison ────────────────────────────────────────────────────────────────────────────────


def test_s3_10_what_cannot_run_is_kept_and_the_others_go_on(app: Piecework) -> None:
    @app.task
    def fine(n: int) -> int:
        return n

    app.store.migrate()
    stored = (
        ("unknown", "no.such.Class", "{}"),
        ("truncated", fine.name, '{"n": 1'),
        ("wrong", fine.name, '{"n": "seven"}'),
        ("fit", fine.name, '{"n":1}'),
    )
    unknown, truncated, wrong, fit = app.store.add([NewJob(*job) for job in stored])
    drain(app)
    states = [record.state for record in app.store.get([unknown, truncated, wrong, fit])]
    assert states == [State.PARKED, State.PARKED, State.PARKED, State.COMPLETED]
    assert all(record.reason for record in app.store.get([unknown, truncated, wrong]))


def test_s3_10_what_is_too_large_is_refused_at_the_call(store_url: str) -> None:
    app = Piecework(store_url, max_payload=65_536)

    @app.task
    def task(text: str) -> None: ...

    with pytest.raises(TooLarge, match=r"limit is 65,536"):
        task.later("x" * 65_536)
    app.store.migrate()
    assert app.jobs.where().count() == 0
    app.close()


# ── S3-11: order ─────────────────────────────────────────────────────────────────────────────────


def test_s3_11_lower_priorities_first_and_equals_by_time(app: Piecework) -> None:
    ran: list[str] = []

    @app.task
    def task(name: str) -> None:
        ran.append(name)

    for name, priority in (("ten", 10), ("zero", 0), ("five", 5), ("five again", 5)):
        task.using(priority=priority).later(name)
    drain(app, concurrency=1)
    assert ran == ["zero", "five", "five again", "ten"]


def test_s3_11_a_paused_queue_starts_nothing(app: Piecework) -> None:
    ran: list[str] = []

    @app.task
    def task(name: str) -> None:
        ran.append(name)

    app.jobs.pause("low")
    task.using(queue="low").later("low")
    task.using(queue="high").later("high")
    drain(app)
    assert ran == ["high"]
    app.jobs.unpause("low")
    drain(app)
    assert ran == ["high", "low"]


# ── S3-12: load, in a time of its own: a tick is a second, and nothing sleeps ────────────────────


class Shop:
    """Six purchases a second, seven seconds each: a purchase ends when it is seven ticks old."""

    ARRIVALS, LASTS = 6, 7

    def __init__(self, app: Piecework, slots: int, until: Until) -> None:
        self.slots, self._until = slots, until
        self._done: dict[int, threading.Event] = {}
        self._running: dict[int, int] = {}  # purchase -> the tick in which it began
        self._lock = threading.Lock()
        self._closed = False  # what begins now, because it had been fetched ahead, ends at once
        self.tick, self.ended, self.arrived = 0, 0, 0
        self.queue = app.jobs.where(queue="shop", state="available")
        self.runs: Counter[int] = Counter()

        @app.task(name="purchase", queue="shop", attempts=1)
        def purchase(n: int) -> None:
            done = threading.Event()
            with self._lock:
                self._done[n], self._running[n] = done, self.tick
                self.runs[n] += 1
            assert self._closed or done.wait(60)

        self._purchase = purchase

    def in_flight(self) -> int:
        with self._lock:
            return len(self._running)

    def second(self) -> int:
        """One second goes by; how many purchases wait in line at its end."""
        self.tick += 1
        with self._lock:
            over = [n for n, begun in self._running.items() if self.tick - begun >= self.LASTS]
            for n in over:
                del self._running[n]
        for n in over:
            self._done[n].set()
        self.ended += len(over)
        self._purchase.later_many([(self.arrived + n,) for n in range(self.ARRIVALS)])
        self.arrived += self.ARRIVALS
        inside = self.arrived - self.ended
        self._until(lambda: self.in_flight() == min(self.slots, inside))
        return inside - self.in_flight()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._running.clear()
            ended = list(self._done.values())
        for done in ended:
            done.set()


def run_shop(app: Piecework, slots: list[int], seconds: int, until: Until) -> tuple[list[int], Shop, dict[str, Any]]:
    """How many wait after each second, on five workers; and what the queue's latency metric says in the end."""
    shop = Shop(app, sum(slots), until)
    workers = [app.worker(concurrency=n, queues=["shop"], name=f"machine-{k}") for k, n in enumerate(slots)]
    for worker in workers:
        worker.__enter__()
    try:
        waiting = [shop.second() for _ in range(seconds)]
        seen = _at_rest(app, shop, waiting[-1], until)
    finally:
        app.jobs.where(queue="shop", state="available").cancel()
        shop.close()
        for worker in workers:
            worker.__exit__(None, None, None)
    return waiting, shop, {"oldest_due": seen.oldest_due, "running": seen.counts.get("running", 0)}


def _at_rest(app: Piecework, shop: Shop, waiting: int, until: Until) -> Any:
    """The queue as it is told when what was fetched ahead is handed back, and what ended is settled."""
    seen: list[Any] = []

    def look() -> bool:
        seen[:] = [queue for queue in app.jobs.queues() if queue.name == "shop"]
        counts = seen[0].counts
        return (counts.get("running", 0), counts.get("available", 0)) == (shop.in_flight(), waiting)

    until(look)
    return seen[0]


def test_s3_12_forty_two_slots_hold_the_shop_steady(app: Piecework, until: Until) -> None:
    """6 a second × 7 seconds are 42 in flight: nobody waits, however long it goes on."""
    waiting, shop, seen = run_shop(app, [9, 9, 8, 8, 8], 28, until)
    assert waiting == [0] * 28
    assert seen == {"oldest_due": None, "running": 42}
    assert set(shop.runs.values()) == {1}
    assert len(shop.runs) == 28 * 6


def test_s3_12_with_forty_the_line_grows_and_is_seen_to(app: Piecework, until: Until) -> None:
    waiting, _, seen = run_shop(app, [8] * 5, 35, until)
    assert waiting[:6] == [0] * 6
    ends = waiting[6::7]  # as the seconds of a purchase go by, the line is two longer each time
    assert ends == [2 * n for n in range(1, len(ends) + 1)]
    assert seen["oldest_due"] is not None
    assert seen["running"] == 40


def test_s3_12_the_wait_is_told_in_seconds(app: Piecework, leaping: LeapingClock) -> None:
    @app.task(queue="shop")
    def purchase() -> None: ...

    purchase.later()
    leaping.leap(42)
    (seen,) = app.jobs.queues()
    assert seen.oldest_due is not None
    assert 42 <= seen.oldest_due < 60


def test_a_job_knows_what_it_was_given(app: Piecework) -> None:
    @app.task(tags=["a", "b"], identity="n")
    def task(n: int) -> int:
        return current.attempt

    job: Job[int] = task.using(tags=["b", "c"]).later(7)
    assert (job.arguments, job.identity, job.tags) == ({"n": 7}, "7", ("a", "b", "c"))
    with pytest.raises(BadOption, match="printable"):
        task.using(tags=["a\nb"])
