"""One transaction on the PostgreSQL shelf: its statements, sent without waiting where nobody waits for the answer.

The statements are those of `sql/`, by title. What they say with `:name` is a parameter, `:now` the moment of the
transaction: the server's own, or that of the clock which a store was given. Tables are looked for in the store's
schema, whatever the connection's search path says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from psycopg import Connection, Cursor, Pipeline
from psycopg.errors import CheckViolation
from psycopg.rows import tuple_row

from piecework.job import Filter
from piecework.store.postgres.filters import fragments_of
from piecework.store.sql import transaction as common
from piecework.store.sql.files import titles
from piecework.store.sql.transaction import to_json

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

T = TypeVar("T")
Row = tuple[Any, ...]
Con = Connection[Row]


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def objects(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Many rows as JSON text, as `json_to_recordset` takes them."""
    row_of = _struct(tuple(names))  # made and encoded in a third of the time that a dict takes
    return to_json([row_of(*row) for row in rows])


@cache
def _struct(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Row", names)


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
        # The schema last: its name may look like a parameter.
        return in_schema(asked, self.schema.replace("%", "%%")).strip().encode()

    def _parameter(self, found: re.Match[str]) -> str:
        if found[1] != "now":
            return f"%({found[1]})s"
        return self._now


class Counting(common.Counting):
    """What a transaction has changed of the counters, and whether somebody has to be woken for it."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self.wakes = False
        self._schema = schema

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """The same; where something may be fetched now, who sleeps is to be woken."""
        super().moved(queue, before, after, n)
        self.wakes = self.wakes or (after == "available" and n > 0)

    def closing(self, *, softly: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        """The statements that write the counters, and wake who sleeps where something may be fetched now."""
        if changed := self.changed():
            queues, states, counts = zip(*changed, strict=True)
            yield "tally_add", {"queues": to_json(queues), "states": to_json(states), "counts": to_json(counts)}
        if self.wakes:
            yield "wake_softly" if softly else "wake", {"channel": channel(self._schema)}


class Transaction(Counting):
    """Runs titled statements at one moment, and writes the changed counters once, at the end."""

    only_writer = False
    counted_twice: type[Exception] = CheckViolation
    of_seqs = "seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))"

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

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Many rows as a parameter."""
        return objects(names, rows)

    alike = table  # whose reading costs little here

    def ask(self, title: str, **params: Any) -> Callable[[], list[Any]]:
        """Sends a statement that tells rows; they are read by calling what it gives back."""
        return self.post(title, **params).fetchall

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

    def matching(
        self, title: str, which: Filter, *, alone: bool = False, newest: bool | None = None, **params: Any
    ) -> list[Any]:
        """The rows of a statement with the conditions of a filter put in its places."""
        fragments, asked = fragments_of(which, alone=alone, newest=newest)
        return self.fill(title, fragments, asked | params)

    def release(self, batches: str) -> list[Any]:
        """Lets run what waits for these batches; the queues that each was in, and is in now."""
        return self.rows("batch_release", ids=batches)

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
