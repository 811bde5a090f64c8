"""Distributed jobs as the keys have them: read, decided, and written by one script where nobody has changed them meanwhile.

Who comes too late with a change reads again: of those that meet, one always gets on. What the keys hold is said in
`lua/part_parts.lua`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from piecework import parting
from piecework.errors import StoreError
from piecework.job import ErrorInfo
from piecework.parts import RESENT, DistributedRecord, PartState
from piecework.store.redis import enqueue
from piecework.store.redis.client import Call, Client
from piecework.store.redis.shard import Shard, unpack
from piecework.store.redis.spread import Spread

KEYS = ("distributed", "part", "parts", "parts-over")
LETTERS = {None: "a", PartState.OPEN: "o", PartState.DONE: "d", PartState.FAILED: "f"}
PAGE = 1000  # jobs or parts that one script reads, where they are not heavy

T = TypeVar("T")

_encode = msgspec.json.encode
_record = msgspec.json.Decoder(DistributedRecord).decode


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a part beside its name and number."""

    state: PartState = PartState.OPEN
    failures: int = 0
    ended_at: float | None = None
    call: str | None = None
    result: str | None = None
    error: ErrorInfo | None = None


as_part = msgspec.json.Decoder(Part).decode
_OPEN = _encode(Part())


class Seen(NamedTuple):
    """A job as it was read: `head` says whether it has changed since, `record` is None where its time is over."""

    now: float
    head: bytes
    record: DistributedRecord | None
    parts: dict[str, tuple[bytes, Part]]  # name -> number, part


class Change(NamedTuple):
    """What is to be written."""

    before: DistributedRecord | None
    after: DistributedRecord | None  # None: it goes
    added: Sequence[str] = ()
    changed: Sequence[tuple[str, bytes, Part, PartState]] = ()  # name, number, as it is to be, its state before
    mark: str | None = None  # stays for a while instead of a job that goes: the call that deletes it


class MovedError(Exception):
    """Somebody changed the job between reading and writing."""


class Tokens:
    """The jobs of all tokens, each in the shard of its own."""

    def __init__(self, client: Client, spread: Callable[[], Spread]) -> None:
        self._client = client
        self._spread = spread

    def home(self, token: str) -> Shard:
        """Where the job and its parts are."""
        spread = self._spread()
        return spread.shards[spread.homes.of_name(token)]

    def call(self, shard: Shard, title: str, asked: Any, *more: bytes) -> Call:
        """What is sent to run a script on the keys of a shard, and those of its distributed jobs behind them."""
        call, front = shard.call(title, asked, *more), shard.keys[0].rpartition(":")[0]
        return Call(title, (*call.keys, *(f"{front}:{key}" for key in KEYS)), call.args)

    def run(self, shard: Shard, title: str, asked: Any, *more: bytes) -> Any:
        """What a script answers. Raises `MovedError` where it found the job changed, and has written nothing."""
        said = unpack(self._client.call(self.call(shard, title, asked, *more)))
        if said[0] == "ok":
            return said[1]
        if said[1] == "Moved":
            raise MovedError
        raise StoreError(f"the store refused a change of a distributed job: {said[2]}")

    def see(self, token: str, names: Sequence[str] = ()) -> Seen:
        """The job with these parts, at one moment. Raises `MovedError` where it changed between two scripts."""
        wanted = list(dict.fromkeys(names))
        now, job, kept = self.run(self.home(token), "parts_read", (token, wanted))
        if not job:
            return Seen(now, b"", None, {})
        row = as_bytes(job)
        while len(kept) < len(wanted):  # the answer was heavy
            _, again, more = self.run(self.home(token), "parts_read", (token, wanted[len(kept) :]))
            if not again or as_bytes(again)[:22] != row[:22]:
                raise MovedError
            kept += more
        parts = {
            name: (as_bytes(part)[:8], as_part(as_bytes(part)[8:]))
            for name, part in zip(wanted, kept, strict=True)
            if part
        }
        return Seen(now, row[:22], live(row[22:], now), parts)

    def change(self, token: str, names: Sequence[str], decide: Callable[[Seen], tuple[Change, T]]) -> T:
        """Reads and writes, again and again until nobody came between."""
        while True:
            try:
                return self.attempt(token, names, decide)
            except MovedError:
                continue

    def attempt(self, token: str, names: Sequence[str], decide: Callable[[Seen], tuple[Change, T]]) -> T:
        """The same once. Raises `MovedError` where somebody came between."""
        seen = self.see(token, names)
        change, answer = decide(seen)
        if change.before != change.after or change.added:
            self._write(token, seen, change)
        return answer

    def _write(self, token: str, seen: Seen, change: Change) -> None:
        after = change.after
        told = (
            token,
            seen.head.decode(),
            False if after is None else _encode(after).decode(),
            False if after is None or after.expires_at is None else repr(after.expires_at),
            [(name, _OPEN.decode()) for name in change.added],
            [
                (name, number.decode(), _encode(part).decode(), LETTERS[before], LETTERS[part.state])
                for name, number, part, before in change.changed
            ],
            0 if change.before is None else change.before.total,
            change.before is None,
            change.mark is not None and (change.mark, RESENT),
        )
        jobs = [] if after is None else list(parting.due(change.before, after))
        if jobs:
            asked, fixed = enqueue.told(jobs, None, None)
            self.run(self.home(token), "parts_follow", (*asked, told), *fixed)
        else:
            title = "parts_push" if change.added or change.before is None else "parts_change"
            self.run(self.home(token), title, (False, False, False, False, told))


def live(row: bytes, now: float) -> DistributedRecord | None:
    """A job as it is kept, behind its head; None where its time is over."""
    record = _record(row)
    return None if record.expires_at is not None and record.expires_at <= now else record


def as_bytes(text: bytes | str) -> bytes:
    """What a script answered: its text is unpacked as either."""
    return text if isinstance(text, bytes) else text.encode()


def as_text(text: bytes | str) -> str:
    """The same as text."""
    return text if isinstance(text, str) else text.decode()
