"""The server and the connections to it: a few for each process, however many threads ask, and none across a fork.

Nothing here needs a session that lasts: every transaction is begun, told its limits, and ended on whatever connection
is free, so a pooler may stand between. The gate is taken first of all; see docs/adr/0019-the-gate.md.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from enum import Enum
from typing import Any, NoReturn, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import IsolationLevel, Pipeline
from psycopg.adapt import AdaptersMap
from psycopg.postgres import register_default_adapters
from psycopg.pq import TransactionStatus

from piecework.errors import StoreError, StoreRefused, StoreUnavailable
from piecework.failpoints import failpoint
from piecework.store.postgres.held import AGAIN_MS, BRIEF_MS, Patience
from piecework.store.postgres.silence import Impatient, Silent, silent_for
from piecework.store.postgres.telling import COLLIDED, NOT_PREPARED, first_line, is_lost, is_refused, tell, told_by_us
from piecework.store.postgres.transaction import Collided, Con, Locks, Row
from piecework.store.postgres.url import Place

T = TypeVar("T")

LOCK_SECONDS = 10  # how long a transaction waits for others
IDLE_SECONDS = 10  # how long a process that was stopped in the middle of one may hold up others
FREE_SECONDS = 30.0  # how long a call waits for a free connection of its own process
PREPARED = 400  # statements that a connection keeps prepared
COLLISIONS, PAUSE = 8, 0.01  # tries after a deadlock or a serialization failure, and seconds before the second one

# Connections that a fork copied into this process. They are the parent's: not used, not closed, not forgotten.
_inherited: list[object] = []

# What the program registers with the driver, for its own connections or for all, does not change how ours read and
# write.
ADAPTERS = AdaptersMap(types=psycopg.adapters.types)
register_default_adapters(ADAPTERS)

# Whatever the server's default is. The gate needs it: who waited there has to see what those before it have written,
# and in a stricter transaction would see what was there before it waited.
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"

# Which database of which server: the same text whatever a session's time zone is.
IDENTITY = (
    b"SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text, "
    b"extract(epoch FROM pg_postmaster_start_time())::text"
)


class Gate(Enum):
    """How a transaction stands to the others that count, end, stop and bring back jobs."""

    OPEN = "BEGIN"
    SHARED = "pg_advisory_xact_lock_shared"  # beside its like: ends of runs, pieces offered
    ALONE = "pg_advisory_xact_lock"  # beside nothing but fetches that go on and plain additions


def gate_number(schema: str) -> int:
    """The first number of the advisory lock that is a schema's gate; the second is 1."""
    return zlib.crc32(schema.encode()) - (1 << 31)


