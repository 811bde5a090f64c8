"""Large calls of `add`, all or none and still a bite at a time.

The bites are brought to a key of their own, which nobody looks at and which goes by itself. One short script says that
all of them are there: that is the moment at which the call is stored. Then they become jobs, a bite in each script, and
who dies meanwhile is followed by the next `repair`. The key has the name of what is in it, so a call that is sent again
goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from piecework.errors import StoreUnavailable
from piecework.store.redis.shard import Shard, pack

TOGETHER = 1 << 20  # bytes of bites that one script keeps
TRIES = 3  # to bring all bites of a call


Told = tuple[Sequence[Any], Sequence[bytes]]  # what the script `add` is told


def add(shard: Shard, bites: Sequence[Told]) -> list[list[str] | None]:
    """Stores the jobs of all bites or of none, and answers for each bite, None where each job has its own id."""
    packed = [pack((*asked, [len(row) for row in fixed])) + b"".join(fixed) for asked, fixed in bites]
    name = hashlib.sha1(b"".join(hashlib.sha1(bite).digest() for bite in packed), usedforsecurity=False).hexdigest()
    for _ in range(TRIES):
        if _bring(shard, name, packed):
            break  # else the first bites had gone by the time the last one came
    else:
        raise StoreUnavailable(
            "a large call went as fast as it came, so nothing was stored: the server threw its first part away before the "
            "last had come, as one does whose memory is full and whose maxmemory-policy is volatile-…; give it more "
            "(maxmemory), or make several smaller calls"
        )
    return [_store(shard, name, number)[0] for number in range(1, len(bites) + 1)]


def go_on(shard: Shard) -> None:
    """Stores what others have left of their calls."""
    for name in shard.run("staged"):
        more = True
        while more:
            _, more = _store(shard, name, None)


def _bring(shard: Shard, name: str, packed: Sequence[bytes]) -> bool:
    """Brings the bites, and says that these are all; False where they have to be brought again."""
    first = 0
    while first < len(packed):
        n, size = first + 1, len(packed[first])
        while n < len(packed) and size + len(packed[n]) <= TOGETHER:
            size += len(packed[n])
            n += 1
        if shard.run("stage", (first + 1,), *packed[first:n], beside=_key(name)):
            break  # this very call was brought before
        first = n
    return bool(shard.run("stage_whole", (name, len(packed)), beside=_key(name)))


def _store(shard: Shard, name: str, number: int | None) -> tuple[list[str] | None, bool]:
    """Stores a bite, or the next one; its answers, and whether there are more."""
    answers, more = shard.run("unstage", (name, number or False), beside=_key(name))
    return answers or None, bool(more)


def _key(name: str) -> str:
    return f"call:{name}"
