"""The questions on the Redis shelf: each reads in bites that hold up nobody, however many jobs there are.

What concerns one shard is a function of it. A page of a search goes on from a place, which is where a job arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from piecework.job import (
    AmendmentRecord,
    AttemptRecord,
    BatchRecord,
    Filter,
    OperationRecord,
    PieceResult,
    Record,
    SignalRecord,
)
from piecework.store.redis import records, rows
from piecework.store.redis.shard import Shard

IDS = 500  # that one script is told

T = TypeVar("T")

_head = msgspec.msgpack.Decoder(list[Any]).decode


class Placed(NamedTuple):
    """A job, and its place in the order of arrival."""

    place: str
    record: Record


def _placed(answer: Sequence[bytes]) -> Iterator[Placed]:
    """The jobs of an answer: place, row and what never changes of each."""
    for place, row, fixed in zip(answer[1::3], answer[2::3], answer[3::3], strict=True):
        yield Placed(place.decode(), records.record(row, fixed))


def some_at_a_time(all: Sequence[T], n: int) -> Iterator[Sequence[T]]:
    """The items, `n` at a time."""
    for first in range(0, len(all), n):
        yield all[first : first + n]


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


def places_of(shard: Shard, ids: Sequence[str]) -> dict[str, str]:
    """The places of those of these ids that are stored."""
    found: dict[str, str] = {}
    for some in some_at_a_time(ids, IDS):
        places = shard.run("places", {"ids": some})
        found |= {id: place for id, place in zip(some, places, strict=True) if place}
    return found


def get(shard: Shard, ids: Sequence[str]) -> list[Record]:
    found: dict[str, Record] = {}
    for some in some_at_a_time(ids, IDS):
        left = list(some)
        while left:
            answer = shard.reply("get", {"ids": left})
            (n,) = _head(answer[0])
            told = [placed.record for placed in _placed(answer)]
            found |= {job.id: job for job in told}
            if len(told) == n:
                break
            left = [id for id in left if id not in found]  # the answer was full
    return [found[id] for id in ids if id in found]


def searches(shard: Shard, which: Filter) -> list[dict[str, Any]]:
    """What a search is told: once, but of many ids some at a time, in the order of their arrival."""
    asked = records.told(which)
    if which.ids is None or len(which.ids) <= IDS:
        return [asked]
    del asked["ids"]
    places = sorted(set(places_of(shard, which.ids).values()))
    return [{**asked, "places": some} for some in some_at_a_time(places, IDS)]


def find_placed(shard: Shard, which: Filter, after: str | None, limit: int, newest: bool) -> list[Placed]:
    """A page of matching jobs behind a place."""
    found: list[Placed] = []
    told = searches(shard, which)
    for asked in reversed(told) if newest else told:
        at, over = after, False
        while not over and len(found) < limit:
            page = {"which": asked, "after": at, "newest": newest, "limit": limit - len(found)}
            answer = shard.reply("find", page)
            at, over = _head(answer[0])
            found += _placed(answer)
    return found


def find(
    shard: Shard, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False
) -> list[Record]:
    place = None
    if after is not None:
        place = places_of(shard, [after]).get(after)
        if place is None:
            return []
    return [placed.record for placed in find_placed(shard, which, place, limit, newest)]


def count(shard: Shard, which: Filter) -> int:
    asked = records.told(which)
    if asked.keys() <= {"queue", "state"}:
        kept = counts(shard).items()
        return sum(n for (queue, state), n in kept if which.queue in (None, queue) and which.state in (None, state))
    return sum(_counted(shard, some) for some in searches(shard, which))


def _counted(shard: Shard, asked: dict[str, Any]) -> int:
    total, at, over = 0, None, False
    while not over:
        n, at, over = shard.run("count", {"which": asked, "after": at})
        total += n
    return total


def counts(shard: Shard) -> dict[tuple[str, str], int]:
    return counts_told(shard.run("kept", {"kind": "counts"}))


def counts_told(said: list[Any]) -> dict[tuple[str, str], int]:
    return {(field[1:], rows.STATES[field[0]].value): int(n) for field, n in zip(said[::2], said[1::2], strict=True)}


# ── what is kept beside jobs ─────────────────────────────────────────────────────────────────────


def batch(shard: Shard, id: str) -> BatchRecord | None:
    row = shard.run("kept", {"kind": "batch", "id": id})
    return rows.batch_record(id, row) if row else None


def pieces(shard: Shard, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
    found: list[PieceResult] = []
    over = False
    while not over and len(found) < limit:
        asked = {"batch": batch, "after": after, "limit": limit - len(found), "failed": failed}
        answer = shard.reply("pieces", asked)
        (over,) = _head(answer[0])
        found += [records.piece_result(placed.record) for placed in _placed(answer)]
        after = found[-1].ordinal if found else after
    return found


def attempts(
    shard: Shard, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
) -> list[AttemptRecord]:
    found: list[AttemptRecord] = []
    over = False
    while not over and len(found) < limit:
        asked = {"id": id, "after": after, "before": before, "limit": limit - len(found), "newest": newest}
        lines, over = shard.run("attempts", asked)
        found += [records.attempt_record(id, line) for line in lines]
        if lines and newest:
            before = lines[-1][0]
        elif lines:
            after = lines[-1][0]
    return found


def operations(shard: Shard, ids: Sequence[str]) -> list[OperationRecord]:
    return [
        records.operation_record(row)
        for some in some_at_a_time(ids, IDS // 5)
        for row in shard.run("operations", {"ids": some})
    ]


def plan(shard: Shard, digest: str) -> str | None:
    return shard.run("kept", {"kind": "plan", "digest": digest}) or None


def amendments(shard: Shard, id: str) -> list[AmendmentRecord]:
    return [records.amendment_record(id, line) for line in _told(shard, id, "d")]


def signals(shard: Shard, id: str) -> list[SignalRecord]:
    return [records.signal_record(id, line) for line in _told(shard, id, "ut")]


def _told(shard: Shard, id: str, lists: str) -> list[Any]:
    """Lines of some lists of an operation's trail, the oldest first."""
    found: list[Any] = []
    for kind in lists:
        after: Any = None
        while after is not False:
            lines, after = shard.run("told", {"id": id, "list": kind, "after": after})
            found += lines
    return sorted(found, key=lambda line: str(line[0]))


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def paused(shard: Shard) -> list[str]:
    return sorted(shard.run("kept", {"kind": "paused"}))


def oldest_due(shard: Shard, now: float) -> dict[str, float]:
    since: dict[str, float] = {}
    after: str | bool | None = None
    while after is not False:
        found, after = shard.run("oldest_due", {"after": after})
        for queue, moment in (found or {}).items():
            since[queue] = min(moment, since.get(queue, moment))
    return {queue: max(0.0, now - moment) for queue, moment in sorted(since.items())}


def seconds_told(said: float | bool) -> float | None:
    """What the script `next_due` says of a shard."""
    return None if said is False else max(0.0, float(said))
