"""Real workers as processes, and what the system says of a process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from support import until
from tests import lifeline

KILLED = "killed by SIGKILL; starting another"


class Tree:
    """A supervisor with its worker processes, in a session (and so a process group) of their own."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self._log, self.command, self.env = log, command, env
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, env=env, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
            )  # fmt: skip
        self.pid = self.process.pid
        lifeline.tie(self.pid)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def deaths(self) -> int:
        """How many worker processes the supervisor saw end by SIGKILL."""
        return self.log().count(KILLED)

    def children(self) -> list[int]:
        """The worker processes that live."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def ready(self) -> Tree:
        """Waits until the supervisor has enlisted its session."""
        until(lambda: "(session " in self.log() or self.process.poll() is not None, lambda: f"ready: {self.log()}")
        assert self.process.poll() is None, self.log()
        return self

    def signal(self, number: int) -> None:
        """Signals the supervisor alone."""
        os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Signals the whole group."""
        os.killpg(self.pid, number)

    def ended(self, within: float = 20.0) -> int:
        """Waits for the supervisor's end, and returns its exit code."""
        try:
            return self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor still runs after {within:g} s:\n{self.log()}") from None

    def stop(self) -> int:
        """Asks the supervisor to stop, and returns its exit code."""
        self.signal(signal.SIGTERM)
        code = self.ended()
        if code:
            print(self.log())  # where a test finds it wrong, the reason is shown
        return code

    def destroy(self) -> None:
        """Ends whatever is left of the group that this test started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(timeout=10)
        lifeline.untie(self.pid)


def state_of(pid: int) -> str:
    """A process's state, as the system calls it; Z is one that waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def alive(pid: int) -> bool:
    """Whether a process runs."""
    return state_of(pid) not in ("Z", "X")
