"""Distributed jobs, in the plainest way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from piecework import parting
from piecework.job import ErrorInfo
from piecework.parts import (
    RESENT,
    DistributedRecord,
    DistributedState,
    Done,
    PartEnd,
    PartRecord,
    PartState,
    Push,
    Resumed,
)

if TYPE_CHECKING:
    from piecework.testing.model.store import ModelStore

T = TypeVar("T")


class ModelParts:
    """The verbs of `Parts`, on the dicts of a model store."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def push(self, push: Push) -> list[PartState]:
        with self._store._transaction() as t:
            before, now = self.read(push.token), self._store.now()
            known = {} if before is None else t.parts[push.token]
            new = [name for name in dict.fromkeys(push.parts) if name not in known]
            start = parting.begun(push, now) if before is None else before
            after = parting.pushed(start, push, len(new), now)
            if before is None and push.token in t.distributed:  # one whose time is over
                self._drop(push.token)
            added = {name: PartRecord(start.total + n, name, PartState.OPEN) for n, name in enumerate(new)}
            t.parts[push.token] = {**known, **added}
            self._set(before, after)
            self._clear()
            return [t.parts[push.token][name].state for name in push.parts]

    def leave(self, token: str, producer: str, error: ErrorInfo | None = None) -> None:
        with self._store._transaction():
            before = self.read(token)
            if before is not None:
                self._set(before, parting.left(before, producer, error, self._store.now()))

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        with self._store._transaction() as t:
            before, now = self._there(token), self._store.now()
            known = {name: (part.state, t.part_calls.get((token, name))) for name, part in t.parts[token].items()}
            after, changes, answers = parting.ended(before, known, ends, now, ttl)
            for name, end in changes.items():
                part, failed = t.parts[token][name], end.error is not None
                ended = PartRecord(
                    part.number,
                    name,
                    PartState.FAILED if failed else PartState.DONE,
                    part.failures + failed,
                    now,
                    end.result,
                    end.error,
                )
                t.parts[token] = {**t.parts[token], name: ended}
                t.part_calls[token, name] = end.call
            self._set(before, after)
            return answers

    def stop(
        self, token: str, reason: str, *, call: str | None = None, by: str | None = None, ttl: float | None = None
    ) -> bool:
        return self._change(token, lambda job: parting.stopped(job, reason, by, self._store.now(), ttl, call))

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        with self._store._transaction() as t:
            before = self._there(token)
            answer = self._change(token, lambda job: parting.resumed(job, self._store.now(), call))
            if self._there(token) != before:
                t.parts[token] = {
                    name: replace(part, state=PartState.OPEN, ended_at=None, result=None, error=None)
                    if part.state is PartState.FAILED
                    else part
                    for name, part in t.parts[token].items()
                }
            return answer

    def forget(self, tokens: Sequence[str], *, call: str | None = None) -> int:
        with self._store._transaction() as t:
            now = self._store.now()
            if call is not None and t.forgot_by.get(call, (0, 0.0))[1] > now:
                return t.forgot_by[call][0]
            there = {token for token in tokens if self.read(token) is not None}
            for token in there:
                self._drop(token)
            if there and call is not None:
                t.forgot_by[call] = len(there), now + RESENT
            return len(there)

    def prune(self, *, limit: int = 1000) -> int:
        with self._store._transaction():
            return self._clear(limit)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def read(self, token: str) -> DistributedRecord | None:
        with self._store._changed:
            job = self._store._t.distributed.get(token)
            return None if job is None or self._is_over(job) else job

    def find(
        self,
        state: DistributedState | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
        newest: bool = True,
    ) -> list[DistributedRecord]:
        with self._store._changed:
            jobs = [job for job in self._store._t.distributed.values() if not self._is_over(job)]
        jobs = jobs[::-1] if newest else jobs
        if after is not None:
            places = [n for n, job in enumerate(jobs) if job.token == after]
            jobs = jobs[places[0] + 1 :] if places else []
        return [job for job in jobs if state in (None, job.state)][:limit]

    def parts(
        self, token: str, *, after: int = -1, limit: int = 500, state: PartState | None = None
    ) -> list[PartRecord]:
        with self._store._changed:
            parts = self._store._t.parts[token].values() if self.read(token) is not None else ()
            return [part for part in parts if part.number > after and state in (None, part.state)][:limit]

    def part(self, token: str, part: str) -> PartRecord | None:
        with self._store._changed:
            return self._store._t.parts[token].get(part) if self.read(token) is not None else None

    def now(self) -> float:
        return self._store.now()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _there(self, token: str) -> DistributedRecord:
        job = self.read(token)
        if job is None:
            raise parting.not_found(token)
        return job

    def _change(self, token: str, change: Callable[[DistributedRecord], tuple[DistributedRecord, T]]) -> T:
        with self._store._transaction():
            before = self._there(token)
            after, answer = change(before)
            self._set(before, after)
            return answer

    def _set(self, before: DistributedRecord | None, after: DistributedRecord) -> None:
        self._store._t.distributed[after.token] = after
        self._store.add(list(parting.due(before, after)))

    def _is_over(self, job: DistributedRecord) -> bool:
        return job.expires_at is not None and job.expires_at <= self._store.now()

    def _clear(self, limit: int = 1000) -> int:
        t, left = self._store._t, limit
        for token in [job.token for job in t.distributed.values() if self._is_over(job)]:
            gone = list(t.parts[token])[:left]
            t.parts[token] = {name: part for name, part in t.parts[token].items() if name not in gone}
            left -= len(gone)
            if left > 0:
                left -= self._drop(token)
        return limit - left

    def _drop(self, token: str) -> int:
        """Deletes a job with the parts that it has left; how many rows that were."""
        t = self._store._t
        t.distributed.pop(token)
        for call in [call for call in t.part_calls if call[0] == token]:
            t.part_calls.pop(call)
        return 1 + len(t.parts.pop(token))
