"""One transaction on the SQLite shelf: its moment, its statements, and the counters that it changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from piecework.job import Filter
from piecework.store.sql.files import titles
from piecework.store.sql.transaction import Counting, to_json
from piecework.store.sqlite.filters import fragments_of

SQL = titles("piecework.store.sqlite")


class Executes(Protocol):
    """A connection: the shelf's own, or what speaks to a caller's."""

    def execute(self, statement: str, params: Mapping[str, Any] = ..., /) -> Any: ...


class Transaction(Counting):
    """Runs titled statements at one moment, and writes the changed counters once, at the end.

    A statement takes of its parameters those that it names, so that each is given `:now`.
    """

    alone = True  # there is one writer at a time
    only_writer = True
    counted_twice: type[Exception] = sqlite3.IntegrityError
    of_seqs = "seq IN (SELECT value FROM json_each(:seqs))"

    def __init__(self, con: Executes, now: float) -> None:
        super().__init__()
        self.con = con
        self.now = now

    def must_be_alone(self) -> None:
        """It is."""

    def flush(self) -> None:
        """Each statement has answered when it was sent."""

    def post(self, title: str, **params: Any) -> Any:
        """Runs a statement whose answer is read later, or never; its rows, if it tells some, must be."""
        params["now"] = self.now
        return self.con.execute(SQL[title], params)

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Many rows as a parameter: arrays, whose statements know what is where."""
        return to_json(list(rows))

    def alike(self, names: Sequence[str], rows: Iterable[tuple[object, ...]]) -> str:
        """Rows with an array of ids in the place of the id, one for all that are the same but for that."""
        ids: dict[tuple[object, ...], list[object]] = {}
        for row in rows:
            same = row[1:]
            known = ids.get(same)
            if known is None:
                ids[same] = [row[0]]
            else:
                known.append(row[0])
        return to_json([(who, *same) for same, who in ids.items()])

    def ask(self, title: str, **params: Any) -> Callable[[], list[Any]]:
        """Runs a statement that tells rows.

        They are fetched at once: unread, they would stand in the way of the commit.
        """
        found = self.rows(title, **params)
        return lambda: found

    def run(self, title: str, **params: Any) -> int:
        """How many rows the statement changed."""
        params["now"] = self.now
        return int(self.con.execute(SQL[title], params).rowcount)

    def row(self, title: str, **params: Any) -> Any:
        """The first row, or None."""
        params["now"] = self.now
        return self.con.execute(SQL[title], params).fetchone()

    def rows(self, title: str, **params: Any) -> list[Any]:
        params["now"] = self.now
        found: list[Any] = self.con.execute(SQL[title], params).fetchall()
        return found

    def fill(self, title: str, fragments: Mapping[str, str], params: Mapping[str, Any]) -> list[Any]:
        """The rows of a statement with fixed fragments put in its places."""
        statement = SQL[title].format(**fragments)
        found: list[Any] = self.con.execute(statement, {**params, "now": self.now}).fetchall()
        return found

    def matching(
        self, title: str, which: Filter, *, alone: bool = False, newest: bool | None = None, **params: Any
    ) -> list[Any]:
        """The rows of a statement with the conditions of a filter put in its places."""
        fragments, asked = fragments_of(which, alone=alone, newest=newest)
        return self.fill(title, fragments, asked | params)

    def release(self, batches: str) -> list[Any]:
        """Lets run what waits for these batches; the queues that each was in, and is in now.

        In two statements: one that changes rows can only tell what they are now.
        """
        waiting = self.rows("batch_waiting", ids=batches)
        if waiting:
            self.post("batch_release", ids=batches)
        return waiting

    def finish(self) -> None:
        """Writes the counters."""
        if changed := self.changed():
            self.run("tally_add", rows=to_json(changed))
