"""One process of a worker's process pool: imports the app, runs the jobs it is sent one by one, until it is let go.

Not for calling by hand; a worker starts it for the first job of a task with `pool="process"`.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
from queue import SimpleQueue

import msgspec

from piecework.app import Piecework
from piecework.appref import AppPlace, import_for_pool
from piecework.cli.child import load
from piecework.cli.common import set_up_logging
from piecework.engine.context import Running
from piecework.engine.exits import die_with_parent, leave_signals_to_the_supervisor
from piecework.engine.mending import go_home, keep_standard_streams, steady_loggers
from piecework.engine.pool import leave_copy
from piecework.engine.runner import Runner
from piecework.engine.wire import Begun, Ended, Frames, Ready, Said, Stop, Work, send
from piecework.outcome import Outcome

log = logging.getLogger("piecework.processes")

SAY_SECONDS = 0.25  # how often progress is passed on
HANDLED = signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGCHLD


def main() -> None:
    parser = argparse.ArgumentParser(prog="piecework.cli.pooled")
    parser.add_argument("place")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--trace", type=int, required=True)
    args = parser.parse_args()
    die_with_parent()
    leave_signals_to_the_supervisor()
    place = msgspec.json.decode(args.place, type=AppPlace)
    set_up_logging(place.log_level)
    steady_loggers()
    for handle in (args.fd, args.trace):
        os.set_inheritable(handle, False)
    # Written into a file that the worker can read when this process is gone: where it was, at a crash or when asked.
    faulthandler.enable(args.trace, all_threads=False)
    faulthandler.register(signal.SIGUSR2, args.trace, all_threads=False)
    with import_for_pool():
        app = load(place)
    gc.freeze()
    _Server(app, socket.socket(fileno=args.fd), args.trace).serve()


class _Server:
    """The main thread runs jobs; another listens, and passes progress on."""

    def __init__(self, app: Piecework, control: socket.socket, trace: int) -> None:
        self._runner = Runner(app.registry, app.store, app.clock, max_payload=app.settings.max_payload)
        self._control = control
        self._trace = trace
        self._sending = threading.Lock()
        self._jobs: SimpleQueue[Work] = SimpleQueue()
        self._now: Running | None = None
        self._home = os.getcwd()
        self._handlers = {number: signal.getsignal(number) for number in HANDLED}
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=control.close)

    def serve(self) -> None:
        threading.Thread(target=self._listen, name="piecework-control", daemon=True).start()
        self._send(Ready())
        while True:
            outcome = self._run(self._jobs.get())
            if os.getpid() != self._pid:
                leave_copy()
            self._tidy()
            self._send(Ended(outcome, memory()))  # type: ignore[arg-type]

    def _run(self, work: Work) -> Outcome:
        prepared = self._runner.prepare(work.job, work.plan)
        if not isinstance(prepared, Running):
            return prepared
        self._now = prepared
        self._send(Begun())
        try:
            return self._runner.run(prepared)
        finally:
            self._now = None
            self._say(prepared)

    def _tidy(self) -> None:
        """Puts right what one job may not leave to the next."""
        os.ftruncate(self._trace, 0)
        os.lseek(self._trace, 0, os.SEEK_SET)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        go_home(self._home)
        keep_standard_streams()
        faulthandler.register(signal.SIGUSR2, self._trace, all_threads=False)  # its job may have used the signal itself
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # the job closed it, or put something else in its place
                continue

    def _send(self, message: Ready | Begun | Said | Ended) -> None:
        with self._sending:
            send(self._control, message)

    def _listen(self) -> None:
        frames: Frames[Work | Stop] = Frames(Work | Stop)
        while True:
            if select.select([self._control], [], [], SAY_SECONDS)[0]:
                data = self._control.recv(1 << 16)
                if not data:
                    os._exit(0)  # the worker is gone, and with it whoever wants an answer
                for message in frames.feed(data):
                    self._obey(message)
            if self._now is not None:
                self._say(self._now)

    def _obey(self, message: Work | Stop) -> None:
        now = self._now
        if isinstance(message, Work):
            self._jobs.put(message)
        elif now is not None and now.job.id == message.id:
            now.stopping = True

    def _say(self, now: Running) -> None:
        progress, now.progress = now.progress, None
        if progress is not None and os.getpid() == self._pid:
            self._send(Said(now.job.id, progress))


def memory() -> int:
    """The memory that this process holds, in bytes."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
