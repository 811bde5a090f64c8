"""The verbs of distributed jobs on the shelves that keep rows.

`parting` decides what follows; here it is read and written, behind the lock of the job's own row. Statements go by
their titles, and each shelf has its own of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from piecework import parting
from piecework.job import ErrorInfo, NewJob
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
from piecework.store.sql.transaction import Opened, Transaction, to_json

CLEARED = 100  # rows past their time that a push deletes beside as many as it adds
FIRST, LAST = -1, (1 << 62)  # below and above every number of arrival
BITE = 2000  # parts in one statement

T = TypeVar("T")

_error = msgspec.json.Decoder(ErrorInfo).decode
_job = msgspec.json.Decoder(NewJob).decode
_calls = msgspec.json.Decoder(tuple[tuple[str, bool], ...]).decode
_JSON = {"push_error": _error, "then": _job, "otherwise": _job, "calls": _calls}
_FIELDS = (
    "token", "producer", "created_at", "changed_at", "ttl", "total", "open", "failed", "sealed", "complete", "expected",
    "push_error", "last", "ended_at", "expires_at", "stopped_at", "stopped_by", "reason", "base_at", "base_ended", "then",
    "then_at", "otherwise", "otherwise_at", "calls",
)  # fmt: skip


class PartsOnRows:
    """`Parts`, given the ways to open a shelf's transactions and to add jobs in one of them."""

    def __init__(self, *, read: Opened, write: Opened, add: Callable[[Any, list[NewJob]], object]) -> None:
        self._read = read
        self._write = write
        self._add = add

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def push(self, push: Push) -> list[PartState]:
        return self._write(lambda tx: self._push(tx, push))

    def leave(self, token: str, producer: str, error: ErrorInfo | None = None) -> None:
        def body(tx: Transaction) -> None:
            seq, before, now = _held(tx, token)
            if before is not None:
                self._set(tx, seq, before, parting.left(before, producer, error, now))

        self._write(body)

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        answers: list[Done] = []
        for n in range(0, max(len(ends), 1), parting.BITE):
            bite = ends[n : n + parting.BITE]
            record, some = self._write(partial(self._end, token=token, ends=bite, ttl=ttl))
            answers += some
        return parting.answered(record, ends, answers)

    def stop(
        self, token: str, reason: str, *, call: str | None = None, by: str | None = None, ttl: float | None = None
    ) -> bool:
        def body(tx: Transaction) -> bool:
            seq, before, now = _there(tx, token)
            after, did = parting.stopped(before, reason, by, now, ttl, call)
            self._set(tx, seq, before, after)
            return did

        return self._write(body)

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        def bite(tx: Transaction) -> tuple[Resumed, bool]:
            seq, before, now = _there(tx, token)
            opened = min(before.failed, parting.BITE)
            after, answer = parting.resumed(before, now, call, opened)
            if before.failed != after.failed:
                tx.post("parts_reopen", job=seq, limit=opened)
            self._set(tx, seq, before, after)
            return answer, after != before and after.stopped_at is not None

        answer, more = self._write(bite)
        while more:
            last, more = self._write(bite)
            answer = Resumed(answer.resumed, last.finished)
        return answer

    def forget(self, tokens: Sequence[str], *, call: str | None = None) -> int:
        def body(tx: Transaction) -> int:
            # The row stays, without its token, for as long as the call that deletes it may be sent again.
            kept = 0.0 if call is None else RESENT
            gone = tx.run("parts_forget", tokens=to_json(list(tokens)), call=call, kept=kept)
            return gone if gone or call is None else int(tx.row("parts_forgot", call=call)[0])

        return self._write(body)

    def prune(self, *, limit: int = 1000) -> int:
        # It looks before it writes: mostly there is nothing, and nobody should wait for that.
        if self._read(lambda tx: tx.row("parts_any_past")) is None:
            return 0
        return self._write(lambda tx: _clear(tx, limit))

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def read(self, token: str) -> DistributedRecord | None:
        row = self._read(lambda tx: tx.row("parts_job", token=token))
        return None if row is None else _record(row[1:])

    def find(
        self,
        state: DistributedState | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
        newest: bool = True,
    ) -> list[DistributedRecord]:
        def body(tx: Transaction) -> list[Any]:
            behind = LAST if newest else FIRST
            if after is not None:
                row = tx.row("parts_seq", token=after)
                if row is None:
                    return []
                behind = row[0]
            asked = {"state": state and state.value, "after": behind, "limit": limit}
            return tx.rows("parts_find_newest" if newest else "parts_find", **asked)

        return [_record(row[1:]) for row in self._read(body)]

    def parts(
        self, token: str, *, after: int = -1, limit: int = 500, state: PartState | None = None
    ) -> list[PartRecord]:
        title = "parts_page" if state is None else f"parts_page_{state.value}"

        def body(tx: Transaction) -> list[Any]:
            job = tx.row("parts_job", token=token)
            return [] if job is None else tx.rows(title, job=job[0], after=after, limit=limit)

        return [_part(row) for row in self._read(body)]

    def part(self, token: str, part: str) -> PartRecord | None:
        def body(tx: Transaction) -> Any:
            job = tx.row("parts_job", token=token)
            return None if job is None else tx.row("parts_one", job=job[0], name=part)

        row = self._read(body)
        return None if row is None else _part(row)

    def now(self) -> float:
        return self._read(_moment)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _push(self, tx: Transaction, push: Push) -> list[PartState]:
        seq, before, now = _held(tx, push.token)
        known = {} if before is None else _parts(tx, seq, push.parts)
        new = [name for name in dict.fromkeys(push.parts) if name not in known]
        start = parting.begun(push, now) if before is None else before
        after = parting.pushed(start, push, len(new), now)
        if before is None:
            tx.post("parts_late", token=push.token)  # one whose time is over gives up its token
            seq = tx.row("parts_begin", **_columns(after))[0]
            self._follow(tx, None, after)
        else:
            self._set(tx, seq, before, after)
        for n in range(0, len(new), BITE):
            tx.post("parts_add", job=seq, first=start.total + n, names=to_json(new[n : n + BITE]))
        _clear(tx, len(new) + CLEARED)
        return [PartState(known[name][0]) if name in known else PartState.OPEN for name in push.parts]

    def _end(
        self, tx: Transaction, token: str, ends: Sequence[PartEnd], ttl: float | None
    ) -> tuple[DistributedRecord, list[Done]]:
        seq, before, now = _there(tx, token)
        rows_of = _parts(tx, seq, [end.part for end in ends])
        known = {name: (PartState(state), call) for name, (state, call, _) in rows_of.items()}
        after, changes, answers = parting.ended(before, known, ends, now, ttl)
        if changes:
            rows = [
                (seq, rows_of[name][2], end.call, end.result, end.error and to_json(end.error))
                for name, end in changes.items()
            ]
            tx.post("parts_end", rows=to_json(rows), moment=now)
        self._set(tx, seq, before, after)
        return after, answers

    def _set(self, tx: Transaction, seq: int, before: DistributedRecord, after: DistributedRecord) -> None:
        """Writes a record that changed, and stores the follow-ups that are due with that."""
        if after != before:
            tx.post("parts_set", seq=seq, **_columns(after))
            self._follow(tx, before, after)

    def _follow(self, tx: Transaction, before: DistributedRecord | None, after: DistributedRecord) -> None:
        if jobs := list(parting.due(before, after)):
            self._add(tx, jobs)


