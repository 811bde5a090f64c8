"""A transaction of a shelf on SQL, as the rooms of this floor see it: statements by their titles, at one moment.

Each shelf has one of its own. What is said with `post` may travel without waiting for an answer; a shelf whose
statements run at once answers at once. `:now` is the transaction's moment, which nobody hands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from piecework.job import Filter

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> str:
    """JSON text, as the json functions of SQL take it."""
    return _encoder.encode(value).decode()


class Changes(Protocol):
    """What a statement answers that changes rows, once somebody looks."""

    @property
    def rowcount(self) -> int:
        """How many."""


class Transaction(Protocol):
    """Runs titled statements, and counts by queue and state what they change."""

    counted_twice: type[Exception]  # what the driver raises where a piece would be counted a second time
    only_writer: bool  # whether nobody else writes to the store meanwhile: what was read holds until the end
    of_seqs: str  # says that a job's number is among `:seqs`

    @property
    def now(self) -> float | None:
        """Its moment; None where that is the server's."""

    @property
    def alone(self) -> bool:
        """Whether nobody else counts pieces, or ends, stops and brings back anything meanwhile."""

    def must_be_alone(self) -> None:
        """Begins the transaction anew, alone, if it is not."""

    def post(self, title: str, **params: Any) -> Changes:
        """Sends a statement whose answer is read later, or never. It tells no rows."""

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        """Many rows as a parameter, in the form that the shelf reads fastest."""

    def alike(self, names: Sequence[str], rows: Iterable[tuple[object, ...]]) -> str:
        """The same of rows, many of which differ in nothing but the first column, an id."""

    def ask(self, title: str, **params: Any) -> Callable[[], list[Any]]:
        """Sends a statement that tells rows; they are read by calling what it gives back."""

    def flush(self) -> None:
        """Waits for the answers of all that was sent."""

    def run(self, title: str, **params: Any) -> int:
        """How many rows the statement changed."""

    def row(self, title: str, **params: Any) -> Any:
        """The first row, or None."""

    def rows(self, title: str, **params: Any) -> list[Any]:
        """All rows."""

    def fill(self, title: str, fragments: Mapping[str, str], params: Mapping[str, Any]) -> list[Any]:
        """The rows of a statement with fixed fragments put in its places."""

    def matching(
        self, title: str, which: Filter, *, alone: bool = False, newest: bool | None = None, **params: Any
    ) -> list[Any]:
        """The rows of a statement with the conditions of a filter put in its places.

        `alone`, where the statement has a table of its own; `newest` says of a page which way it goes, from `after`.
        """

    def release(self, batches: str) -> list[Any]:
        """Lets run what waits for these batches (JSON text); the queues that each was in, and is in now."""

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Remembers that `n` jobs of a queue went from one state to another; None is being not stored."""


class Opened(Protocol):
    """Calls a function with a transaction, or with what reads as one does, and returns its answer."""

    def __call__(self, body: Callable[[Transaction], T], /) -> T: ...


class Counting:
    """What a transaction has changed of the counters, which are written once, at its end."""

    def __init__(self) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()

    def moved(self, queue: str, before: str | None, after: str | None, n: int = 1) -> None:
        """Remembers that `n` jobs of a queue went from one state to another; None is being not stored."""
        if before is not None:
            self.tally[queue, before] -= n
        if after is not None:
            self.tally[queue, after] += n

    def changed(self) -> list[tuple[str, str, int]]:
        """The counters that changed, and by how much."""
        return [(queue, state, n) for (queue, state), n in self.tally.items() if n]
