"""How operations are found by their globals: which terms a value has, and whether a document contains another.

A scalar has one term, itself under its key, typed: 1 is not "1", and 1 is 1.0. A list or an object has the term of its
key alone: what it contains is looked at when it was found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from piecework.errors import NotSerializable

LONGEST = 200  # characters of a term; what is longer is named by its digest


def term(key: str, value: Any) -> str:
    """The term by which a global of this value is found; `value` is of plain JSON types."""
    if isinstance(value, list | tuple | dict):
        return _short(f"{key}:")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _short(f"{key}={msgspec.json.encode(value).decode()}")


def _short(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:100]}#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def contains(document: Any, part: Any) -> bool:
    """Whether a JSON document contains a part: of an object a subset of its keys, of a list a subset of its items in any
    order, each again by containment; scalars are equal and of one type. The rule of PostgreSQL's ``@>``.

    Raises `NotSerializable` for a part that is nested more deeply than can be looked at.
    """
    try:
        return _contains(document, part)
    except RecursionError:
        raise NotSerializable("what is asked for is nested too deeply to be looked for") from None


def _contains(document: Any, part: Any) -> bool:
    """One frame for each level, so that whatever could be stored can be asked for."""
    if isinstance(part, Mapping):
        if not isinstance(document, Mapping):
            return False
        for key, value in part.items():  # noqa: SIM110 - all() would take two frames more
            if key not in document or not _contains(document[key], value):
                return False
        return True
    if isinstance(part, list | tuple):
        if not isinstance(document, list):
            return False
        for value in part:
            for item in document:
                if _contains(item, value):
                    break
            else:
                return False
        return True
    if isinstance(part, bool) or isinstance(document, bool):
        return part is document
    return type(document) not in (list, dict) and bool(document == part)
