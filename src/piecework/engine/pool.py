"""Where functions run inside a worker process: a pool of threads for `def`, a resident event loop for `async def`.

Both put (running, outcome) into one inbox, and the worker cannot tell them apart. A thread cannot be killed, and a
coroutine may swallow its cancellation: what does not end in time is abandoned, its place is given to another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.engine.runner import Runner
from piecework.engine.slate import Slate
from piecework.outcome import Outcome, Release

log = logging.getLogger("piecework.worker")

FLUSH = 1000  # ended jobs that are settled without waiting for more, while the pool goes on with the next
STUCK_SECONDS = 1.0  # after its timeout, how long a job may take to notice before it is abandoned
BLOCKED_SECONDS = 2.0  # how long the event loop may not answer before that is reported

Ended = tuple[Running, Outcome]


class Inbox:
    """What the worker waits for: ended runs, and nudges (a hint, a stop)."""

    def __init__(self) -> None:
        self.items: deque[Ended] = deque()
        self._asleep = False
        self._event = threading.Event()

    def put(self, item: Ended) -> None:
        self.items.append(item)
        if self._asleep:  # waking costs more than a no-op job; only a sleeper is woken
            self._asleep = False
            self._event.set()

    def nudge(self) -> None:
        """Wakes the worker, whatever it waits for."""
        self._asleep = False
        self._event.set()

    def wait(self, timeout: float) -> None:
        """Sleeps until something is there, a nudge, or the time is over."""
        self._asleep = True
        if not self.items:
            self._event.wait(timeout)
        self._asleep = False
        self._event.clear()

    def take(self) -> list[Ended]:
        """What has ended, without what was abandoned before it did."""
        taken = []
        while self.items:
            item = self.items.popleft()
            if not item[0].abandoned:
                taken.append(item)
        return taken


def emptied(line: deque[Running]) -> list[Running]:
    """Takes everything out of a line from which another thread takes, too."""
    taken = []
    while True:
        try:
            taken.append(line.pop())
        except IndexError:
            return taken


class ThreadPool:
    """Threads that take jobs from one line, each for the place that it owns."""

    def __init__(self, runner: Runner, inbox: Inbox, size: int, slate: Slate | None = None) -> None:
        self._run = runner.run
        self._clock = runner.clock
        self._slate = slate
        self._inbox = inbox
        self._jobs: SimpleQueue[Running | None] = SimpleQueue()
        self._company = FLUSH  # after how many ends it is time for a trip, though others are in line …
        self._enough = threading.Event()  # … which this says
        self._now: list[Running | None] = [None] * size
        self._terms = [0] * size  # a thread holds its place for one term; the next begins when it is given up
        self._threads: list[threading.Thread] = []
        self._lost: list[threading.Thread] = []  # they were given up, and may still run
        self._giving_up = threading.Lock()  # either a late job ends, or it is given up
        for place in range(size):
            self._threads.append(self._start(place))

    def _start(self, place: int) -> threading.Thread:
        term = self._terms[place]
        thread = threading.Thread(target=self._serve, args=(place, term), name=f"piecework-{place}", daemon=True)
        thread.start()
        return thread

    def submit(self, jobs: Iterable[Running]) -> None:
        put = self._jobs.put
        for job in jobs:
            put(job)

    def backlog(self) -> int:
        """Jobs that no thread has begun."""
        return self._jobs.qsize()

    def linger(self, seconds: float, company: int) -> None:
        """Waits until so many jobs have ended and are in the inbox, or none is in line; no longer than so many seconds."""
        self._company = company
        self._enough.clear()
        if self.backlog() and len(self._inbox.items) < company:
            self._enough.wait(seconds)

    def take_back(self) -> list[Running]:
        """The jobs that no thread has begun; none of them will be."""
        taken = []
        try:
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    taken.append(job)
        except Empty:
            return taken

    def abandon_late(self) -> list[tuple[Running, str]]:
        """Gives up the jobs that are well past their timeout, each with the stack of where it is; others take their places."""
        now = self._clock.monotonic()
        late = []
        for place, job in enumerate(self._now):
            if job is not None and is_stuck(job, now):
                stack = self._give_up(place, job)
                if stack is not None:
                    late.append((job, stack))
        return late

    def _give_up(self, place: int, job: Running) -> str | None:
        """Gives a place to another thread; the stack of the one that had it, None where that has just ended its job."""
        with self._giving_up:
            if self._now[place] is not job:
                return None
            owner = self._threads[place]
            job.abandoned = True
            stack = stack_of(owner)
            self._lost.append(owner)
            self._now[place] = None
            if self._slate is not None:
                self._slate.clear(place)  # it is settled: what its thread does from now on is charged to nobody
            self._terms[place] += 1
            self._threads[place] = self._start(place)
            return stack

    def stuck(self) -> int:
        """How many threads were given up and still run."""
        self._lost = [thread for thread in self._lost if thread.is_alive()]
        return len(self._lost)

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _serve(self, place: int, term: int) -> None:
        get, put, empty, run, slate = self._jobs.get, self._inbox.put, self._jobs.empty, self._run, self._slate
        getpid, pid = os.getpid, os.getpid()
        enough, ended, now, terms, giving_up = self._enough, self._inbox.items, self._now, self._terms, self._giving_up
        while (job := get()) is not None:
            if slate is not None:
                slate.write(place, job.job.id, _until(job, self._clock))
            now[place] = job
            outcome = run(job)
            if getpid() != pid:
                leave_copy()
            if job.deadline is None:
                now[place] = None
            else:
                with giving_up:
                    if terms[place] != term:
                        return  # given up long ago: the place is another thread's, and nobody waits for this outcome
                    now[place] = None
            put((job, outcome))
            if slate is not None:
                slate.clear(place)
            if not enough.is_set() and (empty() or len(ended) >= self._company):
                enough.set()


class LoopPool:
    """One thread with an event loop; at most `size` coroutines at a time, the others wait in line."""

    def __init__(self, runner: Runner, inbox: Inbox, size: int, slate: Slate | None = None) -> None:
        self._run_async = runner.run_async
        self._clock = runner.clock
        self._slate = slate
        self._places = deque(range(size, 2 * size))  # the first `size` are the threads'
        self._inbox = inbox
        self._line: deque[Running] = deque()
        self._now: dict[int, Running] = {}  # by place
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: list[Running] = []
        self._asked_at: float | None = None  # when the loop was asked for a sign of life that it has not given
        self._reported = False
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="piecework-loop", daemon=True)
        self._thread.start()

    def submit(self, jobs: Iterable[Running]) -> None:
        self._line.extend(jobs)
        self._loop.call_soon_threadsafe(self._start)

    def backlog(self) -> int:
        return len(self._line)

    def take_back(self) -> list[Running]:
        return emptied(self._line)

    def cancel(self, job: Running) -> None:
        """Cancels the coroutine of a job that runs on the loop."""
        self._loop.call_soon_threadsafe(self._cancel, job)

    def blocked_for(self) -> float:
        """How long the loop has not answered, in seconds; asks it for the next sign of life."""
        now = self._clock.monotonic()
        if self._asked_at is None:
            self._asked_at, self._reported = now, False
            self._loop.call_soon_threadsafe(self._answer)
            return 0.0
        return now - self._asked_at

    def is_held(self) -> bool:
        """Whether the loop does not answer because a job that was given up holds it."""
        return self.blocked_for() > STUCK_SECONDS and any(job.abandoned for job in list(self._now.values()))

    def report_blocked(self) -> None:
        """Says once for each time that the loop is blocked, by which code."""
        seconds = self.blocked_for()
        if seconds >= BLOCKED_SECONDS and not self._reported:
            self._reported = True
            log.warning(
                "the event loop has been blocked for %.1f s, and with it every async job of this process; it is at\n%s",
                seconds,
                stack_of(self._thread),
            )

    def abandon_late(self) -> list[tuple[Running, str]]:
        """Gives up the jobs that swallowed their cancellation, or that block the loop past their timeout."""
        now = self._clock.monotonic()
        late = []
        for place, job in list(self._now.items()):
            if is_stuck(job, now):
                job.abandoned = True
                late.append((job, stack_of(self._thread) if self.blocked_for() > STUCK_SECONDS else _stack(job)))
                self._lost.append(job)
                if self._slate is not None:
                    self._slate.clear(place)  # it is settled: what it does from now on is charged to nobody
                self._loop.call_soon_threadsafe(self._let_go, place, job)
        return late

    def stuck(self) -> int:
        """How many coroutines were given up and still run."""
        self._lost = [job for job in self._lost if not job.task.done()]
        return len(self._lost)

    def close(self) -> None:
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)

    # ── on the loop's own thread ─────────────────────────────────────────────────────────────────

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException:  # SystemExit of a task that a job left behind goes through everything
                log.exception("the event loop was broken by a task that a job had started; it goes on")
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _answer(self) -> None:
        self._asked_at = None

    def _start(self) -> None:
        while self._places:
            try:
                job = self._line.popleft()
            except IndexError:
                return
            place = self._places.popleft()
            task = self._loop.create_task(self._one(place, job), context=Context())
            job.task = task
            self._now[place] = job
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, place, job))

    async def _one(self, place: int, job: Running) -> None:
        job.begun = True
        if self._slate is not None:
            self._slate.write(place, job.job.id, _until(job, self._clock))
        pid = os.getpid()
        outcome = await self._run_async(job)
        if os.getpid() != pid:
            leave_copy()
        self._let_go(place, job)
        self._inbox.put((job, outcome))

    def _done(self, place: int, job: Running, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not job.begun:  # cancelled by other code before its first step: it never runs at all
            self._let_go(place, job)
            self._inbox.put((job, Release("its coroutine was cancelled before it began")))

    def _let_go(self, place: int, job: Running) -> None:
        """A place is free again, unless it was given to another already."""
        if self._now.get(place) is not job:
            return
        del self._now[place]
        if self._slate is not None:
            self._slate.clear(place)
        self._places.append(place)
        self._start()

    @staticmethod
    def _cancel(job: Running) -> None:
        # A task that is cancelled before its first step never runs at all, and would leave no outcome.
        if job.task is not None and job.begun:
            job.task.cancel()


def leave_copy() -> NoReturn:
    """The job forked, and this is the copy of its process, at the job's end: the outcome is the original's to tell."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the job closed it
            continue
    os._exit(0)


