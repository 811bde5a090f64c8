"""The verbs of distributed jobs on the Redis shelf: what each makes of a job that was read, and what is read of many.

A job and its parts live in the shard of their token, and its follow-ups are stored there, in the script that ends it.
How what is read and what is written hang together stands in `tokens`; a large change that comes too late comes again
with less.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from piecework import parting
from piecework.job import ErrorInfo
from piecework.parts import DistributedRecord, DistributedState, Done, PartEnd, PartRecord, PartState, Push, Resumed
from piecework.store.redis.client import Client
from piecework.store.redis.shard import Shard
from piecework.store.redis.spread import Spread
from piecework.store.redis.tokens import (
    LETTERS,
    PAGE,
    Change,
    MovedError,
    Part,
    Seen,
    Tokens,
    as_bytes,
    as_part,
    as_text,
    live,
)

CLEARED = 100  # rows past their time that a push deletes beside as many as it adds
MOST_CLEARED = 5000  # rows past their time that one script deletes
HEAVY = 1 << 20  # characters of results and errors that are enough for one script


class RedisParts:
    """`Parts`, over the shards of a store."""

    def __init__(self, client: Client, spread: Callable[[], Spread]) -> None:
        self._client = client
        self._spread = spread
        self._tokens = Tokens(client, spread)

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def push(self, push: Push) -> list[PartState]:
        def decide(seen: Seen) -> tuple[Change, list[PartState]]:
            before = seen.record
            known = seen.parts if before is not None else {}
            new = [name for name in dict.fromkeys(push.parts) if name not in known]
            start = parting.begun(push, seen.now) if before is None else before
            after = parting.pushed(start, push, len(new), seen.now)
            states = [known[name][1].state if name in known else PartState.OPEN for name in push.parts]
            return Change(before, after, new), states

        states = self._tokens.change(push.token, push.parts, decide)
        # In every shard, in one trip: whoever only pushes to one of them clears what others have left.
        asked = (min(len(push.parts) + CLEARED, MOST_CLEARED),)
        self._client.together([self._tokens.call(shard, "parts_prune", asked) for shard in self._spread().shards])
        return states

    def leave(self, token: str, producer: str, error: ErrorInfo | None = None) -> None:
        def decide(seen: Seen) -> tuple[Change, None]:
            if seen.record is None:
                return Change(None, None), None
            return Change(seen.record, parting.left(seen.record, producer, error, seen.now)), None

        self._tokens.change(token, (), decide)

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        answers: list[Done] = []
        size = parting.BITE
        while True:
            bite = _light(ends[len(answers) : len(answers) + size])
            try:
                record, some = self._tokens.attempt(
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
        def decide(seen: Seen) -> tuple[Change, bool]:
            before = _there(token, seen)
            after, did = parting.stopped(before, reason, by, seen.now, ttl, call)
            return Change(before, after), did

        return self._tokens.change(token, (), decide)

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        def decide(seen: Seen) -> tuple[Change, tuple[Resumed, bool]]:
            before = _there(token, seen)
            failed, _ = (
                self._parts_behind(token, seen, PartState.FAILED, -1, parting.BITE) if before.failed else ([], True)
            )
            after, answer = parting.resumed(before, seen.now, call, len(failed))
            changed = [_reopened(name, kept) for name, kept in failed] if after.failed != before.failed else []
            return Change(before, after, (), changed), (answer, after != before and after.stopped_at is not None)

        answer, more = self._tokens.change(token, (), decide)
        while more:
            last, more = self._tokens.change(token, (), decide)
            answer = Resumed(answer.resumed, last.finished)
        return answer

    def forget(self, tokens: Sequence[str], *, call: str | None = None) -> int:
        return sum(self._forget(token, call) for token in dict.fromkeys(tokens))

    def _forget(self, token: str, call: str | None) -> bool:
        def decide(seen: Seen) -> tuple[Change, bool]:
            if mark is not None and self._tokens.run(self._tokens.home(token), "parts_read", (mark, []))[1]:
                return Change(None, None), True  # this very call was here before
            return Change(seen.record, None, mark=mark), seen.record is not None

        mark = None if call is None else f"\0{call}\0{token}"
        return self._tokens.change(token, (), decide)

    def prune(self, *, limit: int = 1000) -> int:
        left = limit
        for shard in self._spread().shards:
            full = True
            while full and left > 0:
                asked = min(left, MOST_CLEARED)
                n = int(self._tokens.run(shard, "parts_prune", (asked,)))
                full, left = n == asked, left - n
        return limit - left

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def read(self, token: str) -> DistributedRecord | None:
        return self._tokens.see(token).record

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
            seen = self._tokens.see(after)
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
            now, kept, behind = self._tokens.run(shard, "parts_find", (behind, PAGE, newest))
            for row in kept:
                if row:
                    yield as_text(row[:14]), live(as_bytes(row)[22:], now)
            if not behind:
                return

    def parts(
        self, token: str, *, after: int = -1, limit: int = 500, state: PartState | None = None
    ) -> list[PartRecord]:
        seen = self._tokens.see(token)
        found: list[PartRecord] = []
        over = seen.record is None
        while not over and len(found) < limit:
            page, over = self._parts_behind(token, seen, state, after, limit - len(found))
            found += [_told(name, kept) for name, kept in page]
            after = found[-1].number if found else after
        return found

    def _parts_behind(
        self, token: str, seen: Seen, state: PartState | None, after: int, limit: int
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Parts by name, as they are kept, as many as one script reads; and whether there are no more."""
        asked = (seen.head[:14].decode(), LETTERS[state], after, min(limit, PAGE))
        page, over = self._tokens.run(self._tokens.home(token), "parts_page", asked)
        return [(as_text(name), as_bytes(kept)) for name, kept in page], over

    def part(self, token: str, part: str) -> PartRecord | None:
        seen = self._tokens.see(token, [part])
        if seen.record is None or part not in seen.parts:
            return None
        number, kept = seen.parts[part]
        return _part_record(part, number, kept)

    def now(self) -> float:
        return float(self._tokens.run(self._spread().shards[0], "now", ()))


def _there(token: str, seen: Seen) -> DistributedRecord:
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
    seen: Seen, token: str, ends: Sequence[PartEnd], ttl: float | None
) -> tuple[Change, tuple[DistributedRecord, list[Done]]]:
    known = {name: (part.state, part.call) for name, (_, part) in seen.parts.items()}
    before = _there(token, seen)
    after, changes, answers = parting.ended(before, known, ends, seen.now, ttl)
    changed = [_ended(seen, name, end) for name, end in changes.items()]
    return Change(before, after, (), changed), (after, answers)


def _ended(seen: Seen, name: str, end: PartEnd) -> tuple[str, bytes, Part, PartState]:
    number, before = seen.parts[name]
    failed = end.error is not None
    state = PartState.FAILED if failed else PartState.DONE
    after = Part(state, before.failures + failed, seen.now, end.call, end.result, end.error)
    return name, number, after, before.state


def _reopened(name: str, kept: bytes) -> tuple[str, bytes, Part, PartState]:
    return name, kept[:8], Part(failures=as_part(kept[8:]).failures), PartState.FAILED


def _told(name: str, kept: bytes) -> PartRecord:
    return _part_record(name, kept[:8], as_part(kept[8:]))


def _part_record(name: str, number: bytes, part: Part) -> PartRecord:
    return PartRecord(int(number, 16), name, part.state, part.failures, part.ended_at, part.result, part.error)
