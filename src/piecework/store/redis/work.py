"""The verbs of workers on the Redis shelf: runs end, jobs are taken, progress is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from piecework.job import Answer, Claim, Fetched, Progress, State
from piecework.outcome import Advance, Settlement
from piecework.store.redis.rows import ending_row, fetched, is_operation, text, wait_row
from piecework.store.redis.shard import Shard, answer, unpack

NAMED = 6  # pieces that an error names, and one more

_ANSWERS = {str(answer): answer for answer in Answer}


class Asked(NamedTuple):
    """One call of the script: what it is told, and which settlements that were."""

    told: tuple[Any, ...]
    good: Sequence[int]  # which of them just completed: they are told in a row, without names
    other: Sequence[int]

    def read(self, reply: bytes | list[bytes]) -> tuple[list[Answer | None], bool, list[Fetched]]:
        """What it answered, None where pieces have to be looked at first; also whether something stood in the way, and the
        claim is to be sent again."""
        rows = iter(reply if isinstance(reply, list) else [reply])  # what was refused comes alone
        not_ok, answers, more = answer(next(rows))
        found: list[Answer | None] = [Answer.OK] * (len(self.good) + len(self.other))
        for n, said in not_ok.items() if not_ok else ():
            found[self.good[int(n) - 1]] = _ANSWERS[said]
        for n, said in zip(self.other, answers, strict=True):
            found[n] = _ANSWERS.get(said)
        return found, more, _jobs(rows)


def _jobs(rows: Iterator[bytes]) -> list[Fetched]:
    jobs = []
    for row in rows:
        changing, fixed = unpack(row), unpack(next(rows))
        beside = (unpack(next(rows)), unpack(next(rows))) if is_operation(changing) else None
        jobs.append(fetched(changing, fixed, beside))
    return jobs


def asked(settlements: Sequence[Settlement], claim: Claim | None) -> Asked:
    """What is to be sent."""
    told_claim = False if claim is None else claim_row(claim)
    good: list[int] = []
    other: list[int] = []
    flat: list[Any] = []
    twice = len({settlement.id for settlement in settlements}) < len(settlements)  # the first of them counts
    for n, s in enumerate(settlements):
        if twice or not _just_completed(s):
            other.append(n)
        else:
            good.append(n)
            flat += (s.id, s.run, s.attempt, False if s.result is None else s.result)
    left = [settlements[n] for n in other]
    return Asked((flat, left, _written(left), told_claim), good, other)


def _just_completed(s: Settlement) -> bool:
    """Whether there is nothing to be said of a run but that it came to its end, and to what."""
    return s.state is State.COMPLETED and s.advance is None and s.history is None and s.cursor is None


def exchange(
    shard: Shard, settlements: Sequence[Settlement], claim: Claim | None
) -> tuple[list[Answer], list[Fetched]]:
    """`settle`, then `fetch`, in one transaction. What stands in the way of the fetch is cleared a bite at a time."""
    call = asked(settlements, claim)
    answers, more, jobs = call.read(shard.reply("exchange", call.told))
    ends = looked(shard, settlements, answers)
    while more:
        again = asked((), claim)
        _, more, jobs = again.read(shard.reply("exchange", again.told))
    return ends, jobs


def looked(shard: Shard, settlements: Sequence[Settlement], answers: Sequence[Answer | None]) -> list[Answer]:
    """The answers, once the splitters that ended otherwise than before were told which pieces are missing."""
    return [
        _with_strays(shard, settlement) if said is None else said
        for settlement, said in zip(settlements, answers, strict=True)
    ]


def _with_strays(shard: Shard, settlement: Settlement) -> Answer:
    names: list[str] = []
    after: Any = None
    while after is not False and len(names) < NAMED:
        some, after = shard.run("strays", {"id": settlement.id, "run": settlement.run, "after": after})
        names += some
    written = {**(_texts(settlement.advance) or {}), "strays": names}
    call = Asked(((), (settlement,), (written,), False), (), (0,))
    (said,), _, _ = call.read(shard.reply("exchange", call.told))
    assert said is not None
    return said


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
