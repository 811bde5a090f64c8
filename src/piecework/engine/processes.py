"""Processes that run one job at a time each, for `pool="process"`: other cores, and a timeout that kills.

The worker keeps the job and its fence; a process gets the arguments and gives back an outcome, and never talks to the
store about the job, but for the status that it sets. So whatever ends a process ends one job, and is that job's
failure.
"""

from __future__ import annotations

import logging
import math
import selectors
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.engine.exits import exit_in_words
from piecework.engine.mending import keep_standard_streams
from piecework.engine.pool import Inbox, emptied
from piecework.engine.process import MAX_TRACE, PoolSettings, Process
from piecework.engine.runner import TOO_LATE, outcome_of, too_late
from piecework.engine.wire import Begun, Ready, Said, Stop
from piecework.errors import ProcessDied
from piecework.errortext import clean
from piecework.outcome import Cancelled, Errored, Failed, Outcome, Release

log = logging.getLogger("piecework.processes")

TRACE_SECONDS = 0.25  # between the timeout, when `current.check()` raises and the stack is written down, and the kill
RESPITE = 1.0, 30.0  # how long to wait after a process that did not come as far as to be ready, at first and at most


class ProcessPool:
    """Up to `size` processes, started when there is work for them, and one thread that minds them."""

    def __init__(
        self, settings: PoolSettings, inbox: Inbox, clock: Clock, begin_until: Callable[[], float] = lambda: math.inf
    ) -> None:
        self._settings = settings
        self._begin_until = begin_until
        self._inbox = inbox
        self._clock = clock
        self._line: deque[Running] = deque()
        self._to_stop: deque[Running] = deque()
        self._processes: list[Process] = []
        self._failures = 0  # processes in a row that were never ready
        self._start_at = 0.0
        self._closing = False
        self._listen_anew()
        self._thread = threading.Thread(target=self._serve, name="piecework-processes", daemon=True)
        self._thread.start()

    # ── for the worker ───────────────────────────────────────────────────────────────────────────

    def submit(self, jobs: Iterable[Running]) -> list[Running]:
        """Takes jobs, as many as may wait for a process; returns the others."""
        left = []
        for job in jobs:
            if self.room() > 0:
                self._line.append(job)
            else:
                left.append(job)
        self._nudge()
        return left

    def room(self) -> int:
        """How many more jobs would be taken: one for each process, and as many to wait for them."""
        busy = sum(process.job is not None for process in list(self._processes))
        return 2 * self._settings.size - busy - len(self._line)

    def take_back(self) -> list[Running]:
        """The jobs that no process has begun; none of them will be."""
        return emptied(self._line)

    def stop(self, job: Running) -> None:
        """Asks a job to stop; when its grace is over, its process is killed."""
        self._to_stop.append(job)
        self._nudge()

    def close(self) -> None:
        """Ends every process, also one that is at work."""
        self._closing = True
        self._nudge()
        self._thread.join()
        self._wake.close()
        self._waker.close()

    # ── the thread that minds them ───────────────────────────────────────────────────────────────

    def _nudge(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:  # it has been woken often enough; or it is listening anew, and looks at everything then
            return

    def _listen_anew(self) -> None:
        keep_standard_streams()
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:  # a job of a thread has closed handles that were not its own
                log.exception(
                    "the processes of this worker cannot be minded any more; they are killed, and others started"
                )
                self._begin_anew()
        for process in self._processes:
            process.kill()
            process.bury()
        self._processes.clear()
        self._selector.close()

    def _begin_anew(self) -> None:
        """Ends every process; the job of each goes back, for it is not to blame."""
        broken, self._processes = self._processes, []
        for end in (self._wake, self._waker):
            end.detach()  # not closed: the number may be somebody else's by now
        for process in broken:
            process.kill()
            try:
                process.bury()
            except OSError:
                log.debug("a handle of process %d had been closed by somebody else", process.popen.pid)
            if process.job is not None:
                self._inbox.put((process.job, Release("its process was killed, because its worker could not mind it")))
        self._listen_anew()

    def _turn(self) -> None:
        self._ask_to_stop()
        self._assign()
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj is self._wake:
                self._wake.recv(4096)
            else:
                key.data.go_on_saying()
                self._hear(key.data)
        self._press()

    def _patience(self) -> float:
        now = self._clock.monotonic()
        times = [at for process in self._processes if (at := process.next_deadline()) is not None]
        if self._line and self._start_at > now:
            times.append(self._start_at)
        return max(0.0, min(times) - now) if times else 5.0

    def _ask_to_stop(self) -> None:
        while self._to_stop:
            job = self._to_stop.popleft()
            for process in self._processes:
                if process.job is job and not process.asked:
                    process.asked = True
                    process.say(Stop(job.job.id))
                    assert job.options is not None
                    self._kill_by(process, self._clock.monotonic() + job.options.grace)
            try:
                self._line.remove(job)
            except ValueError:  # it has begun, or the worker took it back
                continue
            self._inbox.put((job, Cancelled("it was cancelled before it started")))

    def _assign(self) -> None:
        """Gives the jobs in line to processes that are free, and starts further ones for the rest."""
        if self._line and self._clock.monotonic() > self._begin_until():
            for job in self.take_back():  # it may be somebody else's by now
                self._inbox.put((job, Release(TOO_LATE)))
        for process in self._processes:
            if process.ready and process.job is None and self._line:
                try:
                    process.begin(self._line.popleft(), self._clock.monotonic())
                except IndexError:  # the worker took it back
                    return
        coming = sum(not process.ready for process in self._processes)
        wanted = min(len(self._line) - coming, self._settings.size - len(self._processes))
        if wanted > 0 and self._clock.monotonic() >= self._start_at:
            try:
                for _ in range(wanted):
                    self._start()
            except OSError as error:  # no handle, no memory, or no process is to be had
                self._could_not_start(str(error))
        for process in self._processes:
            self._selector.modify(process.socket, process.wants, process)

    def _start(self) -> None:
        process = Process(self._settings)
        self._processes.append(process)
        self._selector.register(process.socket, process.wants, process)

    def _hear(self, process: Process) -> None:
        try:
            data = process.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone(process)
            return
        try:
            messages = process.frames.feed(data)
        except msgspec.MsgspecError:  # a job wrote on a socket that it did not open
            log.error("process %d does not keep to the protocol; it is killed", process.popen.pid)
            self._gone(process, kill=True)
            return
        for message in messages:
            if isinstance(message, Ready):
                process.ready = True
                self._failures = 0
            elif isinstance(message, Begun):
                process.begun = True
            elif isinstance(message, Said):
                if process.job is not None and process.job.job.id == message.id:
                    process.job.progress = message.progress
            else:
                self._finish(process, message.outcome)
                self._retire(process, message.memory)

    def _finish(self, process: Process, outcome: Outcome) -> None:
        job, process.job, process.kill_at = process.job, None, None
        if job is not None:
            self._inbox.put((job, outcome))

    def _retire(self, process: Process, memory: int) -> None:
        """Lets a process go that has run enough jobs, or holds too much memory; another takes its place."""
        limits = self._settings
        if limits.max_memory is not None and memory > limits.max_memory:
            log.info("process %d holds %d MB; another takes its place", process.popen.pid, memory >> 20)
        elif limits.max_jobs is None or process.jobs < limits.max_jobs:
            return
        self._gone(process, kill=True)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    def _press(self) -> None:
        """Writes down where a late job is, and kills what is past its time."""
        now = self._clock.monotonic()
        for process in list(self._processes):
            job = process.job
            if job is not None and job.deadline is not None and now >= job.deadline and not process.traced:
                process.write_trace()
                self._kill_by(process, now + TRACE_SECONDS)
            if process.kill_at is not None and now >= process.kill_at:
                self._gone(process, kill=True)

    @staticmethod
    def _kill_by(process: Process, at: float) -> None:
        process.kill_at = at if process.kill_at is None else min(process.kill_at, at)

    def _gone(self, process: Process, *, kill: bool = False) -> None:
        """A process has ended, or has to; its job, if it had one, ends with it."""
        if kill:
            process.kill()
        self._processes.remove(process)
        self._selector.unregister(process.socket)
        trace, job, never_ready = process.read_trace(), process.job, not process.ready
        code = process.bury()
        if job is not None:
            self._inbox.put((job, self._why(process, job, code, trace)))
        elif never_ready and not kill:
            self._could_not_start(exit_in_words(code))

    def _why(self, process: Process, job: Running, code: int, trace: str) -> Outcome:
        assert job.options is not None
        if process.asked:
            return Cancelled(f"it was asked to stop, and its process was killed {job.options.grace:g} s later")
        if not process.begun:  # what an earlier job left behind, or somebody from outside
            return Release(f"its process ended before it had begun: {exit_in_words(code)}")
        if process.traced:
            return _with_trace(outcome_of(too_late(job), job), trace)
        log.warning("process %d ended with job %s: %s", process.popen.pid, job.job.id, exit_in_words(code))
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        died = ProcessDied(f"the process that ran job {job.job.id} ended: {exit_in_words(code)}{hint}")
        return _with_trace(outcome_of(died, job), trace)

    def _could_not_start(self, reason: str) -> None:
        """Nothing that a job did: what waits goes back, and the next try comes after a while."""
        self._failures += 1
        self._start_at = self._clock.monotonic() + min(RESPITE[1], RESPITE[0] * 2 ** (self._failures - 1))
        why = f"no process for it could be started: {reason}"
        log.error("%s; if it has said why, its own words are above", why)
        for job in self.take_back():
            self._inbox.put((job, Release(why)))


def _with_trace(outcome: Outcome, trace: str) -> Outcome:
    """An outcome with the stack that the process wrote down, oldest call first, without piecework's own frames."""
    lines = [
        line
        for line in trace.splitlines()
        if line.startswith("  File") and "/piecework/" not in line and "<frozen " not in line
    ]
    if not lines or not isinstance(outcome, Errored | Failed):
        return outcome
    text = clean("Traceback (most recent call last):\n" + "\n".join(reversed(lines)) + "\n", MAX_TRACE)
    return msgspec.structs.replace(outcome, error=msgspec.structs.replace(outcome.error, traceback=text))
