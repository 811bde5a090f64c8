"""Named points at which a test may kill the process or raise: ``PIECEWORK_FAILPOINTS="settle.before_commit=kill:3"``.

Unarmed, a point costs one look-up in an empty dict. `kill:n` sends SIGKILL to the process at the nth passage,
`raise:n` raises `StoreUnavailable` there.
"""

from __future__ import annotations

import os
import signal
import threading

NAMES = frozenset({
    "worker.after_fetch",
    "worker.before_exchange",
    "worker.after_exchange",
    "runner.running",
    "store.before_commit",
    "store.after_commit",
    "settle.in_transaction",
    "split.before_bite",
    "split.after_bite",
    "split.before_seal",
    "compose.running",
})  # fmt: skip


class _Point:
    def __init__(self, action: str, passage: int) -> None:
        self.action = action
        self.left = passage
        self._lock = threading.Lock()

    def passed(self) -> None:
        with self._lock:
            self.left -= 1
            if self.left != 0:
                return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        from piecework.errors import StoreUnavailable

        raise StoreUnavailable("a failpoint was hit")


_armed: dict[str, _Point] = {}


def arm(text: str) -> None:
    """Arms the points that a text names, as the environment variable does."""
    for part in filter(None, text.split(",")):
        name, _, what = part.partition("=")
        action, _, passage = what.partition(":")
        passage = passage or "1"
        if name not in NAMES or action not in ("kill", "raise") or not passage.isdecimal() or int(passage) < 1:
            raise ValueError(
                f"PIECEWORK_FAILPOINTS: {part!r} is not point=kill:n or point=raise:n with n from 1; "
                f"the points: {', '.join(sorted(NAMES))}"
            )
        _armed[name] = _Point(action, int(passage))


def failpoint(name: str) -> None:
    """Dies or raises here, when a test said so."""
    if _armed and (point := _armed.get(name)) is not None:
        point.passed()


arm(os.environ.get("PIECEWORK_FAILPOINTS", ""))
