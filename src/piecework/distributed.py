"""Distributed jobs: keeping track of work that is split in parts and done anywhere, by any queue.

A worker of another queue needs this module, the store's URL and a token, and nothing else of piecework is loaded:

    from piecework.distributed import distributed_job

    job = distributed_job("sqlite:///jobs.db", token)
    if not job.stopped:
        …
        job.done(part)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar, overload

from msgspec.structs import replace

from piecework import parting
from piecework.errors import BadOption, BadSettings, BadToken, PartNotFound
from piecework.errortext import clean, describe
from piecework.ids import new_id, short_token
from piecework.job import ErrorInfo, NewJob
from piecework.parts import (
    DistributedProgress,
    DistributedRecord,
    DistributedState,
    Done,
    PartEnd,
    PartRecord,
    PartState,
    Push,
    Resumed,
)
from piecework.producer import check_each, check_items, check_part, feed, hand_over, length_of, new_run, push_names
from piecework.store import open_parts
from piecework.store.protocol import Parts

__all__ = ["DistributedJob", "DistributedState", "Done", "PartState", "Resumed", "distributed_job"]

T = TypeVar("T")

LONGEST_TOKEN = 200
LONGEST_REASON = 2000
LONGEST_TTL = 100 * 366 * 86400.0
DEFAULT_URL = "sqlite:///piecework.db"
PAGE = 500

_opened: dict[str, Parts] = {}


def distributed_job(url: str | None, token: str, *, ttl: float | timedelta | None = None) -> DistributedJob:
    """The distributed job of a token, for code that has no app; nothing is read or written by making it.

    `url` is the store's (None: ``$PIECEWORK_URL``). Its connections are kept for this process's next call. `ttl` is as
    for `Piecework.distributed_job`. Raises `BadToken`, `BadOption` and `BadSettings`.

    Example::

        job = distributed_job("redis://localhost/0", token)
        job.done(part)
    """
    place = url or os.environ.get("PIECEWORK_URL") or DEFAULT_URL
    if not isinstance(place, str):
        raise BadSettings(
            f"distributed_job: the store's URL must be text, not {type(place).__name__} {place!r:.100}; an app has its own: "
            "app.distributed_job(token)"
        )
    # Without a lock, which a child could be forked with: of two threads that come at once, one makes its own in vain.
    parts = _opened.get(place) or _opened.setdefault(place, open_parts(place))
    return DistributedJob(parts, token, ttl=ttl)


class DistributedJob:
    """A job whose parts are done anywhere: the same token is the same job, in every process and on every machine.

    Made by `Piecework.distributed_job` or `distributed_job`. What reads raises `TokenNotFound` where nothing was pushed
    to the token, or the job has ended and its time is over; every call raises `StoreUnavailable` where the store could
    not be reached, and may then be made again.

    Example::

        job = app.distributed_job("import-7", then=report.piece(7))
        for day, part in job.push_each(days):
            some_queue.send("import_day", day, job.token, part)

        # in a worker of that queue
        job = distributed_job(url, token)
        if not job.stopped:
            import_day(day)
            job.done(part)
    """

    def __init__(
        self,
        parts: Parts,
        token: str,
        *,
        ttl: float | timedelta | None = None,
        then: NewJob | None = None,
        otherwise: NewJob | None = None,
    ) -> None:
        self._parts = parts
        self.token = check_token(token)
        self._ttl = None if ttl is None else check_ttl(ttl)
        self._then = then
        self._otherwise = otherwise

    def __repr__(self) -> str:
        return f"<distributed job {self.token}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistributedJob) and other.token == self.token and other._parts is self._parts

    def __hash__(self) -> int:
        return hash(self.token)

    # ── the producer ─────────────────────────────────────────────────────────────────────────────

    @overload
    def push_each(self, items: Iterable[T], each: None = None) -> Iterator[tuple[T, str]]: ...
    @overload
    def push_each(self, items: Iterable[T], each: Callable[[T, str], object]) -> int: ...

    def push_each(
        self, items: Iterable[T], each: Callable[[T, str], object] | None = None
    ) -> Iterator[tuple[T, str]] | int:
        """Registers a part for each item, and gives the pairs of item and part: hand each over to a queue.

        To be looped over; or `each` is called with every pair, and the number of them returned. Parts are named by the
        number of their item. Items are streamed: a part is registered before it is given away, and the job is closed
        before the last is, so that it is never finished early. The loop must be let run to its end.

        Where it broke off, do the same again: parts that have ended are passed over, and each counts once. What was
        handed over and has not ended is handed over again. An error of the items, or of `each`, is kept with the job
        (`record`); one in the body of a loop is not seen here.

        Raises `BadPart` for what cannot be iterated, or is a bare string; from its first item on `AlreadyClosed` for a
        job that was pushed to its end before, `DistributedJobStopped`, `PartsChanged` where there are fewer items than
        before, and `ProducerReplaced` where another run has begun to push meanwhile.
        """
        check_each(each)
        source: Iterator[Any] = check_items(items, "push_each: the items")
        first = self._push(length_of(items))
        if each is None:
            return feed(self._parts, first, source)
        return hand_over(self._parts, first, source, each)

    def push_all(self, parts: Iterable[str | int]) -> int:
        """Registers parts by name, closes the job, and returns how many there were; a name that comes twice is one.

        Hand them over afterwards; where that broke off, those of `open_parts`. Raises as `push_each` does, and
        `BadPart` for a name that cannot be one; nothing is stored then.
        """
        names = [check_part(part) for part in check_items(parts, "push_all: the parts")]
        push_names(self._parts, self._push(None), names)
        return len(set(names))

    def _push(self, expected: int | None) -> Push:
        # The same handle may push again, to a job that was forgotten or one of the next day: what follows is new, too.
        then, otherwise = (job and replace(job, id=new_id()) for job in (self._then, self._otherwise))
        return replace(new_run(self.token), ttl=self._ttl, expected=expected, then=then, otherwise=otherwise)

    # ── the workers ──────────────────────────────────────────────────────────────────────────────

    def done(self, part: str | int, result: Any = None, *, strict: bool = False) -> Done:
        """Says that a part is done, and keeps its result.

        The answer is true for the one call that finished the job. After a crash, say it again: nothing is counted
        twice, and `last` tells for that very part that the job was finished with it, however often it is asked. A
        follow-up that was stored with the job (`then`) needs neither.
        A part that failed may be done after all. A part that there is not is known by `known`; with `strict` it raises
        `PartNotFound`. Raises `TokenNotFound`, `BadPart`, and `NotSerializable` or `TooLarge` for the result.
        """
        return self._end({check_part(part): result}, strict=strict)[0]

    def done_many(self, parts: Iterable[str | int] | Mapping[str | int, Any], *, strict: bool = False) -> list[Done]:
        """`done` for many parts, a thousand in each transaction; results are given by a mapping of parts to them.

        A large call is as several small ones, one behind the other, answered as the job stands at the end. Where it
        raises `StoreUnavailable`, some of its parts may have ended: make it again.
        """
        items = check_items(parts, "done_many: the parts")
        if isinstance(parts, Mapping):
            return self._end(parts, strict=strict)
        return self._end(dict.fromkeys(map(check_part, items)), strict=strict)

    def fail(self, part: str | int, error: BaseException | str, *, strict: bool = False) -> Done:
        """Says that a part failed, and why. It has ended by that, but may be done after all.

        A closed job none of whose parts is open and some failed has failed: `otherwise` follows, and `then` does not.
        """
        if not isinstance(error, BaseException | str):
            raise BadOption(f"fail: the error is an exception or text, not {type(error).__name__} {error!r:.100}")
        info = ErrorInfo("", clean(error, LONGEST_REASON)) if isinstance(error, str) else describe(error)
        return self._send([PartEnd(check_part(part), short_token(), None, info)], strict)[0]

    def stop(self, reason: str = "", *, by: str | None = None) -> bool:
        """Asks all workers to begin no further part, and says whether this call did it.

        Who works on a part asks `stopped`. Parts still end, but the job does not; `otherwise` follows, and `then` does
        not.
        A job that has ended, or was stopped before, stays as it is. Raises `TokenNotFound`.
        """
        for said, what in ((reason, "reason"), (by or "", "by")):
            if not isinstance(said, str):
                raise BadOption(f"stop: {what} must be text, not {said!r:.100}")
        by = None if by is None else clean(by, 200)
        reason = clean(reason, LONGEST_REASON)
        return self._parts.stop(self.token, reason, call=short_token(), by=by, ttl=self._ttl)

    def resume(self) -> Resumed:
        """Lets a job go on that was stopped or has failed, and says whether it was; hand over `open_parts` again.

        Parts that failed are open again; what is done stays. Many are opened in several transactions, and the job is
        stopped until all are open: where that breaks off, make the call again. Where its last part was done while the
        job was stopped, no `done` could say so: this call finishes the job then, `then` follows, and `finished` of the
        answer is true, for the one call that did it. Raises `TokenNotFound`.
        """
        return self._parts.resume(self.token, call=short_token())

    def forget(self) -> bool:
        """Deletes the job with all its parts, whatever its state; False where there was none."""
        return self._parts.forget([self.token], call=short_token()) == 1

    def _end(self, results: Mapping[str | int, Any], *, strict: bool) -> list[Done]:
        call = short_token()
        return self._send(
            [PartEnd(check_part(part), call, _encoded(part, result)) for part, result in results.items()], strict
        )

    def _send(self, ends: list[PartEnd], strict: bool) -> list[Done]:
        if strict:
            for end in ends:
                if self._parts.part(self.token, end.part) is None:
                    self.record()  # the token may be what is not there
                    raise PartNotFound(f"the distributed job {self.token!r} has no part {end.part!r}")
        return self._parts.end(self.token, ends, ttl=self._ttl)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def record(self) -> DistributedRecord:
        """Everything that is kept of the job beside its parts, at one moment. Raises `TokenNotFound`."""
        found = self._parts.read(self.token)
        if found is None:
            raise parting.not_found(self.token)
        return found

    @property
    def exists(self) -> bool:
        """Whether anything is kept of the job."""
        return self._parts.read(self.token) is not None

    @property
    def state(self) -> DistributedState:
        """Where the job stands."""
        return self.record().state

    @property
    def count(self) -> int:
        """How many parts have not ended."""
        return self.record().open

    @property
    def total(self) -> int:
        """How many parts were pushed, ended or not."""
        return self.record().total

    @property
    def closed(self) -> bool:
        """Whether all parts are known."""
        return self.record().sealed

    @property
    def finished(self) -> bool:
        """Whether all parts are known and done, and nobody has stopped the job before they were."""
        return self.state is DistributedState.FINISHED

    @property
    def stopped(self) -> bool:
        """Whether somebody has stopped the job; `reason` says why."""
        return self.record().stopped_at is not None

    @property
    def reason(self) -> str | None:
        """Why the job was stopped."""
        return self.record().reason

    @property
    def ttl(self) -> float:
        """For how many seconds after its end, or the last change behind that, the job is kept."""
        return self.record().ttl

    @property
    def then_id(self) -> str | None:
        """The id of the follow-up `then`, once the job is finished and it is stored."""
        record = self.record()
        return record.then.id if record.then is not None and record.then_at is not None else None

    @property
    def otherwise_id(self) -> str | None:
        """The id of the follow-up `otherwise`, once the job has failed or was stopped and it is stored."""
        record = self.record()
        return record.otherwise.id if record.otherwise is not None and record.otherwise_at is not None else None

    @property
    def progress(self) -> DistributedProgress:
        """How many parts have ended, of how many as far as that is known, how fast, and how long the rest will take."""
        return parting.progress(self.record(), self._parts.now())

    def open_parts(self) -> Iterator[str]:
        """The names of the parts that have not ended, in their order, read page by page."""
        for part in self.parts(PartState.OPEN):
            yield part.part

    def parts(self, state: PartState | str | None = None) -> Iterator[PartRecord]:
        """The parts in their order, with results and errors, read page by page; or those in one state."""
        try:
            wanted = None if state is None else PartState(state)
        except ValueError:
            raise BadOption(f"parts: state must be one of {', '.join(PartState)}, not {state!r}") from None
        self.record()
        return self._pages(wanted)

    def _pages(self, wanted: PartState | None) -> Iterator[PartRecord]:
        after = -1
        while True:
            page = self._parts.parts(self.token, after=after, limit=PAGE, state=wanted)
            yield from page
            if len(page) < PAGE:
                break
            after = page[-1].number
        if not page:
            self.record()  # nothing behind a whole page may mean that the job is gone: less than all is no answer

    def part(self, part: str | int) -> PartRecord | None:
        """One part: its state, result and error. None where there is none of that name. Raises `TokenNotFound`."""
        name = check_part(part)
        found = self._parts.part(self.token, name)
        if found is None:
            self.record()
        return found

    def results(self) -> Iterator[tuple[str, Any]]:
        """The names and results of the parts that are done, in their order, read page by page."""
        for part in self.parts(PartState.DONE):
            yield part.part, _decoded(part.result)


def pages_of(parts: Parts, state: DistributedState | None, newest: bool) -> Iterator[DistributedRecord]:
    """All distributed jobs of a store, or those in one state, read page by page."""
    after: str | None = None
    while page := parts.find(state, after=after, newest=newest):
        yield from page
        after = page[-1].token


def check_token(token: object) -> str:
    """A token: 1 to 200 characters."""
    if not isinstance(token, str) or not token or len(token) > LONGEST_TOKEN or clean(token, LONGEST_TOKEN) != token:
        raise BadToken(f"a token is text of 1 to {LONGEST_TOKEN} characters that can be stored, not {token!r:.100}")
    return str.__str__(token)  # of a subclass nobody knows whether a store takes it


def check_ttl(ttl: object) -> float:
    """Seconds, more than none."""
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise BadOption(f"ttl must be seconds or a timedelta, not {ttl!r:.100}")
    if not 0 < seconds <= LONGEST_TTL:
        raise BadOption(f"ttl must be more than 0 seconds and not more than a hundred years, not {ttl!r:.100}")
    return float(seconds)


def _encoded(part: object, result: Any) -> str | None:
    if result is None:
        return None
    from piecework.codec import ResultCodec  # most parts have no result, and need not load what checks one

    return ResultCodec(lambda: None, f"part {part}").encode(result)


def _decoded(text: str | None) -> Any:
    from msgspec.json import decode

    return None if text is None else decode(text)
