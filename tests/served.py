"""What all servers of the tests have in common: a free port, a folder of their own, and an end that a test may choose."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests import lifeline


class ServerMissing(Exception):
    """No server was found, or it did not start: the tests that need one fail, they are not skipped."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Served:
    """A server that is started, ended and launched again on what it has in its folder."""

    CRASH = signal.SIGKILL  # ends it, and what it has started, as a crash would

    def __init__(self, prefix: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=prefix))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Starts the server on its data, on its port; again, after `end`. Raises `ServerMissing`."""
        raise NotImplementedError

    def start(self) -> Self:
        for last in (False, False, True):  # somebody else may take the port first
            self.port = free_port()
            try:
                self.launch()
                return self
            except ServerMissing:
                if last:
                    raise
        return self

    def end(self, how: signal.Signals | None = None) -> None:
        """Ends the server, whoever is connected: as a crash would, unless a signal says otherwise."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how or self.CRASH)
            self._process.wait(30)
        if self._process is not None:
            lifeline.untie(self._process.pid)

    def stop(self) -> None:
        """Ends the server and removes all it had."""
        self.end()
        shutil.rmtree(self.root, ignore_errors=True)
