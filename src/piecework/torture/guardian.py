"""A small process that ends the trees of a torture that was ended itself, by a signal that it could not catch.

Nothing inside a tree can do that: a tree may stand still just then. It waits for the end of a pipe, which is the end of
the torture, and SIGKILLs the process groups that it was told of; that ends stopped processes too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]


class Guardian:
    """The torture's end of the pipe; to be closed when no tree is left to guard."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "piecework.torture.guardian"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to the torture's whole group does not reach it
        )

    def guard(self, group: int) -> None:
        """From now on this process group ends with the torture."""
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Nothing is left of this group: its number may soon be somebody else's."""
        self._say(f"-{group}\n")

    def close(self) -> None:
        """Ends what is guarded still, and waits for the guardian's own end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
