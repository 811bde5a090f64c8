"""The store on one SQLite file: each verb opens a transaction and says what is done in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import msgspec

from piecework.clock import Clock, SystemClock
from piecework.errors import StoreUnavailable, UsageError
from piecework.failpoints import failpoint
from piecework.job import (
    CRASH_LIMIT,
    Amendment,
    AmendmentRecord,
    Answer,
    AttemptRecord,
    BatchRecord,
    Claim,
    Fence,
    Fetched,
    Filter,
    Finding,
    NewBatch,
    NewJob,
    NewSignal,
    OperationRecord,
    PieceResult,
    Progress,
    Record,
    SessionRecord,
    SignalRecord,
    Standing,
)
from piecework.outcome import Settlement
from piecework.store.callers import Aside, is_awaited_sqlalchemy, no_connection, refuse_awaited, synchronous_half
from piecework.store.sqlite import (
    amending,
    delete,
    effects,
    enqueue,
    examine,
    fanin,
    fetch,
    history,
    operation,
    operators,
    retry,
    schema,
    settle,
    waits,
)
from piecework.store.sqlite.ground import Ground
from piecework.store.sqlite.prune import Pruner
from piecework.store.sqlite.rows import (
    RECORD_COLUMNS,
    batch_record,
    behind,
    order,
    record,
    source,
    standing,
    where,
)
from piecework.store.sqlite.sweep import Sweeper
from piecework.store.sqlite.transaction import SQL, to_json
from piecework.store.sqlite.within import TAKES, theirs

CLEARING_PAUSE = 0.005  # seconds in which others may write, between the bites of a long clearing or retrying

_pieces = msgspec.json.Decoder(list[PieceResult]).decode


class SqliteStore(Ground):
    """Jobs in one SQLite file, shared by any number of processes of one machine.

    `synchronous` is FULL unless the URL says ``?synchronous=normal``: with FULL, what was acknowledged survives a loss
    of power; with NORMAL it survives the death of any process, but the last commits may be gone after a loss of power.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, synchronous: str = "FULL") -> None:
        super().__init__(url, clock or SystemClock(), synchronous)
        self._begin_walks()
        self._repair_from = ""
        self._held: set[str] = set()  # batches that the last repair found held open by a retry

    def _begin_walks(self) -> None:
        self._pruner = Pruner(self._read, self._write, self.clock)
        self._sweeper = Sweeper(self._read, self._write)

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    def _set_up_beside(self) -> None:
        """The same while a caller has a transaction on this file, beside which none can be written."""
        try:
            self._set_up()
        except StoreUnavailable as error:
            set_up = False
            with suppress(StoreUnavailable):  # of a file that is no queue yet nothing can be read either
                set_up = self.is_set_up()
            if set_up:
                raise
            raise StoreUnavailable(
                f"the store {self.db.path} has no tables yet, and they cannot be made beside your transaction: call "
                "app.migrate(), or run piecework migrate, before it begins"
            ) from error

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        applied = schema.migrate(self.db, self.clock.now())
        self._ready_for = os.getpid()
        return applied

    def script(self, after: int | None = None) -> str:
        if after is None:
            after = (schema.version(self.db) or 0) if schema.exists(self.db) else 0
        return schema.script(after)

    def examine(self) -> list[Finding]:
        return examine.examine(self.db)

    def is_set_up(self) -> bool:
        return schema.exists(self.db)

    def now(self) -> float:
        return self.clock.now()

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        fence: Fence | None = None,
        within: Any = None,
    ) -> list[str]:
        if within is not None:
            refuse_awaited(within)
            self._set_up_beside()
            with theirs(within, self.db, self.clock.now) as tx:
                return enqueue.add(tx, jobs, batch, fence)
        with self._write(long=len(jobs) >= enqueue.MANY) as tx:
            return enqueue.add(tx, jobs, batch, fence)

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        if not is_awaited_sqlalchemy(within):
            raise no_connection(within, TAKES)
        await aside(self._set_up)
        # SQLAlchemy switches between the two worlds by itself.
        answers: list[str] = await synchronous_half(within).run_sync(lambda half: self.add(jobs, within=half))
        return answers

    def seal(self, batch: str) -> bool:
        with self._write() as tx:
            sealed = bool(tx.run("batch_seal", id=batch))
            if sealed:
                fanin.count(tx, fanin.nothing(), [batch])
            return sealed

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        if not self._anything(claim):
            return []
        while True:
            with self._write() as tx:
                jobs = fetch.fetch(tx, claim)
            if jobs is not None:
                return jobs
            time.sleep(CLEARING_PAUSE)

    def _anything(self, claim: Claim) -> bool:
        """Looks before it locks: an idle worker's question must not hold up those who write."""
        with self._read() as tx:
            if fetch.is_refused(tx, claim):
                return True
            if any(moment is not None and moment <= tx.now for moment in tx.row("fetch_due")):
                return True
            if tx.row("fetch_again", worker=claim.worker, claim=claim.number)[0] != "[]":
                return True
            lines = {row[0] for row in tx.rows("fetch_lines")}
            return bool(lines if claim.queues is None else lines & set(claim.queues))

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        return self._exchange(settlements, None)[0]

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        if not settlements:
            return [], self.fetch(claim)
        return self._exchange(settlements, claim)

    def _exchange(self, settlements: Sequence[Settlement], claim: Claim | None) -> tuple[list[Answer], list[Fetched]]:
        for careful in (False, True):
            try:
                with self._write() as tx:
                    answers = settle.settle(tx, settlements, careful=careful)
                    if settlements:
                        failpoint("settle.in_transaction")
                    jobs = [] if claim is None else fetch.fetch(tx, claim)
                return answers, self.fetch(claim) if jobs is None and claim is not None else jobs or []
            except settle.FenceMismatch:
                continue
        raise AssertionError("a settlement that had been checked did not match its fence inside the same transaction")

    def transaction(self) -> AbstractContextManager[effects.Effects]:
        self._set_up()
        return effects.opened(self.db, self.clock.now)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        if progress:
            rows = to_json([(id, to_json(value)) for id, value in progress.items()])
            with self._write() as tx:
                tx.run("report_progress", rows=rows, worker=worker)
        with self._read() as tx:
            return [row[0] for row in tx.rows("report_stopping", worker=worker)]

    def holds(self, worker: str) -> list[Fence]:
        with self._read() as tx:
            return [Fence(*row) for row in tx.rows("holds_read", worker=worker)]

    def set_status(self, fence: Fence, status: str) -> bool:
        with self._write() as tx:
            return bool(tx.run("set_status", id=fence.id, run=fence.run, status=status, now=tx.now))

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        if "." in session.id:
            raise UsageError(f"the session id {session.id!r} has a dot, which ends the session in a worker's name")
        with self._write() as tx:
            tx.run("session_add", **msgspec.structs.asdict(session))

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        with self._write() as tx:
            return bool(tx.run("session_renew", id=session, now=tx.now, polled=polled))

    def sessions(self) -> list[SessionRecord]:
        with self._read() as tx:
            names = SessionRecord.__struct_fields__
            return [SessionRecord(**dict(zip(names, row, strict=True))) for row in tx.rows("session_list")]

    def bury(self, session: str, beat: int | None = None) -> int | None:
        with self._write() as tx:
            if not tx.run("session_end", id=session, beat=beat) and beat is not None:
                return None
            why = "its worker's session ended" if beat is None else "its worker's session stopped beating"
            return len(operators.hand_back(tx, f"{session}.", f"{session}/", crashed=(), reason=why, crash_limit=1))

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        with self._write() as tx:
            operators.give_up(tx, worker)
            return operators.hand_back(
                tx, worker, worker + "\x01", crashed=set(crashed), reason=reason, crash_limit=crash_limit
            )

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def cancel(
        self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
    ) -> int:
        with self._write() as tx:
            return operators.cancel(tx, which, reason, by, limit, undo)

    def retry(
        self, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
    ) -> int:
        back = retry.Return(resume, retry.BITE, by, reason)
        with self._write() as tx:
            n = retry.retry(tx, which, limit, back)
        while back.held:
            time.sleep(CLEARING_PAUSE)
            with self._write() as tx:
                retry.go_on(tx, back)
        return n

    def prune(self, *, before: float, limit: int = 1000) -> int:
        self._set_up()
        deleted = self._pruner.bite(before, limit)
        if deleted < limit:
            self.parts.prune(limit=limit)
        return deleted

    def delete(self, which: Filter, *, limit: int = 1000) -> int:
        with self._write() as tx:
            return delete.delete(tx, which, limit)

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        try:
            with self._write() as tx:
                return amending.amend(tx, id, cursor, amendment)
        except amending.CannotGoOnError:
            return Answer.STALE

    def signal(self, id: str, signal: NewSignal) -> bool:
        with self._write() as tx:
            return waits.signal(tx, id, signal)

    def repair(self, *, limit: int = 10) -> list[str]:
        self._set_up()
        self._sweeper.sweep(limit)
        with self._read() as tx:
            suspects, self._repair_from = operators.suspects(tx, limit, self._repair_from)
            held = [row[0] for row in tx.rows("repair_held")]
        dead_calls, self._held = set(held) & self._held, set(held)
        if not suspects and not dead_calls:
            return []
        with self._write() as tx:
            retry.let_go(tx, dead_calls)
            return operators.repair(tx, suspects)

    def pause(self, queue: str, on: bool = True) -> None:
        with self._write() as tx:
            tx.run("pause_on" if on else "pause_off", queue=queue)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def get(self, ids: Sequence[str]) -> list[Record]:
        with self._read() as tx:
            sql = SQL["get_records"].format(columns=RECORD_COLUMNS)
            found = {row[0]: record(row) for row in tx.con.execute(sql, {"ids": to_json(list(ids))})}
        return [found[id] for id in ids if id in found]

    def find(self, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Record]:
        condition, params = where(which)
        title = SQL["find_page_newest" if newest else "find_page"]
        sql = title.format(
            columns=RECORD_COLUMNS, jobs=source(which), where=condition, after=behind(which, newest), order=order(which)
        )
        with self._read() as tx:
            start = tx.row("get_seq", id=after) if after is not None else None
            if after is not None and start is None:
                return []
            params |= {"after": start[0] if start else None, "limit": limit}
            return [record(row) for row in tx.con.execute(sql, params)]

    def count(self, which: Filter) -> int:
        asked = {name for name in which.__struct_fields__ if getattr(which, name) is not None}
        if asked <= {"queue", "state"}:
            return sum(
                n
                for (queue, state), n in self.counts().items()
                if which.queue in (None, queue) and which.state in (None, state)
            )
        condition, params = where(which)
        with self._read() as tx:
            (n,) = tx.con.execute(SQL["find_count"].format(jobs=source(which), where=condition), params).fetchone()
            return int(n)

    def counts(self) -> dict[tuple[str, str], int]:
        with self._read() as tx:
            return {(queue, state): n for queue, state, n in tx.rows("tally_read")}

    def standing(self, tasks: Sequence[str], identity: str) -> Standing | None:
        with self._read() as tx:
            row = tx.row("standing_read", tasks=to_json(list(tasks)), identity=identity)
            return None if row is None else standing(row)

    def batch(self, id: str) -> BatchRecord | None:
        with self._read() as tx:
            row = tx.row("batch_read", id=id)
            return None if row is None else batch_record(row)

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        with self._read() as tx:
            title = "pieces_failed_page" if failed else "pieces_page"
            return _pieces(tx.row(title, batch=batch, after=after, limit=limit)[0])

    def attempts(
        self, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
    ) -> list[AttemptRecord]:
        with self._read() as tx:
            return history.page(tx, id, after, before, limit, newest)

    def operations(self, ids: Sequence[str]) -> list[OperationRecord]:
        with self._read() as tx:
            found = {row[0]: operation.record(row) for row in tx.rows("operations_read", ids=to_json(list(ids)))}
        return [found[id] for id in ids if id in found]

    def plan(self, digest: str) -> str | None:
        with self._read() as tx:
            row = tx.row("plan_read", digest=digest)
            return None if row is None else str(row[0])

    def amendments(self, id: str) -> list[AmendmentRecord]:
        with self._read() as tx:
            return [operation.amendment_record(row) for row in tx.rows("amendments_read", id=id)]

    def signals(self, id: str) -> list[SignalRecord]:
        with self._read() as tx:
            names = SignalRecord.__struct_fields__
            return [SignalRecord(**dict(zip(names, row, strict=True))) for row in tx.rows("signals_read", id=id)]

    def paused(self) -> list[str]:
        with self._read() as tx:
            return [row[0] for row in tx.rows("pause_list")]

    def oldest_due(self) -> dict[str, float]:
        with self._read() as tx:
            return {queue: max(0.0, tx.now - since) for queue, since in tx.rows("oldest_due", now=tx.now)}

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        self._set_up()
        return self.db.changed(timeout)

    def next_due(self) -> float | None:
        with self._read() as tx:
            moments = [moment for moment in tx.row("fetch_due") if moment is not None]
            return max(0.0, min(moments) - tx.now) if moments else None
