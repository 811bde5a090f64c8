"""One process of the pool, from its start to its end, as the worker that started it has it."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import tempfile

import msgspec

from piecework.engine.context import Running
from piecework.engine.mending import keep_standard_streams
from piecework.engine.wire import Begun, Ended, Frames, Ready, Said, Stop, Work, framed

log = logging.getLogger("piecework.processes")

MAX_TRACE = 16_000


class PoolSettings(msgspec.Struct, frozen=True):
    """How processes are started, how many, and when one is replaced (between two jobs)."""

    command: tuple[str, ...]
    size: int
    environment: dict[str, str]  # as it was before any job could change it …
    folder: str  # … and so the current folder
    max_jobs: int | None = None
    max_memory: int | None = None  # bytes


class Process:
    """A process that runs one job at a time, and may be ended at any moment with all that its job has started."""

    def __init__(self, settings: PoolSettings) -> None:
        keep_standard_streams()
        self.socket, theirs = socket.socketpair()
        self.trace = tempfile.TemporaryFile(prefix="piecework-")  # noqa: SIM115 - closed in `bury`
        handles = theirs.fileno(), self.trace.fileno()
        try:
            with theirs:
                self.popen = subprocess.Popen(
                    [*settings.command, "--fd", str(handles[0]), "--trace", str(handles[1])],
                    pass_fds=handles,
                    env=settings.environment,
                    cwd=settings.folder,
                    process_group=0,  # what its job starts is killed with it
                )
        except OSError:
            self._let_go()
            raise
        self.socket.setblocking(False)
        self._unsent = bytearray()
        self.frames: Frames[Ready | Begun | Said | Ended] = Frames(Ready | Begun | Said | Ended)
        self.ready = False
        self.begun = False  # its job
        self.job: Running | None = None
        self.asked = False  # to stop: its job was cancelled
        self.traced = False
        self.kill_at: float | None = None
        self.jobs = 0

    def begin(self, job: Running, now: float) -> None:
        self.job, self.begun, self.asked, self.traced, self.kill_at = job, False, False, False, None
        self.jobs += 1
        if job.options is not None and job.options.timeout is not None:
            job.deadline = now + job.options.timeout
        self.say(Work(job.job, job.spot.plan_text if job.spot is not None else None))

    def say(self, message: Work | Stop) -> None:
        self._unsent += framed(message)
        self.go_on_saying()

    def go_on_saying(self) -> bool:
        """Sends as much as the process takes just now; whether something is left.

        A process that hangs holds up nobody.
        """
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            return True
        except OSError:
            log.debug("process %d does not listen any more", self.popen.pid)  # its end is noticed by its socket
        return False

    @property
    def wants(self) -> int:
        """What its socket is waited for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def next_deadline(self) -> float | None:
        times = [self.kill_at, None if self.job is None or self.traced else self.job.deadline]
        return min((at for at in times if at is not None), default=None)

    def write_trace(self) -> None:
        """Asks the process to write down where it is; a signal's handler in C does it, whatever the code is doing."""
        self.traced = True
        self.popen.send_signal(signal.SIGUSR2)

    def read_trace(self) -> str:
        size = os.fstat(self.trace.fileno()).st_size
        return os.pread(self.trace.fileno(), min(size, MAX_TRACE), 0).decode("utf-8", "replace")

    def kill(self) -> None:
        """Ends it, and with it the programs that its job had started."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except OSError:  # nobody is left in its group
            log.debug("process %d has ended already", self.popen.pid)
        self.popen.kill()

    def bury(self) -> int:
        code = self.popen.wait()
        self._let_go()
        return code

    def _let_go(self) -> None:
        self.socket.close()
        self.trace.close()
