"""What follows for a distributed job from what is said of it: pure, so that every store decides alike.

Each function takes the record as it is and returns it as it is to be. A follow-up is due where its moment (`then_at`,
`otherwise_at`) has come to be set: whoever writes the record stores that job in the same transaction.

No transaction changes more than a bite of parts. A large call is as several small ones; between two of them the numbers
are right, and whoever dies there is followed by the same call, sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from piecework.errors import AlreadyClosed, DistributedJobStopped, PartsChanged, ProducerReplaced, TokenNotFound
from piecework.job import ErrorInfo, NewJob
from piecework.parts import (
    DAY,
    DistributedProgress,
    DistributedRecord,
    DistributedState,
    Done,
    PartEnd,
    PartState,
    Push,
    Resumed,
)

CALLS_KEPT = 8  # of those that stopped or resumed a job: one is sent again at once, or never
ENDED = DistributedState.FINISHED, DistributedState.FAILED
BITE = 1000  # parts that one transaction ends, or opens again
RESUMING = "it is being resumed, and its parts are opened again; where that broke off, resume it once more"


def begun(push: Push, now: float) -> DistributedRecord:
    """A job as its first push makes it, still without parts. Raises `TokenNotFound` where that is not the first."""
    if not push.begins:
        raise not_found(push.token)
    return DistributedRecord(
        token=push.token,
        producer=push.producer,
        created_at=now,
        changed_at=now,
        base_at=now,
        ttl=DAY,
        then=push.then,
        otherwise=push.otherwise,
    )


def pushed(record: DistributedRecord, push: Push, new: int, now: float) -> DistributedRecord:
    """With `new` parts more, taken from the run of a producer that owns the job, or takes it over.

    Raises `AlreadyClosed`, `ProducerReplaced`, `DistributedJobStopped` and `PartsChanged`.
    """
    if record.producer != push.producer:
        record = _taken_over(record, push)
    if record.stopped_at is not None:
        raise DistributedJobStopped(
            f"the distributed job {record.token!r} was stopped ({record.reason}); it takes no parts until it is resumed"
        )
    if record.sealed and new:
        raise AlreadyClosed(
            f"the distributed job {record.token!r} was closed with {record.total} parts, and this push offers {new} more; "
            "use a new token for other work"
        )
    total = record.total + new
    if push.close is not None and push.close != total:
        raise PartsChanged(
            f"the distributed job {record.token!r} has {total} parts, and its producer came to its end with {push.close}: "
            "a producer that is run again must offer the same parts; it was not closed"
        )
    after = replace(
        record,
        total=total,
        open=record.open + new,
        sealed=record.sealed or push.close is not None,
        complete=record.complete or push.complete,
        expected=record.expected if push.expected is None else push.expected,
        ttl=record.ttl if push.ttl is None else push.ttl,
    )
    return after if after == record else _settled(after, now, None)


def _taken_over(record: DistributedRecord, push: Push) -> DistributedRecord:
    if record.complete:
        raise AlreadyClosed(
            f"the distributed job {record.token!r} is closed: all of its {record.total} parts were pushed and handed over"
        )
    if not push.begins:
        raise ProducerReplaced(
            f"another producer has begun to push to the distributed job {record.token!r}; this one must leave it to that"
        )
    return replace(
        record,
        producer=push.producer,
        push_error=None,
        then=record.then or push.then,
        otherwise=record.otherwise or push.otherwise,
    )


def left(record: DistributedRecord, producer: str, error: ErrorInfo | None, now: float) -> DistributedRecord:
    """Its producer came to its end, or broke off. What one says that was replaced does not count."""
    if record.producer != producer or record.complete:
        return record
    if error is not None:
        return replace(record, push_error=error, changed_at=now)
    return replace(record, complete=True, changed_at=now) if record.sealed else record


def ended(
    record: DistributedRecord,
    known: Mapping[str, tuple[PartState, str | None]],
    ends: Sequence[PartEnd],
    now: float,
    ttl: float | None,
) -> tuple[DistributedRecord, dict[str, PartEnd], list[Done]]:
    """With these ends: the record, the ends that changed a part, and the answers.

    `known` is where the named parts stand, and by which call they ended.
    """
    standing, changes, counted = dict(known), dict[str, PartEnd](), list[bool]()
    opened, failed, last = record.open, record.failed, None
    for end in ends:
        before, call = standing.get(end.part, (None, None))
        after = PartState.DONE if end.error is None else PartState.FAILED
        if before is PartState.OPEN or (before is PartState.FAILED and after is PartState.DONE):
            opened -= before is PartState.OPEN
            failed += (after is PartState.FAILED) - (before is PartState.FAILED)
            standing[end.part], changes[end.part], last = (after, end.call), end, end.part
            counted.append(True)
        else:
            counted.append(before is not None and call == end.call)
    after_all = record
    if changes:
        kept = record.ttl if ttl is None else ttl
        after_all = _settled(replace(record, open=opened, failed=failed, ttl=kept, ended_at=None), now, last)
    answers = [Done(end.part in known, own, False, False, False) for end, own in zip(ends, counted, strict=True)]
    return after_all, changes, answered(after_all, ends, answers)


def answered(record: DistributedRecord, ends: Sequence[PartEnd], answers: Sequence[Done]) -> list[Done]:
    """The answers of several bites, as the job stands behind the last of them: as if they had been one."""
    finished, stopped = record.state is DistributedState.FINISHED, record.stopped_at is not None
    return [
        Done(answer.known, answer.counted, finished and end.part == record.last, finished, stopped)
        for end, answer in zip(ends, answers, strict=True)
    ]


def stopped(
    record: DistributedRecord, reason: str, by: str | None, now: float, ttl: float | None, call: str | None
) -> tuple[DistributedRecord, bool]:
    """Stopped, unless it has ended or was stopped before; and whether this call did it, also when it is sent again."""
    if _said(record, call) is not None:
        return record, True
    if record.stopped_at is not None or record.state in ENDED:
        return record, False
    after = replace(
        record,
        stopped_at=now,
        stopped_by=by,
        reason=reason,
        changed_at=now,
        ttl=record.ttl if ttl is None else ttl,
        otherwise_at=_due(record.otherwise, record.otherwise_at, now),
    )
    return _keeping(after, call, finished=False), True


def resumed(
    record: DistributedRecord, now: float, call: str | None, opened: int | None = None
) -> tuple[DistributedRecord, Resumed]:
    """Let go on where it was stopped or has failed: the parts that failed are open again.

    Where only so many of them are `opened` with this change, it is stopped until the others are.
    And what the call answers, also when it is sent again: where all parts are done, it is the one that finishes the
    job.
    """
    said = _said(record, call)
    if said is not None:
        return record, Resumed(True, said)
    if record.state not in (DistributedState.STOPPED, DistributedState.FAILED):
        return record, Resumed(False)
    if opened is not None and opened < record.failed:
        after = replace(record, open=record.open + opened, failed=record.failed - opened, changed_at=now)
        if record.stopped_at is None:
            after = replace(after, stopped_at=now, reason=RESUMING, ended_at=None, expires_at=None)
        return after, Resumed(True)
    after = replace(
        record,
        stopped_at=None,
        stopped_by=None,
        reason=None,
        open=record.open + record.failed,
        failed=0,
        base_at=now,
        base_ended=record.done,
    )
    after = _settled(after, now, None)
    finished = after.state is DistributedState.FINISHED
    return _keeping(after, call, finished=finished), Resumed(True, finished)


def due(before: DistributedRecord | None, after: DistributedRecord) -> Iterable[NewJob]:
    """The follow-ups that are to be stored with this change."""
    if after.then is not None and after.then_at is not None and (before is None or before.then_at is None):
        yield after.then
    if after.otherwise is not None and after.otherwise_at and (before is None or before.otherwise_at is None):
        yield after.otherwise


def progress(record: DistributedRecord, now: float) -> DistributedProgress:
    """How far a job is, and how long the rest will take at its speed so far."""
    total = record.total if record.sealed else record.expected
    if total is not None:
        total = max(total, record.total)
    recent, seconds = record.ended - record.base_ended, now - record.base_at
    speed = recent / seconds if recent > 0 and seconds > 0 and record.state not in ENDED else None
    eta = (total - record.ended) / speed if total is not None and speed else None
    return DistributedProgress(
        done=record.done,
        failed=record.failed,
        open=record.open,
        total=total,
        share=None if total is None else record.ended / total if total else 1.0,
        per_second=speed,
        eta=0.0 if record.state in ENDED else None if record.stopped_at is not None else eta,
    )


def not_found(token: str) -> TokenNotFound:
    """The error for a token under which nothing is kept."""
    return TokenNotFound(
        f"no distributed job {token!r}: nothing was ever pushed to it, or it has ended and was forgotten"
    )


def _settled(record: DistributedRecord, now: float, last: str | None) -> DistributedRecord:
    """As it stands after a change: ended, where no part is open and none can follow; else not (any more)."""
    state = record.state
    if state not in ENDED:
        return replace(record, changed_at=now, ended_at=None, expires_at=None)
    ended_at = now if record.ended_at is None else record.ended_at
    after = replace(record, changed_at=now, ended_at=ended_at, expires_at=now + record.ttl)
    if state is DistributedState.FAILED:
        return replace(after, otherwise_at=_due(record.otherwise, record.otherwise_at, now))
    return replace(after, last=record.last or last, then_at=_due(record.then, record.then_at, now))


def _said(record: DistributedRecord, call: str | None) -> bool | None:
    """Whether the job was finished by a call that has stopped or resumed it; None where this call has not."""
    return None if call is None else dict(record.calls).get(call)


def _keeping(record: DistributedRecord, call: str | None, *, finished: bool) -> DistributedRecord:
    if call is None:
        return record
    return replace(record, calls=(*record.calls, (call, finished))[-CALLS_KEPT:])


def _due(job: NewJob | None, at: float | None, now: float) -> float | None:
    return now if job is not None and at is None else at
