"""Distributed jobs on the Redis shelf: read, decided, and written by one script where nobody has changed them meanwhile.

A job and its parts live in the shard of their token, and its follow-ups are stored there, in the script that ends it. Who
comes too late with a change reads again: of those that meet, one always gets on, and a large one comes again with less.
What the keys hold is said in `lua/part_parts.lua`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec

from piecework import parting
from piecework.errors import StoreError
from piecework.job import ErrorInfo
from piecework.parts import (
    RESENT,
    DistributedRecord,
    DistributedState,
    Done,
    PartEnd,
    PartRecord,
    PartState,
    Push,
    Resumed,
)
from piecework.store.redis import enqueue
from piecework.store.redis.client import Call, Client
from piecework.store.redis.shard import Shard, unpack
from piecework.store.redis.spread import Spread

KEYS = ("distributed", "part", "parts", "parts-over")
LETTERS = {None: "a", PartState.OPEN: "o", PartState.DONE: "d", PartState.FAILED: "f"}
CLEARED = 100  # rows past their time that a push deletes beside as many as it adds
PAGE = 1000  # jobs or parts that one script reads, where they are not heavy
MOST_CLEARED = 5000  # rows past their time that one script deletes
HEAVY = 1 << 20  # characters of results and errors that are enough for one script

T = TypeVar("T")

_encode = msgspec.json.encode
_record = msgspec.json.Decoder(DistributedRecord).decode


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a part beside its name and number."""

    state: PartState = PartState.OPEN
    failures: int = 0
    ended_at: float | None = None
    call: str | None = None
    result: str | None = None
    error: ErrorInfo | None = None


_part = msgspec.json.Decoder(_Part).decode
_OPEN = _encode(_Part())


class _Seen(NamedTuple):
    """A job as it was read: `head` says whether it has changed since, `record` is None where its time is over."""

    now: float
    head: bytes
    record: DistributedRecord | None
    parts: dict[str, tuple[bytes, _Part]]  # name -> number, part


class _Change(NamedTuple):
    """What is to be written."""

    before: DistributedRecord | None
    after: DistributedRecord | None  # None: it goes
    added: Sequence[str] = ()
    changed: Sequence[
        tuple[str, bytes, _Part, PartState]
    ] = ()  # name, number, the part as it is to be, its state before
    mark: str | None = None  # stays for a while instead of a job that goes: the call that deletes it


class MovedError(Exception):
    """Somebody changed the job between reading and writing."""


