"""Named points at which a test may kill the process, raise or wait: ``PIECEWORK_FAILPOINTS="store.before_commit=kill:3"``.

Unarmed, a point costs one look-up in an empty dict. `kill:n` sends SIGKILL to the process at the nth passage,
`raise:n` raises `StoreUnavailable` there, `delay:n:seconds` sleeps there. A point that does so says it in the log.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time

log = logging.getLogger("piecework.failpoints")

ACTIONS = ("kill", "raise", "delay")

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
    "step.running",
    "step.ran",
    "step.kept",
    "step.splitting",
    "step.composing",
    "undo.looking",
    "undo.running",
})  # fmt: skip


class _Point:
    def __init__(self, name: str, action: str, passage: int, seconds: float) -> None:
        self.name = name
        self.action = action
        self.left = passage
        self.seconds = seconds
        self._lock = threading.Lock()

    def passed(self) -> None:
        with self._lock:
            self.left -= 1
            if self.left != 0:
                return
        log.warning("failpoint %s: %s", self.name, self.action)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "delay":
            time.sleep(self.seconds)
            return
        from piecework.errors import StoreUnavailable

        raise StoreUnavailable("a failpoint was hit")


_armed: dict[str, _Point] = {}


def arm(text: str) -> None:
    """Arms the points that a text names, as the environment variable does."""
    for part in filter(None, text.split(",")):
        point = _parsed(part)
        if point is None:
            raise ValueError(
                f"PIECEWORK_FAILPOINTS: {part!r} is not point=kill:n, point=raise:n or point=delay:n:seconds with n from 1; "
                f"the points: {', '.join(sorted(NAMES))}"
            )
        _armed[point.name] = point


def _parsed(part: str) -> _Point | None:
    name, _, what = part.partition("=")
    action, _, rest = what.partition(":")
    passage, _, seconds = rest.partition(":")
    passage = passage or "1"
    if name not in NAMES or action not in ACTIONS or not passage.isdecimal() or int(passage) < 1:
        return None
    if (re.fullmatch(r"\d+(\.\d+)?", seconds) is None) is (action == "delay") or (seconds and action != "delay"):
        return None
    return _Point(name, action, int(passage), float(seconds or 0))


def failpoint(name: str) -> None:
    """Dies, raises or waits here, when a test said so."""
    if _armed and (point := _armed.get(name)) is not None:
        point.passed()


arm(os.environ.get("PIECEWORK_FAILPOINTS", ""))
