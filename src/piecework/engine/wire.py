"""What a worker and the processes of its pool say to each other: values in frames, on a socket."""

from __future__ import annotations

import socket
import struct
from typing import Any, Generic, TypeVar

import msgspec

from piecework.job import Fetched, Progress
from piecework.outcome import (
    Again,
    Await,
    Cancelled,
    Complete,
    Errored,
    Failed,
    Park,
    Release,
    Seal,
    Stepped,
    Undone,
    UndoNext,
)

T = TypeVar("T")

_HEAD = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode

AnyOutcome = (
    Complete | Errored | Again | Failed | Cancelled | Park | Release | Seal | Stepped | Await | Undone | UndoNext
)


class Work(msgspec.Struct, frozen=True, tag=True):
    """To a process: run this. `plan` is that of an operation which does not go by the plan of the code."""

    job: Fetched
    plan: str | None = None


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To a process: whoever asked for this job does not want it any more."""

    id: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a process: it has imported the app."""


class Begun(msgspec.Struct, frozen=True, tag=True):
    """From a process: it runs its job from now on, and what ends it is the job's doing."""


class Said(msgspec.Struct, frozen=True, tag=True):
    """From a process: how far its job says it is."""

    id: str
    progress: Progress


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From a process: what its job came to, and how much memory it holds now, in bytes."""

    outcome: AnyOutcome
    memory: int


def framed(message: Any) -> bytes:
    """One frame."""
    body = _encode(message)
    return _HEAD.pack(len(body)) + body


def send(to: socket.socket, message: Any) -> None:
    """Sends one frame, wholly."""
    to.sendall(framed(message))


class Frames(Generic[T]):
    """Cuts what arrives on a socket into messages of one kind."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """The messages that are complete with these bytes."""
        self._buffer += data
        found: list[T] = []
        while len(self._buffer) >= _HEAD.size:
            end = _HEAD.size + _HEAD.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            found.append(self._decode(bytes(self._buffer[_HEAD.size : end])))
            del self._buffer[:end]
        return found
