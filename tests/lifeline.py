"""Ends what a test process started when that process is ended itself, by a signal that it could not catch.

One small process beside each test process waits for the end of a pipe. Then it ends the process groups that it was told
of, and removes their folders. On Linux; elsewhere what is left must be ended by hand.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 10.0  # seconds for an end in good order, before SIGKILL
FORGET = 0

_lock = threading.Lock()


def tie(pid: int, how: signal.Signals = signal.SIGKILL, folder: Path | None = None) -> None:
    """From now on the leader of a process group ends with this process, by `how` at first, and its folder is removed."""
    _say(pid, how, folder)


def untie(pid: int) -> None:
    """Nothing is left to end: the number may soon be somebody else's."""
    _say(pid, FORGET, None)


def _say(pid: int, how: int, folder: Path | None) -> None:
    if not sys.platform.startswith("linux"):
        return
    with _lock:
        pipe = _watcher(os.getpid()).stdin
        assert pipe is not None
        os.write(pipe.fileno(), f"{pid} {_begun(pid)} {int(how)} {folder or ''}\n".encode())


@functools.cache
def _watcher(owner: int) -> subprocess.Popen[bytes]:
    """The process that waits for the end of its owner; a fork of that has one of its own."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to the whole group of the tests does not reach it
    )


def _begun(pid: int) -> str:
    """When a process began, in the system's own words, which tells it from another of the same number; 0 without one."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "0"
    return "0" if state in "ZX" else rest[18]


def main() -> None:
    tied: dict[str, tuple[str, int, str]] = {}
    for line in sys.stdin:
        pid, begun, how, folder = line.rstrip("\n").split(" ", 3)
        if int(how) == FORGET:
            tied.pop(pid, None)
        else:
            tied[pid] = (begun, int(how), folder)
    for pid, (begun, how, _) in tied.items():
        _end(int(pid), begun, how)
    latest = time.monotonic() + PATIENCE
    for pid, (begun, _, folder) in tied.items():
        while _begun(int(pid)) == begun != "0" and time.monotonic() < latest:
            time.sleep(0.02)
        _end(int(pid), begun, signal.SIGKILL)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _end(pid: int, begun: str, how: int) -> None:
    if _begun(pid) == begun != "0":
        try:
            os.killpg(pid, how)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    main()
