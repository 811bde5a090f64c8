"""Rows of a database as arguments: they travel as model and primary key, and are loaded again where the job runs.

Nothing of SQLAlchemy or Django is imported before the program itself has done so.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Protocol, Union

import msgspec

from piecework.errors import BadArguments, RowGone
from piecework.rows.django import Django, unwrapped
from piecework.rows.sqlalchemy import SqlAlchemy


class Loader(Protocol):
    """Loads rows for one run."""

    def load(self, model: type, key: tuple[Any, ...], database: str | None) -> Any:
        """The row, or None where it is gone."""

    def leave(self) -> None:
        """What was loaded will be used on another thread than this one."""

    def close(self) -> None:
        """The run has ended."""


class Source(Protocol):
    """One kind of rows: those of an object-relational mapper."""

    def knows(self, kind: type) -> bool:
        """Whether a class is a model of this kind."""

    def ready(self, name: str) -> None:
        """Raises `BadArguments` where rows of this kind cannot be loaded."""

    def label(self, model: type) -> str:
        """The name under which a model is stored."""

    def find(self, annotated: type, label: str) -> type | None:
        """The model of that name, where it is the annotated one or derived from it."""

    def refer(self, row: Any) -> tuple[tuple[Any, ...], str | None]:
        """A row's primary key and its database (None for the usual one); asks the database nothing.

        Raises `BadArguments` where the row has no key yet, or could not be loaded again.
        """

    def key(self, model: type, parts: list[Any]) -> tuple[Any, ...]:
        """A primary key from JSON, with the types of its columns. Raises `ValueError`."""

    def open(self) -> Loader:
        """What loads the rows of one run."""


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    key: list[Any]
    database: str | None = None


class Reference:
    """A row by its model and primary key. Each model has a subclass, so that an annotation can name it."""

    __slots__ = ("database", "key", "model")
    source: ClassVar[Source]
    annotated: ClassVar[type]

    def __init__(self, model: type, key: tuple[Any, ...], database: str | None) -> None:
        self.model = model
        self.key = key
        self.database = database

    def __repr__(self) -> str:
        return f"<row {', '.join(map(repr, self.key))} of {self.source.label(self.model)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._same() == other._same()

    def __hash__(self) -> int:
        return hash(self._same())

    def _same(self) -> tuple[Any, ...]:
        return self.model, self.key, tuple(map(type, self.key)), self.database

    def plain(self) -> dict[str, Any]:
        """What is stored: ``{"model": "shop.models.User", "key": [42]}``."""
        found = {"model": self.source.label(self.model), "key": list(self.key)}
        return found if self.database is None else {**found, "database": self.database}

    @classmethod
    def read(cls, value: Any) -> Reference:
        """The reference that was stored. Raises `ValueError` where it is none, or one of another model."""
        name = cls.source.label(cls.annotated)
        try:
            plain = msgspec.convert(value, _Plain)
        except msgspec.ValidationError as error:
            raise ValueError(f"a row of {name} is expected, and this is none ({error})") from None
        cls.source.ready(name)
        model = cls.source.find(cls.annotated, plain.model)
        if model is None:
            raise ValueError(f"a row of {name} is expected, and this is one of {plain.model}")
        return cls(model, cls.source.key(model, plain.key), plain.database)


class Rows:
    """The rows that the tasks of one app take: which classes are models, and where their rows come from."""

    def __init__(self) -> None:
        self.sqlalchemy = SqlAlchemy()
        self._sources: tuple[Source, ...] = (self.sqlalchemy, Django())
        self._kinds: dict[type, type[Reference]] = {}

    def rewritten(self, hint: Any) -> Any:
        """An annotation with references in place of models; the same object where it names none."""
        if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
            return self._reference_to(hint) or hint
        arguments = typing.get_args(hint)
        changed = tuple(self.rewritten(argument) for argument in arguments)
        if all(one is other for one, other in zip(arguments, changed, strict=True)):
            return hint
        if isinstance(hint, types.UnionType):
            return Union[changed]  # noqa: UP007 — it is made of what is found
        origin: Any = typing.get_origin(hint)
        return Annotated[changed] if origin is Annotated else origin[changed]

    def reduced(self, value: Any) -> Any:
        """A value with references in place of rows. Raises `BadArguments` for a row that cannot be referred to."""
        value = unwrapped(value)
        kind = self._reference_to(type(value))
        if kind is not None:
            return kind(type(value), *kind.source.refer(value))
        return _rebuilt(value, self.reduced)

    def _reference_to(self, model: type) -> type[Reference] | None:
        known = self._kinds.get(model)
        if known is not None:
            return known
        for source in self._sources:
            if source.knows(model):
                body = {"__slots__": (), "source": source, "annotated": model}
                return self._kinds.setdefault(model, type(f"{model.__name__} row", (Reference,), body))
        return None


class Unit:
    """The rows of one run: each is loaded once, and all of a kind by one session, which is closed with the unit."""

    def __init__(self) -> None:
        self._loaders: dict[Source, Loader] = {}
        self._found: dict[Reference, Any] = {}

    def restored(self, value: Any) -> Any:
        """A value with rows in place of references. Raises `RowGone` where a row is not there any more."""
        return self._row(value) if isinstance(value, Reference) else _rebuilt(value, self.restored)

    def _row(self, reference: Reference) -> Any:
        if reference not in self._found:
            source = reference.source
            if source not in self._loaders:
                self._loaders[source] = source.open()
            row = self._loaders[source].load(reference.model, reference.key, reference.database)
            if row is None:
                label, key = source.label(reference.model), ", ".join(map(repr, reference.key))
                raise RowGone(f"there is no {label} with the primary key {key} any more", label, reference.key)
            self._found[reference] = row
        return self._found[reference]

    def leave(self) -> None:
        """To be called on the thread that loaded, where the run goes on on another one."""
        for loader in self._loaders.values():
            loader.leave()

    def close(self) -> None:
        """Gives back sessions and connections; whatever was not committed is rolled back."""
        loaders, self._loaders = list(self._loaders.values()), {}
        for loader in loaders:
            loader.close()


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container with its items changed; anything else as it is."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind(map(change, value))
    if kind is dict:
        return {key: change(item) for key, item in value.items()}
    return value


def is_row(kind: type) -> bool:
    """Whether a class is a model of SQLAlchemy or Django."""
    return SqlAlchemy.knows(kind) or Django.knows(kind)


def rows_in_use() -> bool:
    """Whether this program has imported something that makes rows."""
    return "sqlalchemy.orm" in sys.modules or "django.db.models" in sys.modules


def refuse_row(value: Any) -> None:
    """Raises `BadArguments` for a row, or a list of them, where no model is announced."""
    first = unwrapped(value[0] if type(value) in (list, tuple) and value else value)
    if is_row(type(first)):
        name = type(first).__qualname__
        said = f"{name} is a row of a database, which travels as its key where the parameter says so"
        raise BadArguments(
            f"{said}; annotate the parameter as {f'list[{name}]' if type(value) in (list, tuple) else name}"
        )
