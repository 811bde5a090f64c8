"""One shard: all keys under one hash tag, and the scripts that run on them, told and answered in MessagePack.

What the keys hold is said at the top of `lua/lib_0_keys.lua`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.store.redis.client import Call, Client

KEYS = (
    "meta", "job", "fixed", "text", "at", "line", "lines", "later", "expiry", "wake", "running", "index", "count", "unique",
    "batch", "offer", "operation", "globals", "plan", "trail", "session", "paused", "sleepers",
)  # fmt: skip

_REFUSALS = {
    "LeaseLost": LeaseLost,
    "SplitChanged": SplitChanged,
    "UsageError": UsageError,
    "JobCancelled": JobCancelled,
}


def _as_text(value: Any) -> str:
    """A key or a name may be of a class of text of its own, as templates and web frameworks have them."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be packed")


pack = msgspec.msgpack.Encoder(enc_hook=_as_text).encode
unpack = msgspec.msgpack.Decoder().decode


class Shard:
    """The verbs of one shard, by the titles of their scripts. `tag` is what the Cluster hashes."""

    def __init__(self, client: Client, prefix: str, tag: str, now: Callable[[], float | None]) -> None:
        self._client = client
        self._now = now
        self.tag = tag
        self._front = f"{prefix}:{{{tag}}}"
        self.keys = tuple(f"{self._front}:{name}" for name in KEYS)

    def call(self, title: str, asked: Any = (), *more: bytes) -> Call:
        """What is sent to run a script: the moment, what it is told, and what only the script can read."""
        now = self._now()
        return Call(title, self.keys, ("" if now is None else repr(now), pack(asked), *more))

    def run(self, title: str, asked: Any = (), *more: bytes, beside: str | None = None) -> Any:
        """Runs a script and returns its answer.

        Raises what it refused with. `beside` names a key of this shard for it alone.
        """
        call = self.call(title, asked, *more)
        if beside is not None:
            call = call._replace(keys=(*call.keys, f"{self._front}:{beside}"))
        return answer(self._client.call(call))

    def reply(self, title: str, asked: Any) -> Any:
        """Runs a script whose answer is more than one packed value, and returns that as it is."""
        return self._client.call(self.call(title, asked))


def answer(packed: bytes) -> Any:
    """What a script answered. Raises what it refused with: nothing was changed then."""
    said = unpack(packed)
    if said[0] == "ok":
        return said[1]
    raise _REFUSALS[said[1]](said[2])


def given(value: Any) -> Any:
    """A value as a script can keep it in a row, where nothing is false."""
    return False if value is None else value
