"""The verbs that are the same on every shelf on SQL, over the ways in which a shelf opens its transactions.

What is not here a shelf does in its own way: adding, fetching and settling, and how it waits for something new.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from piecework.clock import Clock
from piecework.errors import UsageError
from piecework.job import (
    CRASH_LIMIT,
    Amendment,
    AmendmentRecord,
    Answer,
    AttemptRecord,
    BatchRecord,
    Deed,
    Fence,
    Filter,
    NewSignal,
    OperationRecord,
    Record,
    SessionRecord,
    SignalRecord,
    Standing,
)
from piecework.store.bites import bites
from piecework.store.sql import amending, delete, fanin, history, operation, operators, retry, waits
from piecework.store.sql.filters import RECORD_COLUMNS
from piecework.store.sql.parting import PartsOnRows
from piecework.store.sql.prune import Pruner
from piecework.store.sql.rows import batch_record, record, standing
from piecework.store.sql.sweep import Sweeper
from piecework.store.sql.transaction import Transaction, to_json

CLEARING_PAUSE = 0.005  # seconds in which others may write, between the bites of a long clearing or retrying
PROGRESS = "id", "progress"
FIRST, LAST = -1, (1 << 63) - 1  # below and above every number of arrival

BITE = 500  # deeds or signals that one transaction does

T = TypeVar("T")


class Verbs(ABC):
    """A store whose transactions run titled statements."""

    clock: Clock
    parts: PartsOnRows
    _repair_from = ""
    _held: frozenset[str] = frozenset()  # batches that the last repair found held open by a retry

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _set_up(self) -> None:
        """Makes the tables, where there are none."""

    @abstractmethod
    def _read(self, body: Callable[[Transaction], T]) -> T:
        """What only looks."""

    @abstractmethod
    def _plainly(self, body: Callable[[Transaction], T]) -> T:
        """A transaction that touches nothing which others count, end, stop or bring back."""

    @abstractmethod
    def _write(self, body: Callable[[Transaction], T]) -> T:
        """A transaction beside others."""

    @abstractmethod
    def _alone(self, body: Callable[[Transaction], T]) -> T:
        """A transaction that nobody else counts, ends, stops or brings back anything beside."""

    @abstractmethod
    def _beside(self, body: Callable[[Transaction], T]) -> T:
        """A transaction beside others; alone, if that turns out to be needed."""

    def _begin_walks(self) -> None:
        """What walks through the tables begins at their start."""
        self._pruner = Pruner(self._read, self._write, self.clock)
        self._sweeper = Sweeper(self._read, self._alone)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def seal(self, batch: str) -> bool:
        def sealed(tx: Transaction) -> bool:
            done = bool(tx.run("batch_seal", id=batch))
            if done:
                fanin.count(tx, fanin.nothing(), [batch])
            return done

        return self._beside(sealed)

    def holds(self, worker: str) -> list[Fence]:
        return [Fence(*row) for row in self._read(lambda tx: tx.rows("holds_read", worker=worker))]

    def set_status(self, fence: Fence, status: str) -> bool:
        return bool(self._plainly(lambda tx: tx.run("set_status", id=fence.id, run=fence.run, status=status)))

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        if "." in session.id:
            raise UsageError(f"the session id {session.id!r} has a dot, which ends the session in a worker's name")
        self._write(lambda tx: tx.post("session_add", **msgspec.structs.asdict(session)))

    def sessions(self) -> list[SessionRecord]:
        names = SessionRecord.__struct_fields__
        rows = self._read(lambda tx: tx.rows("session_list"))
        return [SessionRecord(**dict(zip(names, row, strict=True))) for row in rows]

    def bury(self, session: str, beat: int | None = None) -> int | None:
        why = "its worker's session ended" if beat is None else "its worker's session stopped beating"

        def buried(tx: Transaction) -> int | None:
            if not tx.run("session_end", id=session, beat=beat) and beat is not None:
                return None
            return len(operators.hand_back(tx, f"{session}.", f"{session}/", crashed=(), reason=why, crash_limit=1))

        return self._alone(buried)

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        blamed = set(crashed)

        def reaped(tx: Transaction) -> list[str]:
            operators.give_up(tx, worker)
            return operators.hand_back(
                tx, worker, worker + "\x01", crashed=blamed, reason=reason, crash_limit=crash_limit
            )

        return self._alone(reaped)

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def cancel(
        self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
    ) -> int:
        return self._alone(lambda tx: operators.cancel(tx, which, reason, by, limit, undo))

    def retry(
        self, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
    ) -> int:
        def begun(tx: Transaction) -> tuple[int, retry.Return]:
            back = retry.Return(resume, retry.BITE, by, reason)
            return retry.retry(tx, which, limit, back), back

        n, back = self._alone(begun)
        while back.held:
            time.sleep(CLEARING_PAUSE)
            back = self._alone(retry.goes_on(back))
        return n

    def prune(self, *, before: float, limit: int = 1000) -> int:
        self._set_up()
        deleted = self._pruner.bite(before, limit)
        if deleted < limit:
            self.parts.prune(limit=limit)
        return deleted

    def delete(self, which: Filter, *, limit: int = 1000) -> int:
        return self._alone(lambda tx: delete.delete(tx, which, limit))

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        return self._amend(Deed(id, cursor, amendment))

    def _amend(self, deed: Deed) -> Answer:
        try:
            (said,) = self._alone(lambda tx: amending.amend(tx, [deed], by_itself=True))
        except amending.CannotGoOnError:
            return Answer.STALE
        assert said is not None
        return said

    def amend_many(self, deeds: Sequence[Deed]) -> list[Answer]:
        answers: list[Answer] = []
        for bite in bites(deeds, lambda deed: deed.id, BITE):
            said = self._alone(partial(amending.amend, deeds=bite))
            answers += [self._amend(deed) if one is None else one for deed, one in zip(bite, said, strict=True)]
        return answers

    def signal(self, id: str, signal: NewSignal) -> bool:
        return self.signal_many([(id, signal)])[0]

    def signal_many(self, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
        told: list[bool] = []
        for bite in bites(signals, lambda signal: signal[0], BITE):
            one = partial(waits.signal, signals=bite)
            # Of many it locks rows of runs that end meanwhile, in an order of their own: nobody else is at it then.
            told += self._write(one) if len(bite) == 1 else self._alone(one)
        return told

    def repair(self, *, limit: int = 10) -> list[str]:
        self._set_up()
        self._sweeper.sweep(limit)
        suspects, self._repair_from = self._read(lambda tx: operators.suspects(tx, limit, self._repair_from))
        held = frozenset(row[0] for row in self._read(lambda tx: tx.rows("repair_held")))
        dead_calls, self._held = held & self._held, held
        if not suspects and not dead_calls:
            return []

        def mended(tx: Transaction) -> list[str]:
            retry.let_go(tx, dead_calls)
            return operators.repair(tx, suspects)

        return self._alone(mended)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def get(self, ids: Sequence[str]) -> list[Record]:
        asked = {"ids": to_json(list(ids))}
        rows = self._read(lambda tx: tx.fill("get_records", {"columns": RECORD_COLUMNS}, asked))
        found = {row[0]: record(row) for row in rows}
        return [found[id] for id in ids if id in found]

    def find(self, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Record]:
        def page(tx: Transaction) -> list[Any]:
            behind = LAST if newest else FIRST
            if after is not None:
                start = tx.row("get_seq", id=after)
                if start is None:
                    return []
                behind = start[0]
            title = "find_page_newest" if newest else "find_page"
            return tx.matching(title, which, newest=newest, after=behind, limit=limit)

        return [record(row) for row in self._read(page)]

    def count(self, which: Filter) -> int:
        asked = {name for name in which.__struct_fields__ if getattr(which, name) is not None}
        if asked <= {"queue", "state"}:
            return sum(
                n
                for (queue, state), n in self.counts().items()
                if which.queue in (None, queue) and which.state in (None, state)
            )
        ((n,),) = self._read(lambda tx: tx.matching("find_count", which))
        return int(n)

    def counts(self) -> dict[tuple[str, str], int]:
        return {(queue, state): n for queue, state, n in self._read(lambda tx: tx.rows("tally_read"))}

    def standing(self, tasks: Sequence[str], identity: str) -> Standing | None:
        row = self._read(lambda tx: tx.row("standing_read", tasks=to_json(list(tasks)), identity=identity))
        return None if row is None else standing(row)

    def batch(self, id: str) -> BatchRecord | None:
        row = self._read(lambda tx: tx.row("batch_read", id=id))
        return None if row is None else batch_record(row)

    def attempts(
        self, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
    ) -> list[AttemptRecord]:
        return self._read(lambda tx: history.page(tx, id, after, before, limit, newest))

    def operations(self, ids: Sequence[str]) -> list[OperationRecord]:
        rows = self._read(lambda tx: tx.rows("operations_read", ids=to_json(list(ids))))
        found = {row[0]: operation.record(row) for row in rows}
        return [found[id] for id in ids if id in found]

    def plan(self, digest: str) -> str | None:
        row = self._read(lambda tx: tx.row("plan_read", digest=digest))
        return None if row is None else str(row[0])

    def amendments(self, id: str) -> list[AmendmentRecord]:
        return [operation.amendment_record(row) for row in self._read(lambda tx: tx.rows("amendments_read", id=id))]

    def signals(self, id: str) -> list[SignalRecord]:
        names = SignalRecord.__struct_fields__
        rows = self._read(lambda tx: tx.rows("signals_read", id=id))
        return [SignalRecord(**dict(zip(names, row, strict=True))) for row in rows]

    def paused(self) -> list[str]:
        return [row[0] for row in self._read(lambda tx: tx.rows("pause_list"))]

    def oldest_due(self) -> dict[str, float]:
        return dict(self._read(lambda tx: tx.rows("oldest_due")))
