"""Brings together what the ledger and the store say of each job, a share of the jobs at a time.

A long torture leaves more records than memory should hold. So both sides are dealt into files by the job's id first,
and one pair of files after the other is joined.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from piecework.torture.books import Fact
from piecework.torture.ledger import NOBODY, RECORD, Entry, packed, read

SHARE_BYTES = 16 << 20  # of the ledger, for one share: about half a million records

Joined = tuple[bytes, Fact | None, list[Entry]]

_fact = msgspec.json.Decoder(Fact)


def joined(ledger: Path, facts: Iterable[Fact], folder: Path, *, share_bytes: int = SHARE_BYTES) -> Iterator[Joined]:
    """Each job with its fact, if the store has it, and its records in the order of time."""
    shares = 1 + ledger.stat().st_size // share_bytes
    _deal_entries(ledger, folder, shares)
    _deal_facts(facts, folder, shares)
    for n in range(shares):
        entries: dict[bytes, list[Entry]] = defaultdict(list)
        for entry in read(_records(folder, n)):
            entries[entry.job].append(entry)
        for line in _lines(_facts(folder, n)):
            fact = _fact.decode(line)
            id = packed(fact.id)
            yield id, fact, sorted(entries.pop(id, []), key=_at)
        for id, left in entries.items():
            yield id, None, sorted(left, key=_at)
        _records(folder, n).unlink()
        _facts(folder, n).unlink()


def _deal_entries(ledger: Path, folder: Path, shares: int) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(_records(folder, n).open("wb")) for n in range(shares)]
        for entry in read(ledger):
            if entry.job != NOBODY:
                nanos = round(entry.at * 1e9)
                files[_share(entry.job, shares)].write(
                    RECORD.pack(entry.kind, entry.visit, entry.run, entry.pid, entry.job, nanos)
                )


def _deal_facts(facts: Iterable[Fact], folder: Path, shares: int) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(_facts(folder, n).open("wb")) for n in range(shares)]
        for fact in facts:
            files[_share(packed(fact.id), shares)].write(msgspec.json.encode(fact) + b"\n")


def _share(id: bytes, shares: int) -> int:
    return zlib.crc32(id) % shares


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _records(folder: Path, n: int) -> Path:
    return folder / f"records-{n}"


def _facts(folder: Path, n: int) -> Path:
    return folder / f"facts-{n}"


def _at(entry: Entry) -> float:
    return entry.at
