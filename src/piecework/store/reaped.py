"""Which workers of a session are over, as its row keeps it: ranges of their numbers.

A supervisor numbers its workers in order and reaps each of them in the end, so between two ranges there is a worker
that lives: however often one is replaced, there is never more than one range more than there are workers.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from piecework.errors import UsageError

NONE = "[]"  # no worker of this session is over

_decode = msgspec.json.Decoder(list[tuple[int, int]]).decode
_encode = msgspec.json.Encoder().encode


class Worker(NamedTuple):
    """A worker by its name, ``session.number``."""

    session: str
    number: int  # -1 where the name has none: such a worker cannot be reaped, and none of ours is called so

    @classmethod
    def named(cls, name: str) -> Worker:
        session, _, number = name.rpartition(".")
        return cls(session, int(number) if number.isascii() and number.isdecimal() else -1)


def numbered(name: str) -> Worker:
    """The worker of this name. Raises `UsageError` where it is no worker's name."""
    worker = Worker.named(name)
    if worker.number < 0 or not worker.session:
        raise UsageError(f"{name!r} is not the name of a worker, which is its session's id, a dot and a number")
    return worker


def is_over(ranges: str, number: int) -> bool:
    """Whether the worker of this number is among them."""
    return ranges != NONE and any(first <= number <= last for first, last in _decode(ranges))


def with_one_more(ranges: str, number: int) -> str:
    """The ranges with the worker of this number; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*_decode(ranges), (number, number)]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return _encode(merged).decode()
