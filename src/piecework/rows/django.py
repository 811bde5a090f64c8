"""Rows of Django: loaded through the base manager of their model, by the connection of the thread."""

from __future__ import annotations

import sys
from typing import Any

from piecework.errors import BadArguments

USUAL = "default"  # the alias of the database that needs no name


def unwrapped(value: Any) -> Any:
    """What a lazy object stands for, such as the user of a request (a query, if it was not asked for before)."""
    lazy = getattr(sys.modules.get("django.utils.functional"), "LazyObject", None)
    while lazy is not None and issubclass(type(value), lazy):
        _ = value.__class__  # any question makes it load what it stands for
        value = value._wrapped
    return value


class Django:
    """The models of the program's apps."""

    @staticmethod
    def knows(kind: type) -> bool:
        model = getattr(sys.modules.get("django.db.models"), "Model", None)
        return model is not None and issubclass(kind, model)

    def ready(self, name: str) -> None:
        """Django knows its databases by itself."""

    def label(self, model: Any) -> str:
        return str(model._meta.label)

    def find(self, annotated: type, label: str) -> type | None:
        line = [annotated]
        while line:
            model = line.pop()
            if self.label(model) == label:
                return model
            line.extend(type.__subclasses__(model))
        return None

    def refer(self, row: Any) -> tuple[tuple[Any, ...], str | None]:
        key = row.pk if isinstance(row.pk, tuple) else (row.pk,)
        if row._state.adding or None in key:
            raise BadArguments(f"this {type(row).__qualname__} has no row in the database yet; save it first")
        return key, None if row._state.db in (None, USUAL) else row._state.db

    def key(self, model: Any, parts: list[Any]) -> tuple[Any, ...]:
        meta = model._meta
        fields = getattr(meta, "pk_fields", None) or [meta.pk]  # a composite key has several (Django 5.2)
        if len(parts) != len(fields):
            raise ValueError(f"the key of {meta.label} has {len(fields)} parts, not {len(parts)}")
        try:
            return tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))
        except sys.modules["django.core.exceptions"].ValidationError as error:
            raise ValueError(f"the key {parts} is none of {meta.label}: {'; '.join(error.messages)}") from None

    def open(self) -> Connection:
        return Connection()


class Connection:
    """The thread's own connections, left as a request would leave them."""

    def __init__(self) -> None:
        _close_old()

    def load(self, model: Any, key: tuple[Any, ...], database: str | None) -> Any:
        rows = model._base_manager.using(database or USUAL)
        return rows.filter(pk=key if len(key) > 1 else key[0]).first()

    def leave(self) -> None:
        _close_old()

    def close(self) -> None:
        _close_old()


def _close_old() -> None:
    """Django's `close_old_connections`, which would also close one whose transaction the caller has open (run now)."""
    for connection in sys.modules["django.db"].connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