def _held(tx: Transaction, token: str) -> tuple[int, DistributedRecord | None, float]:
    """A job's row, which is this transaction's alone until its end, and the moment."""
    row = tx.row("parts_job_held", token=token)
    return (0, None, _moment(tx)) if row is None else (row[0], _record(row[1:-1]), float(row[-1]))


def _there(tx: Transaction, token: str) -> tuple[int, DistributedRecord, float]:
    seq, record, now = _held(tx, token)
    if record is None:
        raise parting.not_found(token)
    return seq, record, now


def _moment(tx: Transaction) -> float:
    return float(tx.row("now_read")[0]) if tx.now is None else tx.now


def _parts(tx: Transaction, seq: int, names: Sequence[str]) -> dict[str, tuple[str, str | None, int]]:
    """Of the named parts: state, the call that ended it, number."""
    found: dict[str, tuple[str, str | None, int]] = {}
    for n in range(0, len(names), BITE):
        rows = tx.rows("parts_states", job=seq, names=to_json(list(names[n : n + BITE])))
        found |= {name: (state, call, number) for name, state, call, number in rows}
    return found


def _clear(tx: Transaction, limit: int) -> int:
    """Deletes a bite of what is past its time: first the parts of a job, then the job."""
    left = limit
    for (seq,) in tx.rows("parts_past"):
        left -= tx.run("parts_clear", job=seq, limit=left)
        if left <= 0:
            return limit
        left -= tx.run("parts_gone", job=seq)
    return limit - left


def _columns(record: DistributedRecord) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in _FIELDS}
    values |= {name: None if values[name] is None else to_json(values[name]) for name in _JSON}
    return {**values, "sealed": int(record.sealed), "complete": int(record.complete), "state": record.state.value}


def _record(row: Sequence[Any]) -> DistributedRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    values |= {name: decode(values[name]) for name, decode in _JSON.items() if values[name] is not None}
    values |= {"sealed": bool(values["sealed"]), "complete": bool(values["complete"])}
    return DistributedRecord(**values)


def _part(row: Sequence[Any]) -> PartRecord:
    number, name, state, failures, ended_at, result, error = row
    return PartRecord(
        number, name, PartState(state), failures, ended_at, result, None if error is None else _error(error)
    )
