"""The pools of one worker, behind one face: who runs what, who is stuck, and what no pool has room for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.engine.pool import Inbox, LoopPool, ThreadPool
from piecework.engine.process import PoolSettings
from piecework.engine.processes import ProcessPool
from piecework.engine.runner import Runner, outcome_of, too_late
from piecework.engine.slate import Slate
from piecework.errortext import MAX_TRACEBACK, clean
from piecework.outcome import Errored, Failed, Outcome, Park, Release

log = logging.getLogger("piecework.worker")

NO_POOL = (
    "this worker cannot start processes for pool='process': the app is not a module-level name of a module that another "
    "process could import; run it with: piecework work MODULE:APP"
)
CROWDED = Release("every process of this worker has its job", quiet=True)


class Pools:
    """Threads, and an event loop and processes where jobs need them."""

    def __init__(
        self,
        runner: Runner,
        inbox: Inbox,
        clock: Clock,
        *,
        concurrency: int,
        slate: Slate | None,
        processes: PoolSettings | None,
    ) -> None:
        self._runner = runner
        self._inbox = inbox
        self._clock = clock
        self._concurrency = concurrency
        self._slate = slate
        self._settings = processes
        runner.has_processes = processes is not None
        self._threads = ThreadPool(runner, inbox, concurrency, slate)
        self._loop: LoopPool | None = None
        self._processes: ProcessPool | None = None
        self.crowded = False  # among the last jobs that came were some for which no process was free

    # ── in ───────────────────────────────────────────────────────────────────────────────────────

    def submit(self, jobs: Sequence[Running]) -> None:
        """Gives each job to its pool. What no pool takes goes to the inbox with the reason."""
        self.crowded = False
        threads: list[Running] = []
        loop: list[Running] = []
        processes: list[Running] = []
        for job in jobs:
            assert job.spec is not None
            kind = processes if self.is_for_processes(job) else loop if job.is_async else threads
            kind.append(job)
        if threads:
            self._threads.submit(threads)
        if loop:
            self._loop = self._loop or LoopPool(self._runner, self._inbox, self._concurrency, self._slate)
            self._loop.submit(loop)
        if processes:
            self._submit_to_processes(processes)

    @staticmethod
    def is_for_processes(job: Running) -> bool:
        return job.options is not None and job.options.pool == "process"

    def _submit_to_processes(self, jobs: list[Running]) -> None:
        if self._settings is None:
            for job in jobs:
                self._inbox.put((job, Park(NO_POOL)))
            return
        self._processes = self._processes or ProcessPool(
            self._settings, self._inbox, self._clock, lambda: self._runner.begin_until
        )
        for job in self._processes.submit(jobs):
            self.crowded = True
            self._inbox.put((job, CROWDED))

    def has_room_again(self) -> bool:
        """Whether a process has become free since jobs had to be handed back for want of one."""
        if self._processes is not None and self._processes.room() > 0:
            self.crowded = False
        return not self.crowded

    def backlog(self) -> int:
        """Jobs in line behind others in threads and on the loop; those that wait for processes are few, and may wait."""
        return self._threads.backlog() + (self._loop.backlog() if self._loop is not None else 0)

    def linger(self, seconds: float, company: int) -> None:
        """Waits while jobs are in line behind others in threads, until so many have ended, or a little while is over."""
        self._threads.linger(seconds, company)

    def take_back(self, *, processes: bool) -> list[Running]:
        """The jobs that have not been begun; none of them will be."""
        back = self._threads.take_back()
        if self._loop is not None:
            back += self._loop.take_back()
        if processes and self._processes is not None:
            back += self._processes.take_back()
        return back

    # ── what does not end ────────────────────────────────────────────────────────────────────────

    def stop(self, job: Running) -> None:
        """Passes on that a job should stop, where it cannot see so for itself."""
        if self._processes is not None and job.options is not None and job.options.pool == "process":
            self._processes.stop(job)
        elif self._loop is not None and job.is_async:
            self._loop.cancel(job)

    def abandon_late(self) -> list[tuple[Running, Outcome]]:
        """Gives up what is stuck past its timeout; the places go to others. What that comes to, with where they are."""
        late = self._threads.abandon_late()
        if self._loop is not None:
            self._loop.report_blocked()
            late += self._loop.abandon_late()
        return [(job, _stuck(job, stack)) for job, stack in late]

    def stuck(self) -> int:
        """How many threads and coroutines were given up and still run."""
        return self._threads.stuck() + (self._loop.stuck() if self._loop is not None else 0)

    def is_blocked(self) -> bool:
        """Whether the event loop is held by a job that has been given up: nothing on it will ever go on by itself."""
        return self._loop is not None and self._loop.is_held()

    def close(self) -> None:
        self._threads.close()
        if self._loop is not None:
            self._loop.close()
        if self._processes is not None:
            self._processes.close()


def _stuck(job: Running, stack: str) -> Outcome:
    outcome = outcome_of(too_late(job), job)
    log.error(
        "job %s (%s) did not end at its timeout; it is given up, its place is given to others, and it is at\n%s",
        job.job.id,
        job.job.task,
        stack,
    )
    if not isinstance(outcome, Errored | Failed):
        return outcome
    error = outcome.error
    told = type(error)(error.type, f"{error.message}, and does not stop", clean(stack, MAX_TRACEBACK))
    return Errored(told, outcome.retry) if isinstance(outcome, Errored) else Failed(told)
