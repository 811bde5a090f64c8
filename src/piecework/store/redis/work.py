"""The verbs of workers on the Redis shelf: runs end, jobs are taken, progress is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from piecework.job import Answer, Claim, Fetched, Progress
from piecework.outcome import Advance, Settlement
from piecework.store.redis.rows import ending_row, fetched, text, wait_row
from piecework.store.redis.shard import Shard

_ANSWERS = {str(answer): answer for answer in Answer}


def exchange(
    shard: Shard, settlements: Sequence[Settlement], claim: Claim | None
) -> tuple[list[Answer], list[Fetched]]:
    """`settle`, then `fetch`, in one transaction. What stands in the way of the fetch is cleared a bite at a time."""
    asked = _claim(claim) if claim is not None else False
    answers, more, jobs = shard.run("exchange", (settlements, _written(settlements), asked))
    while more:
        _, more, jobs = shard.run("exchange", ((), False, asked))
    return [_ANSWERS[answer] for answer in answers], [fetched(row) for row in jobs]


def _claim(claim: Claim) -> list[Any]:
    asked: list[Any] = [claim.worker, claim.number, claim.limit]
    return asked if claim.queues is None else [*asked, claim.queues]


def _written(settlements: Sequence[Settlement]) -> Any:
    """What the store keeps of an advance as text, for each settlement; False where none has one."""
    if all(settlement.advance is None for settlement in settlements):
        return False
    return [_texts(settlement.advance) for settlement in settlements]


def _texts(advance: Advance | None) -> Any:
    if advance is None:
        return False
    return {
        "changes": text(advance.changes) if advance.changes else False,
        "route": text(advance.route) if advance.route is not None else False,
        "wait": wait_row(advance.wait),
        "ending": ending_row(advance.ending),
    }


def report(shard: Shard, worker: str, progress: Mapping[str, Progress]) -> list[str]:
    """The verb `report`, in one shard."""
    told = {id: text(value) for id, value in progress.items()}
    stopping: list[str] = shard.run("report", (worker, told))
    return stopping