class Database:
    """One schema on one server as this process sees it."""

    def __init__(self, place: Place, draw: Callable[[], float] = random.random) -> None:
        self.place = place
        self._denied = place.pooler is False  # the URL says that there is no pooler
        self._draw = draw
        self._has_transactions = False  # behind a pooler, it was seen that they are taken
        number = gate_number(place.schema)
        self._patience = LOCK_SECONDS
        limits = (
            f"set_config('lock_timeout', '{_ms(LOCK_SECONDS)}ms', true), "
            f"set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS}s', true), "
            # The planner thinks a fetch long, which it is not: it would be compiled anew each time, for 25 to 70 ms.
            "set_config('jit', 'off', true)"
        )
        # Planning a fetch takes longer than fetching, so what is prepared is planned once; and through the indexes,
        # because a plan made while the table was small is kept when it has grown.
        planned = "set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)"
        alone = f"SELECT {limits}, {Gate.ALONE.value}({number}, 1)::text"
        self._opening = {
            Gate.OPEN: f"SELECT {limits}, {planned}".encode(),
            Gate.SHARED: f"SELECT {limits}, {planned}, {Gate.SHARED.value}({number}, 1)::text".encode(),
            # For the gate it waits long; behind it, all others wait for whatever it waits for.
            Gate.ALONE: f"{alone}, set_config('lock_timeout', '{BRIEF_MS}ms', true)".encode(),
        }
        self._alone_again = f"{alone}, set_config('lock_timeout', '{AGAIN_MS}ms', true)".encode()
        self._alone_and_patient = alone.encode()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._free: list[Con] = []
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # of those that look again for what others hold
        self._used = 0
        self._identity: Row | None = None  # of the server as it was last asked
        self._known: WeakSet[Any] = WeakSet()  # connections of callers, to this very database

    def _leave_fork_behind(self) -> None:
        if os.getpid() != self._pid:
            _inherited.append((self._free, self._changed))
            self._reset()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def connect(self) -> Con:
        """A new connection, each statement a transaction of its own unless one is begun."""
        con = self._connect(ADAPTERS)
        if not self.place.pooler:  # reads, too; behind a pooler, others get this connection
            con.execute(b"SET jit = off")
            con.execute(f"SET lock_timeout = '{_ms(self._patience)}ms'".encode())
        con.prepared_max = PREPARED
        return con

    def connect_for_task(self) -> Con:
        """A new connection as the driver makes them, for one run's own statements; whoever asks for it closes it."""
        con = self._connect(None)
        con.isolation_level = IsolationLevel.READ_COMMITTED  # as of all of ours: see BEGIN
        return con

    def _connect(self, adapters: AdaptersMap | None) -> Impatient:
        try:
            con = Impatient.connect(self.place.conninfo, autocommit=True, context=adapters)
        except psycopg.OperationalError as error:
            if is_refused(error):
                raise StoreRefused(f"the store {self.place.shown} does not let us in: {first_line(error)}") from error
            raise StoreUnavailable(f"the store {self.place.shown} cannot be reached: {first_line(error)}") from error
        if self.place.pooler is None:
            self.place = self.place._replace(pooler=_is_handed_round(con))
        if self.place.pooler and not self._has_transactions:
            self._refuse_statement_mode(con)
        con.prepare_threshold = None if self.place.pooler else 5
        con.silence = self.place.silence or math.inf
        return con

    def _refuse_statement_mode(self, con: Con) -> None:
        """Raises `StoreError` where a pooler takes no transactions; in a pipeline it ends the connection without a reason."""
        try:
            con.execute(BEGIN)
            con.execute(b"ROLLBACK")
        except psycopg.errors.ProtocolViolation as error:
            con.close()
            raise StoreError(
                f"the store {self.place.shown} is behind a pooler that hands connections round between statements "
                f"({first_line(error)}); transactions are needed: pool_mode = transaction, or session"
            ) from error
        self._has_transactions = True

    def opening(self, gate: Gate, *, patient: bool = False, again: bool = False) -> bytes:
        """What a transaction says first: its limits, and how it passes the gate.

        One that is `patient` waits long behind the gate, too: what it has done before is not to be done again. One that
        found something held there, and comes `again`, hardly waits.
        """
        if gate is Gate.ALONE and (patient or again):
            return self._alone_and_patient if patient else self._alone_again
        return self._opening[gate]

    def locks(self, *, again: bool) -> Locks:
        """How long a transaction waits for what others hold; `again` where it was found held before."""
        return Locks(_ms(self._patience), AGAIN_MS if again else BRIEF_MS)

    @contextmanager
    def _connection(self) -> Iterator[Con]:
        """A connection for one call: one that is free, or one more while there are not too many."""
        self._leave_fork_behind()
        pool, changed = self._free, self._changed
        con = self._take()
        try:
            if con is None:
                con = self.connect()
            yield con
        finally:
            with changed:
                self._used -= 1
                if con is not None and pool is self._free and _is_idle(con):
                    pool.append(con)
                elif con is not None:
                    con.close()
                changed.notify()

    def _take(self) -> Con | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._used < self.place.connections, FREE_SECONDS):
                raise StoreUnavailable(
                    f"all {self.place.connections} connections of this process to {self.place.shown} were busy for "
                    f"{FREE_SECONDS:g} s"
                )
            self._used += 1
            return self._free.pop() if self._free else None

    def close(self) -> None:
        """Closes what is free now; what is in use is closed when it is given back."""
        self._leave_fork_behind()
        with self._changed:
            pool, self._free = self._free, []
        for con in pool:
            con.close()

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    def write(
        self,
        body: Callable[[Con, Pipeline | None], T],
        gate: Gate,
        *,
        piped: bool = True,
        silence: float = math.inf,
    ) -> T:
        """One transaction: committed at its end, rolled back on any error; sent again where that cannot do harm.

        Its statements are sent without waiting for answers, unless it is not `piped`, or what it wanted was held
        before: the connection outlives an error then. `silence` is for how many seconds the server may say nothing, at
        most.
        """

        def work(con: Con, again: bool) -> T:
            with silent_for(con, min(silence, self.place.silence or math.inf)):
                return self._transaction(con, body, gate, piped=piped and not again, again=again)

        return self._sent(work)

    def change(self, body: Callable[[Con], T]) -> T:
        """One transaction that changes the tables, alone; it may take its time."""

        def work(con: Con, _: bool) -> T:
            with silent_for(con, math.inf):
                return self._transaction(con, lambda con, _: body(con), Gate.ALONE, patient=True)

        return self._sent(work)

    def write_one(self, statement: bytes, params: Mapping[str, Any]) -> None:
        """One statement that is a transaction by itself; else as `write`.

        Only the limits of the session hold for it, and behind a pooler there are none.
        """
        self._sent(lambda con, _: self._transaction(con, _nothing, None, piped=False, last=(statement, params)))

    def _transaction(
        self,
        con: Con,
        body: Callable[[Con, Pipeline | None], T],
        gate: Gate | None,
        *,
        piped: bool = True,
        patient: bool = False,
        again: bool = False,
        last: tuple[Any, ...] = (b"COMMIT",),
    ) -> T:
        try:
            with told_by_us(), con.pipeline() if piped else nullcontext() as pipeline:
                if gate is not None:
                    con.execute(BEGIN)
                    con.execute(self.opening(gate, patient=patient, again=again))
                answer = body(con, pipeline)
                failpoint("store.before_commit")
                con.execute(*last)
        except BaseException as error:
            if isinstance(error, psycopg.errors.LockNotAvailable) and not piped:
                con.execute(b"ROLLBACK")
            elif isinstance(error, psycopg.Error) or isinstance(error.__context__, psycopg.Error):
                # What was to be prepared behind the statement that failed was skipped; the driver believes it is there.
                con.close()
            elif not con.broken and con.info.transaction_status is not TransactionStatus.IDLE:
                con.execute(b"ROLLBACK")
            raise
        failpoint("store.after_commit")
        return answer

    def read(self, body: Callable[[Con], T]) -> T:
        """Statements that only look, each at a moment of its own."""
        return self._sent(lambda con, _: body(con))

    def read_by_index(self, body: Callable[[Con], T]) -> T:
        """Statements that only look, with the plans of work: through the indexes, whatever is known of the tables."""
        return self._sent(lambda con, _: self._transaction(con, lambda con, _: body(con), Gate.OPEN))

    def _sent(self, work: Callable[[Con, bool], T]) -> T:
        """Calls, and calls again: once after a connection was lost, a few times after two calls got into each other's way.

        And for a while where others hold what it wants; then `work` is told so.
        """
        lost = collided = 0
        patience = Patience(self._patience, self._turn, self._draw)
        while True:
            try:
                with patience.turn(), self._connection() as con:
                    return work(con, patience.tries > 0)
            except Collided as error:
                collided += 1
                if collided > COLLISIONS:
                    raise StoreUnavailable(f"the store {self.place.shown} is too busy: {error}") from error
            except psycopg.Error as error:
                denied = self._denied and error.sqlstate in NOT_PREPARED  # the URL is to be mended, not the connection
                if patience.lasts(error):
                    continue
                if isinstance(error, Silent):
                    self.close()
                    raise StoreUnavailable(f"the store {self.place.shown} cannot be reached: {error}") from error
                if is_lost(error.sqlstate, str(error), error) and not lost and not denied:
                    lost += 1
                    self.close()  # the others went the same way, most likely
                elif error.sqlstate in COLLIDED and collided < COLLISIONS:
                    collided += 1
                    time.sleep(PAUSE * (collided - 1) * (0.5 + self._draw()))  # two would meet again and again
                else:
                    self.explain(error)

    # ── connections of callers ───────────────────────────────────────────────────────────────────

    def identity(self) -> Row:
        """What tells this very database from others, as it was when it was last asked."""
        return self._identity or self.ask_identity()

    def ask_identity(self) -> Row:
        """The same, asked now: a server that was started again has another."""
        found = self.read(lambda con: con.execute(IDENTITY).fetchone())
        assert found is not None
        self._identity = found
        return found

    def knows(self, driver: Any) -> bool:
        """Whether a caller's connection was seen to be to this very database."""
        return driver in self._known

    def remember(self, driver: Any) -> None:
        self._known.add(driver)

    # ── errors ───────────────────────────────────────────────────────────────────────────────────

    def explain(self, error: psycopg.Error) -> NoReturn:
        """Turns the driver's error into the store's."""
        if error.sqlstate == "25006":
            self.close()  # another server may be the writable one by now
        self.tell(error.sqlstate, first_line(error), error)

    def tell(self, code: str | None, said: str, error: Exception) -> NoReturn:
        """The store's error for what a server or a driver said, here or on a caller's connection."""
        tell(self.place.shown, code, said, error)


def _is_handed_round(con: Con) -> bool:
    """Whether a pooler is between: it says a number of its own for the process that serves this connection."""
    row = con.execute(b"SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != con.info.backend_pid


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _nothing(con: Con, pipeline: Pipeline | None) -> None:
    """What comes before a statement that is a transaction by itself."""


def _is_idle(con: Con) -> bool:
    return not con.closed and con.info.transaction_status is TransactionStatus.IDLE
