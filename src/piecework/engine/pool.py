"""Where functions run inside a worker: a pool of threads for `def`, a resident event loop for `async def`.

Both put (running, outcome) into one inbox, and the worker cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from queue import Empty, SimpleQueue

from piecework.engine.context import Running
from piecework.engine.runner import Runner
from piecework.engine.slate import Slate
from piecework.outcome import Outcome

FLUSH = 1000  # ended jobs that are settled without waiting for more, while the pool goes on with the next

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
        taken = []
        while self.items:
            taken.append(self.items.popleft())
        return taken


class ThreadPool:
    """Threads that take jobs from one line."""

    def __init__(self, runner: Runner, inbox: Inbox, size: int, slate: Slate | None = None) -> None:
        self._run = runner.run
        self._slate = slate
        self._inbox = inbox
        self._jobs: SimpleQueue[Running | None] = SimpleQueue()
        self.enough = threading.Event()  # set when the line is empty, or many have ended: it is time for a trip
        self._threads = [
            threading.Thread(target=self._serve, args=(n,), name=f"piecework-{n}", daemon=True) for n in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Iterable[Running]) -> None:
        put = self._jobs.put
        for job in jobs:
            put(job)

    def backlog(self) -> int:
        """Jobs that no thread has begun."""
        return self._jobs.qsize()

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

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _serve(self, slot: int) -> None:
        get, put, empty, run, slate = self._jobs.get, self._inbox.put, self._jobs.empty, self._run, self._slate
        enough, ended = self.enough, self._inbox.items
        while (job := get()) is not None:
            if slate is not None:
                slate.write(slot, job.job.id)
            put((job, run(job)))
            if slate is not None:
                slate.clear(slot)
            if not enough.is_set() and (empty() or len(ended) >= FLUSH):
                enough.set()


class LoopPool:
    """One thread with an event loop; at most `size` coroutines at a time, the others wait in line."""

    def __init__(self, runner: Runner, inbox: Inbox, size: int, slate: Slate | None = None) -> None:
        self._run_async = runner.run_async
        self._slate = slate
        self._slots = deque(range(size, 2 * size))  # the first `size` are the threads'
        self._inbox = inbox
        self._size = size
        self._line: deque[Running] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="piecework-loop", daemon=True)
        self._thread.start()

    def submit(self, jobs: Iterable[Running]) -> None:
        self._line.extend(jobs)
        self._loop.call_soon_threadsafe(self._start)

    def backlog(self) -> int:
        return len(self._line)

    def take_back(self) -> list[Running]:
        taken = []
        while True:
            try:
                taken.append(self._line.pop())
            except IndexError:
                return taken

    def cancel(self, job: Running) -> None:
        """Cancels the coroutine of a job that runs on the loop."""
        self._loop.call_soon_threadsafe(self._cancel, job)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _start(self) -> None:
        while len(self._tasks) < self._size:
            try:
                job = self._line.popleft()
            except IndexError:
                return
            task = self._loop.create_task(self._one(job))
            job.task = task
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _one(self, job: Running) -> None:
        job.begun = True
        slot = self._slots.popleft()
        if self._slate is not None:
            self._slate.write(slot, job.job.id)
        self._inbox.put((job, await self._run_async(job)))
        if self._slate is not None:
            self._slate.clear(slot)
        self._slots.append(slot)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    @staticmethod
    def _cancel(job: Running) -> None:
        # A task that is cancelled before its first step never runs at all, and would leave no outcome.
        if job.task is not None and job.begun:
            job.task.cancel()
