"""Questions over several shards: which of them may know, and their answers put together in the order of arrival."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from piecework.job import Filter, OperationRecord, Record, Standing, State
from piecework.store.redis import reads, rows
from piecework.store.redis.shard import Shard
from piecework.store.redis.spread import Spread

AHEAD = 10  # jobs that are read of a shard beyond its part of a page


def homes_of(spread: Spread, which: Filter) -> list[int]:
    """Where there may be jobs that match."""
    if spread.one is not None:
        return [0]
    named = which.ids if which.ids is not None else which.batch or which.root
    if named is None:
        return [spread.homes.of_name(which.key)] if which.key is not None else list(range(len(spread.shards)))
    return sorted(set(spread.homes.find([named] if isinstance(named, str) else named).values()))


def in_turn(spread: Spread, which: Filter, limit: int, verb: Callable[[Shard, int], int]) -> int:
    """Up to `limit` from one shard after the other: `verb` is told how many are left, and says how many it did."""
    done = 0
    for home in homes_of(spread, which):
        if done < limit:
            done += verb(spread.shards[home], limit - done)
    return done


def get(spread: Spread, ids: Sequence[str]) -> list[Record]:
    if spread.one is not None:
        return reads.get(spread.one, ids)
    found = {job.id: job for shard, some in _by_shard(spread, ids) for job in reads.get(shard, some)}
    return [found[id] for id in ids if id in found]


def operations(spread: Spread, ids: Sequence[str]) -> list[OperationRecord]:
    if spread.one is not None:
        return reads.operations(spread.one, ids)
    found = {one.id: one for shard, some in _by_shard(spread, ids) for one in reads.operations(shard, some)}
    return [found[id] for id in ids if id in found]


def _by_shard(spread: Spread, ids: Sequence[str]) -> Iterator[tuple[Shard, list[str]]]:
    homes = spread.homes.find(ids)
    for home in sorted(set(homes.values())):
        yield spread.shards[home], [id for id in ids if homes.get(id) == home]


def standing(spread: Spread, tasks: Sequence[str], identity: str) -> Standing | None:
    """The newest job of all shards, and what was said last in any of them; jobs of one place are in the order of their shards."""
    told = [(home, here) for home, here in enumerate(spread.everywhere("standing", (tasks, identity))) if here]
    if not told:
        return None
    _, (_, id, state, _, _) = max(told, key=lambda one: (one[1][0], one[0]))
    said = [(at, place, home, by, text) for home, (*_, last) in told if last for at, place, by, text in (last,)]
    at, _, _, by, text = max(said, default=(None,) * 5)
    return Standing(
        id=id, state=State(rows.STATES[state]), busy=any(here[3] for _, here in told), status=text, status_by=by,
        status_at=rows.seconds(at),
    )  # fmt: skip


def find(spread: Spread, which: Filter, *, after: str | None, limit: int, newest: bool) -> list[Record]:
    """A page, merged by place; jobs of one place are in the order of their shards."""
    if spread.one is not None:
        return reads.find(spread.one, which, after=after, limit=limit, newest=newest)
    behind: tuple[int, str] | None = None
    if after is not None:
        home = spread.homes.find([after]).get(after)
        place = None if home is None else reads.places_of(spread.shards[home], [after]).get(after)
        if home is None or place is None:
            return []
        behind = home, place
    lists = [
        _pages(spread, home, which, None if behind is None else _start(home, *behind, newest), limit, newest)
        for home in homes_of(spread, which)
    ]
    merged = heapq.merge(*lists, key=lambda found: found[:2], reverse=newest)
    return [record for _, _, record in islice(merged, limit)]


def _start(home: int, last_home: int, place: str, newest: bool) -> str:
    """Behind which place a shard's page begins: jobs of the very place in shards that come later are still to be told."""
    number = int(place, 16)
    if newest and home < last_home:
        return f"{number + 1:014x}"
    return f"{number - 1:014x}" if not newest and home > last_home else place


def _pages(
    spread: Spread, home: int, which: Filter, after: str | None, limit: int, newest: bool
) -> Iterator[tuple[str, int, Record]]:
    size = min(limit, limit // len(spread.shards) + AHEAD)
    while True:
        page = reads.find_placed(spread.shards[home], which, after, size, newest)
        for place, record in page:
            yield place, home, record
        if len(page) < size:
            return
        after, size = page[-1].place, limit
