"""Globals as documents: plain values by name, held against what would arrive, and written as JSON text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from piecework.arrival import compare, culprit
from piecework.codec import too_large
from piecework.errors import BadArguments, NotSerializable, TooLarge
from piecework.job import Change, fold
from piecework.jsontypes import ENCODE_ERRORS, encode
from piecework.terms import term

MAX_NAME = 200

raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
plain = msgspec.json.Decoder().decode


def start_globals(values: Mapping[str, Any], where: str, limit: int) -> tuple[str, tuple[Change, ...]]:
    """The globals that an operation starts with, as JSON text and as changes. Raises `BadArguments` and its kinds."""
    changes = []
    for key, value in values.items():
        key = check_name(key, f"{where}: a global's name")
        check_plain(value, f"{where}: {key}")
        text = encode(value)
        changes.append(Change(key, text.decode(), (term(key, plain(text)),)))
    document = encode({change.key: msgspec.Raw((change.value or "null").encode()) for change in changes})
    if len(document) > limit:
        raise TooLarge(too_large(f"the globals of {where}", len(document), limit))
    return document.decode(), tuple(changes)


def signal_payload(name: Any, payload: Any, limit: int) -> tuple[str, str]:
    """The name of a signal, and its payload as JSON text. Raises `BadArguments` and its kinds."""
    name = check_name(name, "signal: its name")
    check_plain(payload, "signal: the payload")
    text = encode(payload)
    if len(text) > limit:
        raise TooLarge(too_large("the payload of the signal", len(text), limit))
    return name, text.decode()


def check_name(key: Any, what: str = "a global's name") -> str:
    """The name of a global, or of a signal, as plain text. Raises `BadArguments`."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_NAME or "\0" in key:
        raise BadArguments(f"{what} must be text of 1 to {MAX_NAME} characters, without NUL, not {key!r:.100}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise BadArguments(f"{what} has characters that no text can carry: {key!r:.100}") from None
    return str.__str__(key)  # of a subclass nobody knows whether it travels


def check_plain(value: Any, path: str) -> None:
    """Raises `NotSerializable` for what is not plain JSON, or would arrive as something else."""
    try:
        arrived = plain(encode(value))
    except ENCODE_ERRORS as error:
        where, what = culprit(value, path, error)
        raise NotSerializable(f"{where} cannot be a global: {what}; use plain values, or declare a state") from error
    try:
        compare(value, arrived, path)
    except NotSerializable as error:
        raise NotSerializable(f"{error} (globals are plain values, unless the operation declares a state)") from None


def with_changes(globals: str, changes: Iterable[Change]) -> str:
    """A document of globals as it is after changes."""
    document = raws(globals)
    fold(document, changes)
    return encode(document).decode()


def size_of(lengths: Mapping[str, int]) -> int:
    """How long a document is, by the names of its globals and the lengths of their values."""
    return sum(len(key) + n + 4 for key, n in lengths.items())