class RedisParts:
    """`Parts`, over the shards of a store."""

    def __init__(self, client: Client, spread: Callable[[], Spread]) -> None:
        self._client = client
        self._spread = spread

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def push(self, push: Push) -> list[PartState]:
        def decide(seen: _Seen) -> tuple[_Change, list[PartState]]:
            before = seen.record
            known = seen.parts if before is not None else {}
            new = [name for name in dict.fromkeys(push.parts) if name not in known]
            start = parting.begun(push, seen.now) if before is None else before
            after = parting.pushed(start, push, len(new), seen.now)
            states = [known[name][1].state if name in known else PartState.OPEN for name in push.parts]
            return _Change(before, after, new), states

        states = self._change(push.token, push.parts, decide)
        # In every shard, in one trip: whoever only pushes to one of them clears what others have left.
        asked = (min(len(push.parts) + CLEARED, MOST_CLEARED),)
        self._client.together([self._call(shard, "parts_prune", asked) for shard in self._spread().shards])
        return states

    def leave(self, token: str, producer: str, error: ErrorInfo | None = None) -> None:
        def decide(seen: _Seen) -> tuple[_Change, None]:
            if seen.record is None:
                return _Change(None, None), None
            return _Change(seen.record, parting.left(seen.record, producer, error, seen.now)), None

        self._change(token, (), decide)

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        answers: list[Done] = []
        size = parting.BITE
        while True:
            bite = _light(ends[len(answers) : len(answers) + size])
            try:
                record, some = self._try(
                    token, [end.part for end in bite], partial(_end, token=token, ends=bite, ttl=ttl)
                )
            except MovedError:
                size = max(1, size // 2)
                continue
            answers += some
            if len(answers) == len(ends):
                return parting.answered(record, ends, answers)
            size = min(2 * size, parting.BITE)

    def stop(
        self, token: str, reason: str, *, call: str | None = None, by: str | None = None, ttl: float | None = None
    ) -> bool:
        def decide(seen: _Seen) -> tuple[_Change, bool]:
            before = _there(token, seen)
            after, did = parting.stopped(before, reason, by, seen.now, ttl, call)
            return _Change(before, after), did

        return self._change(token, (), decide)

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        def decide(seen: _Seen) -> tuple[_Change, tuple[Resumed, bool]]:
            before = _there(token, seen)
            failed, _ = (
                self._parts_behind(token, seen, PartState.FAILED, -1, parting.BITE) if before.failed else ([], True)
            )
            after, answer = parting.resumed(before, seen.now, call, len(failed))
            changed = [_reopened(name, kept) for name, kept in failed] if after.failed != before.failed else []
            return _Change(before, after, (), changed), (answer, after != before and after.stopped_at is not None)

        answer, more = self._change(token, (), decide)
        while more:
            last, more = self._change(token, (), decide)
            answer = Resumed(answer.resumed, last.finished)
        return answer

    def forget(self, tokens: Sequence[str], *, call: str | None = None) -> int:
        return sum(self._forget(token, call) for token in dict.fromkeys(tokens))

    def _forget(self, token: str, call: str | None) -> bool:
        def decide(seen: _Seen) -> tuple[_Change, bool]:
            if mark is not None and self._run(self._home(token), "parts_read", (mark, []))[1]:
                return _Change(None, None), True  # this very call was here before
            return _Change(seen.record, None, mark=mark), seen.record is not None

        mark = None if call is None else f"\0{call}\0{token}"
        return self._change(token, (), decide)

    def prune(self, *, limit: int = 1000) -> int:
        left = limit
        for shard in self._spread().shards:
            full = True
            while full and left > 0:
                asked = min(left, MOST_CLEARED)
                n = int(self._run(shard, "parts_prune", (asked,)))
                full, left = n == asked, left - n
        return limit - left

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def read(self, token: str) -> DistributedRecord | None:
        return self._see(token).record

    def find(
        self,
        state: DistributedState | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
        newest: bool = True,
    ) -> list[DistributedRecord]:
        place: str | None = None
        if after is not None:
            seen = self._see(after)
            if seen.record is None:
                return []
            place = seen.head[:14].decode()
        jobs = heapq.merge(
            *(self._jobs(shard, place, newest) for shard in self._spread().shards),
            key=lambda job: job[0],
            reverse=newest,
        )
        return list(islice((found for _, found in jobs if found is not None and state in (None, found.state)), limit))

    def _jobs(self, shard: Shard, place: str | None, newest: bool) -> Iterator[tuple[str, DistributedRecord | None]]:
        """The jobs of a shard in their order, behind a place; None for one whose time is over."""
        behind: str | bool = place or False
        while True:
            now, kept, behind = self._run(shard, "parts_find", (behind, PAGE, newest))
            for row in kept:
                if row:
                    yield _text(row[:14]), _live(_bytes(row)[22:], now)
            if not behind:
                return

    def parts(
        self, token: str, *, after: int = -1, limit: int = 500, state: PartState | None = None
    ) -> list[PartRecord]:
        seen = self._see(token)
        found: list[PartRecord] = []
        over = seen.record is None
        while not over and len(found) < limit:
            page, over = self._parts_behind(token, seen, state, after, limit - len(found))
            found += [_told(name, kept) for name, kept in page]
            after = found[-1].number if found else after
        return found

    def _parts_behind(
        self, token: str, seen: _Seen, state: PartState | None, after: int, limit: int
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Parts by name, as they are kept, as many as one script reads; and whether there are no more."""
        asked = (seen.head[:14].decode(), LETTERS[state], after, min(limit, PAGE))
        page, over = self._run(self._home(token), "parts_page", asked)
        return [(_text(name), _bytes(kept)) for name, kept in page], over

    def part(self, token: str, part: str) -> PartRecord | None:
        seen = self._see(token, [part])
        if seen.record is None or part not in seen.parts:
            return None
        number, kept = seen.parts[part]
        return _part_record(part, number, kept)

    def now(self) -> float:
        return float(self._run(self._spread().shards[0], "now", ()))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _home(self, token: str) -> Shard:
        spread = self._spread()
        return spread.shards[spread.homes.of_name(token)]

    def _call(self, shard: Shard, title: str, asked: Any, *more: bytes) -> Call:
        """What is sent to run a script on the keys of a shard, and those of its distributed jobs behind them."""
        call, front = shard.call(title, asked, *more), shard.keys[0].rpartition(":")[0]
        return Call(title, (*call.keys, *(f"{front}:{key}" for key in KEYS)), call.args)

    def _run(self, shard: Shard, title: str, asked: Any, *more: bytes) -> Any:
        said = unpack(self._client.call(self._call(shard, title, asked, *more)))
        if said[0] == "ok":
            return said[1]
        if said[1] == "Moved":
            raise MovedError
        raise StoreError(f"the store refused a change of a distributed job: {said[2]}")

    def _see(self, token: str, names: Sequence[str] = ()) -> _Seen:
        """The job with these parts, at one moment. Raises `MovedError` where it changed between two scripts."""
        wanted = list(dict.fromkeys(names))
        now, job, kept = self._run(self._home(token), "parts_read", (token, wanted))
        if not job:
            return _Seen(now, b"", None, {})
        row = _bytes(job)
        while len(kept) < len(wanted):  # the answer was heavy
            _, again, more = self._run(self._home(token), "parts_read", (token, wanted[len(kept) :]))
            if not again or _bytes(again)[:22] != row[:22]:
                raise MovedError
            kept += more
        parts = {
            name: (_bytes(part)[:8], _part(_bytes(part)[8:])) for name, part in zip(wanted, kept, strict=True) if part
        }
        return _Seen(now, row[:22], _live(row[22:], now), parts)

    def _change(self, token: str, names: Sequence[str], decide: Callable[[_Seen], tuple[_Change, T]]) -> T:
        """Reads and writes, again and again until nobody came between."""
        while True:
            try:
                return self._try(token, names, decide)
            except MovedError:
                continue

    def _try(self, token: str, names: Sequence[str], decide: Callable[[_Seen], tuple[_Change, T]]) -> T:
        seen = self._see(token, names)
        change, answer = decide(seen)
        if change.before != change.after or change.added:
            self._write(token, seen, change)
        return answer

    def _write(self, token: str, seen: _Seen, change: _Change) -> None:
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
            self._run(self._home(token), "parts_follow", (*asked, told), *fixed)
        else:
            title = "parts_push" if change.added or change.before is None else "parts_change"
            self._run(self._home(token), title, (False, False, False, False, told))


def _there(token: str, seen: _Seen) -> DistributedRecord:
    if seen.record is None:
        raise parting.not_found(token)
    return seen.record


def _light(ends: Sequence[PartEnd]) -> Sequence[PartEnd]:
    """The first of these ends, as many as are not heavy; one at least."""
    weight = 0
    for n, end in enumerate(ends):
        weight += len(end.result or "") + (
            0 if end.error is None else len(end.error.message) + len(end.error.traceback)
        )
        if weight > HEAVY and n:
            return ends[:n]
    return ends


def _end(
    seen: _Seen, token: str, ends: Sequence[PartEnd], ttl: float | None
) -> tuple[_Change, tuple[DistributedRecord, list[Done]]]:
    known = {name: (part.state, part.call) for name, (_, part) in seen.parts.items()}
    before = _there(token, seen)
    after, changes, answers = parting.ended(before, known, ends, seen.now, ttl)
    changed = [_ended(seen, name, end) for name, end in changes.items()]
    return _Change(before, after, (), changed), (after, answers)


def _ended(seen: _Seen, name: str, end: PartEnd) -> tuple[str, bytes, _Part, PartState]:
    number, before = seen.parts[name]
    failed = end.error is not None
    state = PartState.FAILED if failed else PartState.DONE
    after = _Part(state, before.failures + failed, seen.now, end.call, end.result, end.error)
    return name, number, after, before.state


def _reopened(name: str, kept: bytes) -> tuple[str, bytes, _Part, PartState]:
    return name, kept[:8], _Part(failures=_part(kept[8:]).failures), PartState.FAILED


def _live(row: bytes, now: float) -> DistributedRecord | None:
    record = _record(row)
    return None if record.expires_at is not None and record.expires_at <= now else record


def _told(name: str, kept: bytes) -> PartRecord:
    return _part_record(name, kept[:8], _part(kept[8:]))


def _part_record(name: str, number: bytes, part: _Part) -> PartRecord:
    return PartRecord(int(number, 16), name, part.state, part.failures, part.ended_at, part.result, part.error)


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _text(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.decode()
