"""One worker process as its supervisor holds it: the socket to it, the slate that it writes on, and how it is to end."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from piecework.engine.slate import Slate

log = logging.getLogger("piecework.supervisor")

EXIT_BROKEN_APP = 3
EXIT_FENCED = 4
BYE = b'"bye"'  # a worker process's last word
WORN = b'"worn"'  # it takes no more jobs, because too many are stuck in it
KILL_AFTER = 2.0  # seconds between "stop now" and SIGKILL
RELOAD_SECONDS = 5.0  # how long a process that is replaced after an edit may finish what runs


class Hello(msgspec.Struct):
    """What a worker process says first: where its app's jobs live, and how they are kept."""

    url: str
    lease: float
    keep_completed: float | None
    tasks: int


class WorkerPulse(NamedTuple):
    """What the supervisor knows of the life of one worker process, in seconds; None where that never happened."""

    worker: str
    pid: int
    age: float
    turned_ago: float | None
    polled_ago: float | None


class Child:
    """One worker process, from its start to its end."""

    def __init__(self, command: Sequence[str], slots: int) -> None:
        self.slate = Slate.create(slots)
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [*command, "--fd", str(theirs.fileno()), "--slate", str(self.slate.handle), "--slots", str(slots)],
                pass_fds=[theirs.fileno(), self.slate.handle],
            )
        self.works_since: float | None = None  # by the clock that the supervisor was given
        self.worker = ""
        self.killed = False
        self.retiring = False  # another has taken its place, and it ends when its jobs have
        self.blamed: list[str] | None = None  # the jobs for which it was killed
        self.replaced = False  # by one with newer code
        self.urge_at: float | None = None  # when it has to end, or else
        self.urged = False
        self.said_bye = False  # it ended of its own accord; else a job ended it, whatever the exit code
        self._buffer = b""

    def say(self, **message: Any) -> None:
        """Sends a message; a process that is gone is noticed by the end of its socket."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            log.debug("worker process %d does not listen any more", self.process.pid)

    def hear(self) -> list[bytes] | None:
        """The messages that have arrived; None at the end."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    def replace(self, now: float) -> None:
        """Asks it to make room for another, in a little time."""
        self.replaced = True
        if not self.worker:
            self.kill()  # it still starts, and has nothing to lose
            return
        self.say(stop="drain")
        self.urge_at = now + RELOAD_SECONDS

    def urge(self, now: float) -> None:
        """Grows more urgent once the time for making room is over."""
        if self.urge_at is None or now < self.urge_at:
            return
        if self.urged:
            self.kill()
        self.say(stop="now")
        self.urged, self.urge_at = True, now + KILL_AFTER

    def kill(self) -> None:
        self.killed = True
        self.process.kill()

    def bury(self) -> int:
        """Waits for the process, and returns its exit code.

        One that only let go of its socket cannot be led any more.
        """
        try:
            code = self.process.wait(KILL_AFTER)
        except subprocess.TimeoutExpired:
            log.error("worker process %d closed its socket and goes on; it is killed", self.process.pid)
            self.process.kill()
            code = self.process.wait()
        self.socket.close()
        return code
