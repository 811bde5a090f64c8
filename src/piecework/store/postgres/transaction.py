"""One transaction on the PostgreSQL shelf: its statements, sent without waiting where nobody waits for the answer.

The statements are those of `sql/`, by title. What they say with `:name` is a parameter, `:now` the moment of the
transaction: the server's own, or that of the clock which a store was given. Tables are looked for in the store's schema,
whatever the connection's search path says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from psycopg import Connection, Cursor, Pipeline
from psycopg.rows import tuple_row

from piecework.store.sql import titles

SQL = titles("piecework.store.postgres")
TABLES = (
    "job",
    "batch",
    "attempt",
    "tally",
    "pause",
    "session",
    "sleeper",
    "schema",
    "operation",
    "plan",
    "term",
    "signal",
    "amendment",
    "step",
    "tag",
    "distributed",
    "part",
)
BEGAN, ASKED = "now()", "statement_timestamp()"  # the server's moments: a transaction's, and each statement's

_TABLE = re.compile(rf"(?<![\w.])piecework_({'|'.join(TABLES)})(?!\w)")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_COMMENT = re.compile(r"--.*$", re.MULTILINE)

_encoder = msgspec.json.Encoder()

T = TypeVar("T")
Row = tuple[Any, ...]
Con = Connection[Row]


def to_json(value: Any) -> str:
    """JSON text, as PostgreSQL's json functions take it."""
    return _encoder.encode(value).decode()


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def in_schema(text: str, schema: str) -> str:
    """The same SQL with every table of piecework's looked for in a schema."""
    return _TABLE.sub(lambda found: f"{quoted(schema)}.{found[0]}", text)


class Collided(Exception):
    """Two calls got into each other's way; the one that says so begins its transaction anew."""


class Locks(NamedTuple):
    """How long a transaction waits for what others hold, in milliseconds."""

    long: int
    brief: int  # where those others may be a caller's transaction, and who waits for this one had to wait for that


class Alone(Exception):
    """What is to be done cannot be done beside others; the transaction begins anew, alone."""


class Statements:
    """The shelf's statements for one schema and one source of time, as the driver takes them."""

    def __init__(self, schema: str, *, server_time: bool, moment: str = BEGAN) -> None:
        self.schema = schema
        self._now = f"extract(epoch FROM {moment})::float8" if server_time else "%(now)s::float8"
        self._ready: dict[str, bytes] = {}

    def __getitem__(self, title: str) -> bytes:
        found = self._ready.get(title)
        if found is None:
            found = self._ready[title] = self.compiled(SQL[title])
        return found

    def filled(self, title: str, **fragments: str) -> bytes:
        """A statement with fixed fragments put in its places."""
        key = "\0".join((title, *fragments.values()))
        found = self._ready.get(key)
        if found is None:
            found = self._ready[key] = self.compiled(SQL[title].format(**fragments))
        return found

    def compiled(self, text: str) -> bytes:
        asked = _PARAMETER.sub(self._parameter, _COMMENT.sub("", text).replace("%", "%%"))
        return (
            in_schema(asked, self.schema.replace("%", "%%")).strip().encode()
        )  # last: a name may look like a parameter

    def _parameter(self, found: re.Match[str]) -> str:
        if found[1] != "now":
            return f"%({found[1]})s"
        return self._now


class Counting:
    """What a transaction has changed of the counters, which are written once, at its end."""

    def __init__(self, schema: str) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        self.wakes = False
        self._schema = schema

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Remembers that `n` jobs of a queue went from one state to another; None is being not stored."""
        if before is not None:
            self.tally[queue, before] -= n
        if after is not None:
            self.tally[queue, after] += n
            self.wakes = self.wakes or (after == "available" and n > 0)

    def changed(self) -> list[tuple[str, str, int]]:
        """The counters that changed, and by how much."""
        return [(queue, state, n) for (queue, state), n in self.tally.items() if n]

    def closing(self, *, softly: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        """The statements that write the counters, and wake who sleeps where something may be fetched now."""
        if changed := self.changed():
            queues, states, counts = zip(*changed, strict=True)
            yield "tally_add", {"queues": to_json(queues), "states": to_json(states), "counts": to_json(counts)}
        if self.wakes:
            yield "wake_softly" if softly else "wake", {"channel": channel(self._schema)}


class Transaction(Counting):
    """Runs titled statements at one moment, and writes the changed counters once, at the end."""

    def __init__(
        self,
        con: Con,
        statements: Statements,
        now: float | None,
        pipeline: Pipeline | None = None,
        *,
        alone: bool = False,
        locks: Locks | None = None,
    ) -> None:
        super().__init__(statements.schema)
        self.con = con
        self.now = now  # None: the server's
        self.alone = alone  # nobody else counts pieces, or ends, stops and brings back anything
        self._statements = statements
        self._pipeline = pipeline
        self._locks = locks

    def limit_locks(self, brief: bool) -> None:
        """Says how long the statements from here on wait for others; one that is alone waits for nobody long, anyway."""
        if self._locks is not None and not self.alone:
            self.post("lock_limit", limit=f"{self._locks.brief if brief else self._locks.long}ms")

    def post(self, title: str, **params: Any) -> Cursor[Row]:
        """Sends a statement whose answer is read later, or never."""
        return self._execute(self._statements[title], params | {"now": self.now})

    def _execute(self, statement: bytes, params: Mapping[str, Any]) -> Cursor[Row]:
        return Cursor(self.con, row_factory=tuple_row).execute(statement, params)

    def statement(self, title: str) -> bytes:
        """A statement as the driver takes it."""
        return self._statements[title]

    def run(self, title: str, **params: Any) -> int:
        """How many rows the statement changed."""
        cursor = self.post(title, **params)
        self.flush()
        return cursor.rowcount

    def row(self, title: str, **params: Any) -> Any:
        """The first row, or None."""
        return self.post(title, **params).fetchone()

    def rows(self, title: str, **params: Any) -> list[Any]:
        return self.post(title, **params).fetchall()

    def fill(self, title: str, fragments: Mapping[str, str], params: Mapping[str, Any]) -> list[Any]:
        """The rows of a statement with fixed fragments put in its places."""
        statement = self._statements.filled(title, **fragments)
        return self._execute(statement, {**params, "now": self.now}).fetchall()

    def flush(self) -> None:
        """Waits for the answers of all that was sent."""
        if self._pipeline is not None:
            self._pipeline.sync()

    def must_be_alone(self) -> None:
        """Raises `Alone` in a transaction that others may count, end and stop beside."""
        if not self.alone:
            raise Alone

    def finish(self) -> int:
        """Writes the counters; how many lines it wrote."""
        for title, params in self.closing():
            self.post(title, **params)
        return len(self.changed())


class Opened(Protocol):
    """Calls a function with a transaction, or with what reads as one does, and returns its answer."""

    def __call__(self, body: Callable[[Transaction], T], /) -> T: ...


def channel(schema: str) -> str:
    """The channel on which the sleepers of a store listen."""
    return f"piecework_{schema}"
