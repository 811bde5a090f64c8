"""One transaction on the SQLite shelf: its moment, its statements, and the counters that it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from piecework.store.sql import titles

SQL = titles("piecework.store.sqlite")

_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> str:
    """JSON text, as SQLite's json functions take it."""
    return _encoder.encode(value).decode()


class Executes(Protocol):
    """A connection: the shelf's own, or what speaks to a caller's."""

    def execute(self, statement: str, params: Mapping[str, Any] = ..., /) -> Any: ...


class Transaction:
    """Runs titled statements at one moment, and writes the changed counters once, at the end."""

    def __init__(self, con: Executes, now: float) -> None:
        self.con = con
        self.now = now
        self.tally: Counter[tuple[str, str]] = Counter()

    def run(self, title: str, **params: Any) -> int:
        """How many rows the statement changed."""
        return int(self.con.execute(SQL[title], params).rowcount)

    def post(self, title: str, **params: Any) -> None:
        """Runs a statement whose answer nobody reads."""
        self.con.execute(SQL[title], params)

    def row(self, title: str, **params: Any) -> Any:
        """The first row, or None."""
        return self.con.execute(SQL[title], params).fetchone()

    def rows(self, title: str, **params: Any) -> list[Any]:
        found: list[Any] = self.con.execute(SQL[title], params).fetchall()
        return found

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Remembers that `n` jobs of a queue went from one state to another; None is being not stored."""
        if before is not None:
            self.tally[queue, before] -= n
        if after is not None:
            self.tally[queue, after] += n

    def finish(self) -> None:
        """Writes the counters."""
        changed = [(queue, state, n) for (queue, state), n in self.tally.items() if n]
        if changed:
            self.run("tally_add", rows=to_json(changed))