def _until(job: Running, clock: Clock) -> float:
    """Until when a job may run; the supervisor looks at it, should this process not be able to."""
    if job.options is None or job.options.timeout is None:
        return 0.0
    return clock.monotonic() + job.options.timeout


def is_stuck(job: Running, now: float) -> bool:
    """Whether a job is so far past its timeout that it will not be waited for."""
    return not job.abandoned and job.deadline is not None and now > job.deadline + STUCK_SECONDS


def stack_of(thread: threading.Thread) -> str:
    """Where a thread is, as a traceback, from the job's own code on."""
    frames = traceback.extract_stack(sys._current_frames().get(thread.ident or 0))
    own = [n for n, entry in enumerate(frames) if "/piecework/engine/" in entry.filename]
    return _formatted(frames[own[-1] + 1 :] if own else frames)


def _stack(job: Running) -> str:
    """Where a coroutine is, down through what it awaits."""
    frames = []
    awaited: Any = job.task.get_coro() if job.task is not None else None
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        frames.append((frame, frame.f_lineno))
        awaited = awaited.cr_await
    found = traceback.StackSummary.extract(iter(frames))
    return _formatted([entry for entry in found if "/piecework/engine/" not in entry.filename])


def _formatted(frames: list[traceback.FrameSummary]) -> str:
    return "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames))
