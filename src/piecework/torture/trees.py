"""Trees of processes: a supervisor with its workers, started as a user starts them, and ended hard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from piecework.torture.guardian import HOME, Guardian

DEAD = "Z", "X"  # states of a process that is only an entry still


class Tree:
    """`piecework work` in a session, and so a process group, of its own, which the guardian ends at the latest."""

    def __init__(
        self,
        name: str,
        app: str,
        options: list[str],
        environ: Mapping[str, str],
        folder: Path,
        guardian: Guardian,
    ) -> None:
        self.name = name
        self._guardian = guardian
        self.log = folder / f"{name}.log"
        self.stopped = False
        own = {k: v for k, v in os.environ.items() if not k.startswith("PIECEWORK_")}
        # The workers import this very package, from wherever they are started.
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), own.get("PYTHONPATH")]))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "piecework", "work", app, "--name", name, *options],
                env=own | dict(environ),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid
        guardian.guard(self.pid)

    def ready(self) -> bool:
        """Whether its supervisor has begun a session, and still lives."""
        return self.code() is None and b"(session " in self.log.read_bytes()

    def await_ready(self, within: float) -> bool:
        """Waits for that; False when it ended, or the time did."""
        end = time.monotonic() + within
        while not self.ready():
            if self.code() is not None or time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def code(self) -> int | None:
        """The supervisor's exit code, once it has ended."""
        return self._process.poll()

    def children(self) -> list[int]:
        """The worker processes that live."""
        return [] if self.code() is not None else children_of(self.pid)

    def below(self, child: int | None = None) -> list[int]:
        """The processes that run single jobs for one worker process, or for all of them."""
        parents = set(self.children() if child is None else [child])
        return [pid for pid, parent, _, state in processes() if parent in parents and state not in DEAD]

    def signal(self, number: int) -> None:
        """Signals the whole group; one that is gone is left in peace."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def signal_supervisor(self, number: int) -> None:
        if self.code() is None:
            os.kill(self.pid, number)

    def stop(self, within: float) -> int | None:
        """Asks it to finish what runs, and returns its exit code; None where it had to be killed."""
        self.signal(signal.SIGCONT)
        self.signal_supervisor(signal.SIGTERM)
        try:
            return self._process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self.destroy()
            return None

    def destroy(self) -> None:
        """Ends whatever is left of the group."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def left_behind(self, within: float = 3.0) -> bool:
        """Whether a process of the group outlives its supervisor by more than so many seconds."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            if self.code() is not None and not living_in(self.pid):
                self._guardian.forget(self.pid)
                return False
            time.sleep(0.02)
        return True


def living_in(group: int) -> list[int]:
    """The processes of a group that are more than an entry waiting to be read by a parent."""
    return [pid for pid, _, of, state in processes() if of == group and state not in DEAD]


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    return [child for child, parent, _, state in processes() if parent == pid and state not in DEAD]


def processes() -> Iterator[tuple[int, int, int, str]]:
    """Every process of the machine: its id, its parent, its group and the letter of its state."""
    if not Path("/proc/self/stat").exists():
        said = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True)
        for line in said.stdout.splitlines():
            pid, parent, group, state = line.split(maxsplit=3)
            yield int(pid), int(parent), int(group), state[0]
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                # The name stands in parentheses and may hold anything, parentheses too.
                rest = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
            yield int(entry.name), int(rest[1]), int(rest[2]), rest[0]
