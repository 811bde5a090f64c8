"""The arguments of a constructor as they were when it was called, kept without a question to any of them.

A constructor must behave as if nobody looked: an argument may be a proxy that loads itself when it is asked for
anything, or of a class that compares in its own way. So only the type of an argument is looked at, and that by
identity.
"""

from __future__ import annotations

import enum
import sys
import uuid
import weakref
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import msgspec


def _identities(*kinds: type) -> frozenset[int]:
    """Classes by their identity: a metaclass may have made them unhashable. Of classes only that live forever."""
    return frozenset(map(id, kinds))


PLAIN = _identities(str, int, float, bool, type(None), bytes, uuid.UUID, datetime, date, time, timedelta, Decimal)
_CONTAINERS = _identities(list, dict, set, bytearray)
_TRAVELLERS = _identities(str, int, float, bytes, bytearray, list, tuple, dict, set, frozenset, date, time, timedelta)
_TRAVELLERS |= _identities(enum.Enum, PurePath, uuid.UUID, Decimal, msgspec.Struct, Mapping)
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__", "__mapper__", "_meta")
_bases: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__  # a metaclass may have its own `__mro__`,
_names: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__  # and its own `__getattr__`


def held(value: Any) -> Any:
    """An argument as it can be kept: a builtin container as a copy, what cannot travel without keeping it alive."""
    kind = id(type(value))
    return value if kind in PLAIN else _copied(value, _one_held) if kind in _CONTAINERS else _one_held(value)


def released(value: Any) -> Any:
    """The argument again, of what `held` made of it."""
    return _copied(value, _one_released) if id(type(value)) in _CONTAINERS else _one_released(value)


def all_plain(values: Any) -> bool:
    """Whether nothing among some arguments can change or be in the way, so that they can be kept as they are."""
    return PLAIN.issuperset(map(id, map(type, values)))


class _Opaque:
    """What cannot travel is not kept alive: it may hold the object, which then would never go."""

    __slots__ = ("_kind", "_ref")

    def __init__(self, value: Any) -> None:
        self._ref = weakref.ref(value)  # TypeError where the value knows no weak references
        self._kind = type(value)

    def value(self) -> Any:
        found = self._ref()
        return type(self._kind.__name__, (), {})() if found is None else found  # a stand-in, for the message


def _one_held(value: Any) -> Any:
    if _travels(type(value)):
        return value
    try:
        return _Opaque(value)
    except TypeError:
        return value


def _one_released(value: Any) -> Any:
    return value.value() if type(value) is _Opaque else value


def _travels(kind: type) -> bool:
    """Whether values of a class travel as they are, as their fields, or as a row of a database."""
    if id(kind) in PLAIN:
        return True
    lazy = getattr(sys.modules.get("django.utils.functional"), "LazyObject", None)  # may stand for a row
    bases = _bases(kind)
    return any(id(base) in _TRAVELLERS or base is lazy for base in bases) or any(
        mark in _names(base) for base in bases for mark in _FIELDS
    )


def _copied(value: Any, change: Callable[[Any], Any]) -> Any:
    """A list, dict, set or bytearray anew, those within it as well, and `change` of anything else.

    It does not call itself, so that no depth is too deep, and a container that holds itself does so in the copy.
    """
    copies: dict[int, tuple[Any, Any]] = {}  # by identity: the container, so that it stays what it is, and its copy
    left: list[Any] = []

    def copy(item: Any) -> Any:
        if id(type(item)) not in _CONTAINERS:
            return change(item)
        if id(item) not in copies:
            copies[id(item)] = item, item.copy()  # in one step, whatever other threads do to it
            left.append(copies[id(item)][1])
        return copies[id(item)][1]

    whole = copy(value)
    while left:
        _change_items(left.pop(), copy)
    return whole


def _change_items(container: Any, change: Callable[[Any], Any]) -> None:
    if type(container) is list:
        if not all_plain(container):
            container[:] = map(change, container)
    elif type(container) is dict and not all_plain(container.values()):
        for key, item in list(container.items()):
            if _travels(type(key)):  # any other is not asked for its hash; it is refused at the call
                container[key] = change(item)
