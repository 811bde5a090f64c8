"""The ledger: what really happened, written by whoever saw it, in one append-only file.

A record has 32 bytes and goes through one `write` on an O_APPEND descriptor, so the records of many processes do not
mix, and what was written survives a SIGKILL. 32 divides a memory page: a kill in the middle of a long write cuts
between two records, never inside one. Times are those of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<BBHI16sq")
NOBODY = bytes(16)  # the id in a record that is about no job
PAGE = RECORD.size * 16384


class Kind(IntEnum):
    """What a record says."""

    # a job's body
    START = 1
    END = 2
    RAISED = 3
    SPLIT_START = 4
    SPLIT_END = 5
    COMPOSE_START = 6
    COMPOSE_END = 7
    # a body of an operation, with its visit
    STEP_START = 8
    STEP_END = 9
    UNDO_START = 33
    UNDO_END = 34
    # what the store answered
    ACKNOWLEDGED = 10  # an enqueue returned
    RECORDED = 11  # a completion was answered `ok`
    REPLAYED = 12  # a settlement that was sent again was answered `already`
    REFUSED = 13  # a worker's own settlement was answered `stale`
    FORGED_STALE = 14  # a late or forged settlement was answered `stale`
    FORGED_ALREADY = 15
    FORGED_OK = 16  # it was accepted
    # what was done to the workers
    LOST_REQUEST = 20
    LOST_REPLY = 21
    KILLED_CHILD = 22  # `pid` is the worker process; the same below
    KILLED_BELOW = 29  # it ran single jobs for a worker process, and was killed alone or with that
    KILLED_TREE = 23
    STOPPED = 24
    CONTINUED = 25  # past its lease
    RELEASED_LOCK = 26  # a stop held the store's lock, and was lifted at once
    DECIDED = 27  # a parked or failed job was retried by hand


STARTS = frozenset({Kind.START, Kind.SPLIT_START, Kind.COMPOSE_START, Kind.STEP_START, Kind.UNDO_START})
ENDS = frozenset({Kind.END, Kind.SPLIT_END, Kind.COMPOSE_END, Kind.STEP_END, Kind.UNDO_END, Kind.RAISED})


class Entry(NamedTuple):
    """One record of the ledger; `at` is in seconds."""

    kind: Kind
    run: int
    pid: int
    job: bytes
    at: float
    visit: int = 0  # of a step of an operation


class Ledger:
    """Writes records. Safe to share between threads; opened anew after a fork."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: int | None = None
        self._pid = 0

    def note(self, kind: Kind, job: str | None = None, run: int = 0, *, pid: int | None = None, visit: int = 0) -> None:
        """Writes one record."""
        self.note_all([(kind, job, run)], pid=pid, visit=visit)

    def note_all(
        self, records: Iterable[tuple[Kind, str | None, int]], *, pid: int | None = None, visit: int = 0
    ) -> None:
        """Writes several records in one `write`."""
        me, now = os.getpid(), time.monotonic_ns()
        data = b"".join(
            RECORD.pack(kind, min(visit, 0xFF), min(run, 0xFFFF), me if pid is None else pid, packed(job), now)
            for kind, job, run in records
        )
        if not data:
            return
        if self._file is None or self._pid != me:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._pid = me
        written = os.write(self._file, data)
        if written != len(data):
            raise OSError(f"the ledger {self.path} took {written} of {len(data)} bytes: is the disk full?")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def packed(id: str | None) -> bytes:
    """A job's id as the 16 bytes that stand in a record."""
    return NOBODY if id is None else bytes.fromhex(id.replace("-", ""))


def unpacked(id: bytes) -> str:
    """The id as piecework writes it."""
    text = id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read(path: str | Path) -> Iterator[Entry]:
    """Every whole record, in the order of writing, a page at a time; a torn tail is left out."""
    with Path(path).open("rb") as file:
        while page := file.read(PAGE):
            whole = len(page) - len(page) % RECORD.size
            for kind, visit, run, pid, job, nanos in RECORD.iter_unpack(page[:whole]):
                yield Entry(Kind(kind), run, pid, job, nanos / 1e9, visit)
