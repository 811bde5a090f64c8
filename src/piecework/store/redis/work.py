"""The verbs of workers on the Redis shelf: runs end, jobs are taken, progress is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from piecework.job import Answer, Claim, Fetched, Progress
from piecework.outcome import Advance, Settlement
from piecework.store.redis.rows import ending_row, fetched, is_operation, text, wait_row
from piecework.store.redis.shard import Shard, answer, unpack

_ANSWERS = {str(answer): answer for answer in Answer}


def exchange(
    shard: Shard, settlements: Sequence[Settlement], claim: Claim | None
) -> tuple[list[Answer], list[Fetched]]:
    """`settle`, then `fetch`, in one transaction. What stands in the way of the fetch is cleared a bite at a time."""
    answers, more, jobs = read(shard.reply("exchange", told(settlements, claim)))
    while more:
        _, more, jobs = read(shard.reply("exchange", told((), claim)))
    return answers, jobs


def read(reply: bytes | list[bytes]) -> tuple[list[Answer], bool, list[Fetched]]:
    """What the script answered: also whether something stood in the way, and the claim is to be sent again."""
    rows = iter(reply if isinstance(reply, list) else [reply])  # what was refused comes alone
    answers, more = answer(next(rows))
    jobs = []
    for row in rows:
        changing, fixed = unpack(row), unpack(next(rows))
        beside = (unpack(next(rows)), unpack(next(rows))) if is_operation(changing) else None
        jobs.append(fetched(changing, fixed, beside))
    return [_ANSWERS[said] for said in answers], more, jobs


def told(settlements: Sequence[Settlement], claim: Claim | None) -> tuple[Any, ...]:
    """What the script is told."""
    return settlements, _written(settlements), False if claim is None else claim_row(claim)


def claim_row(claim: Claim) -> list[Any]:
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
    stopping: list[str] = shard.run("report", report_row(worker, progress))
    return stopping


def report_row(worker: str, progress: Mapping[str, Progress]) -> tuple[Any, ...]:
    return worker, {id: text(value) for id, value in progress.items()}
