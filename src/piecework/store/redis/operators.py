"""What people ask for on the Redis shelf: to stop, to begin anew, to go another way.

Each verb goes in bites: a script changes some jobs, with all that follows from that, and says where the next one goes
on.
A call that is interrupted has done some of its bites; sent again, it does the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from piecework.job import Answer, Deed, Ending, Filter, NewSignal, State
from piecework.store.redis import deleting, reads
from piecework.store.redis.shard import Shard, given
from piecework.store.redis.spread import Spread

BITE = 25  # deeds or signals of any size that one script does …
TOGETHER = 200  # … and that are sent at once: others may come between the scripts

_json = msgspec.json.Encoder().encode


def _bites(shard: Shard, which: Filter, limit: int, bite: Callable[[dict[str, Any]], tuple[int, Any, bool]]) -> None:
    """Goes through what matches until `limit` is reached: `bite` answers how many it found, where it stopped, and the end."""
    left = limit
    for asked in reads.searches(shard, which):
        at, over = None, False
        while not over and left > 0:
            found, at, over = bite({"which": asked, "after": at, "limit": left})
            left -= found


def cancel(
    shard: Shard, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
) -> int:
    ending = Ending(State.CANCELLED, reason=reason, by=by)
    more = {"reason": reason, "by": given(by), "undo": undo, "ending": _json(ending).decode()}
    touched = 0

    def bite(asked: dict[str, Any]) -> tuple[int, Any, bool]:
        nonlocal touched
        n, at, over, unfinished = shard.run("cancel", asked | more)
        touched += n
        deleting.close_on(shard, unfinished)
        return n, at, over

    _bites(shard, which, limit, bite)
    for ids in reads.some_at_a_time(which.ids or (), reads.IDS):
        n, unfinished = shard.run("cancel_loose", {"ids": ids})
        touched += n
        deleting.close_on(shard, unfinished)
    return touched


def retry(
    shard: Shard, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
) -> int:
    more = {"resume": resume, "by": given(by), "reason": reason}
    done = 0

    def bite(asked: dict[str, Any]) -> tuple[int, Any, bool]:
        nonlocal done
        found, n, at, over, held = shard.run("retry", asked | more)
        done += n
        _bring_back(shard, held, more)
        return found, at, over

    _bites(shard, which, limit, bite)
    return done


def _bring_back(shard: Shard, held: list[Any], more: dict[str, Any]) -> None:
    """The rest of what comes back with a job: the pieces of a large split, in bites."""
    while held:
        held = shard.run("retry_on", {"held": held, **more})


def amend(spread: Spread, deeds: Sequence[Deed]) -> list[Answer]:
    """The verbs `amend` and `amend_many`."""
    answers: list[Answer] = []
    for some in reads.some_at_a_time(deeds, TOGETHER):
        said: dict[int, Answer] = {}
        for told in spread.of_many([deed.id for deed in some], "amend", list(map(_told, some)), BITE):
            words, held = told.said
            _bring_back(told.shard, held, {"resume": False, "by": False, "reason": ""})
            said |= zip(told.numbers, map(Answer, words), strict=True)
        answers += [said[n] for n in range(len(some))]
    return answers


def _told(deed: Deed) -> dict[str, Any]:
    amendment = deed.amendment
    said = {name: given(value) for name, value in msgspec.structs.asdict(amendment).items()}
    if amendment.changes:
        said["changes"] = _json(amendment.changes).decode()
        said["globals"] = [[change.key, given(change.value), change.terms] for change in amendment.changes]
    else:
        said["changes"] = False
    return {"id": deed.id, "cursor": deed.cursor, "amendment": said}


def signal(spread: Spread, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
    """The verbs `signal` and `signal_many`."""
    answers: list[bool] = []
    for some in reads.some_at_a_time(signals, TOGETHER):
        asked = [
            {"job": id, "id": new.id, "name": new.name, "payload": new.payload, "by": given(new.by)} for id, new in some
        ]
        said: dict[int, bool] = {}
        for told in spread.of_many([id for id, _ in some], "signal", asked, BITE):
            said |= zip(told.numbers, map(bool, told.said), strict=True)
        answers += [said[n] for n in range(len(some))]
    return answers


def pause(shard: Shard, queue: str, on: bool = True) -> None:
    shard.run("pause", {"queue": queue, "on": on})
