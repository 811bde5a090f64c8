"""Does it arrive as it was sent? Compares a value with what its JSON came to, and finds the part that is to blame."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from piecework.errors import NotSerializable
from piecework.jsontypes import ENCODE_ERRORS, encode, is_pydantic, kind_name


def compare(sent: Any, arrived: Any, path: str) -> None:
    """Raises `NotSerializable` at the first place where what arrives is not what was sent."""
    try:
        refuse_nan(sent, path)
        _compare(sent, arrived, path)
    except RecursionError:
        raise NotSerializable(f"{path} is nested too deeply to travel") from None


def _compare(sent: Any, arrived: Any, path: str) -> None:
    if isinstance(sent, Mapping) and isinstance(arrived, Mapping):
        if list(sent) != list(arrived):
            raise NotSerializable(
                f"{path} has keys that would arrive as {list(arrived)[:3]!r} instead of {list(sent)[:3]!r}; "
                "annotate it as dict[…, …]"
            )
        for key, value in sent.items():
            _compare(value, arrived[key], f"{path}[{key!r}]")
    elif type(sent) is type(arrived) and (parts := _parts(sent, path)) is not None:
        others = _parts(arrived, path) or []
        if len(parts) != len(others):
            raise NotSerializable(f"{path} would arrive with {len(others)} items instead of {len(parts)}")
        for (inner, one), (_, other) in zip(parts, others, strict=True):
            _compare(one, other, inner)
    elif not equal(sent, arrived) and not _uncomparable(sent, arrived):
        if type(sent) is type(arrived):
            raise NotSerializable(f"{path} is {sent!r:.100} and would arrive as {arrived!r:.100}")
        raise NotSerializable(
            f"{path} is a {kind_name(type(sent))} and would arrive as a {kind_name(type(arrived))}; annotate it with its type"
        )


def _parts(value: Any, path: str) -> list[tuple[str, Any]] | None:
    """What an ordered compound value is made of; None for a value that is compared as a whole."""
    if isinstance(value, list | tuple):
        return [(f"{path}[{n}]", item) for n, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f"{path}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, msgspec.Struct):
        return [(f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__]
    if is_pydantic(type(value)):
        return [(f"{path}.{name}", item) for name, item in vars(value).items()]
    return None


def _uncomparable(sent: Any, arrived: Any) -> bool:
    """Whether two values are of one class that knows no equality but identity; their class must be taken at its word."""
    kind = type(sent)
    return kind is type(arrived) and "__eq__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}


def equal(sent: Any, arrived: Any) -> bool:
    """Whether two values are equal, an int and a float or an enum and its value too; what cannot be compared is not."""
    try:
        if isinstance(sent, Decimal) and isinstance(arrived, Decimal):
            return not sent.is_snan() and (sent.compare_total(arrived) == 0 or sent == arrived)
        return bool(sent == arrived)
    except Exception:
        return False


def refuse_nan(value: Any, path: str) -> None:
    """Raises `NotSerializable` for a float that JSON does not know, however deep; the encoder would make it null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotSerializable(f"{path} is {value}, which JSON does not know; pass None, or a string")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            refuse_nan(key, f"{path}: the key {key!r}")
            refuse_nan(item, f"{path}[{key!r}]")
    elif isinstance(value, set | frozenset):
        for item in value:
            refuse_nan(item, f"{path}: the item {item!r}")
    else:
        for inner, item in _parts(value, path) or ():
            refuse_nan(item, inner)


def culprit(value: Any, path: str, error: BaseException) -> tuple[str, str]:
    """The innermost part of a value that cannot be encoded."""
    if isinstance(value, Mapping):
        parts = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, set | frozenset):
        parts = [(f"{path}: the item {item!r:.50}", item) for item in value]
    else:
        parts = _parts(value, path) or []
    for inner, item in parts:
        try:
            encode(item)
        except RecursionError:
            return path, "it is nested too deeply"
        except ENCODE_ERRORS as cause:
            return culprit(item, inner, cause)
    return path, str(error) or type(error).__name__
