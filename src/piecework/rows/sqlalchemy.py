"""Rows of SQLAlchemy: found by identity in a session of the run's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from piecework.errors import BadArguments, BadOption
from piecework.names import module_name


class SqlAlchemy:
    """Mapped classes, and how a session is opened for a run."""

    def __init__(self) -> None:
        self.session: Callable[[], Any] | None = None

    @staticmethod
    def knows(kind: type) -> bool:
        if not hasattr(kind, "_sa_class_manager"):
            return False
        inspect = getattr(sys.modules.get("sqlalchemy"), "inspect", None)
        return inspect is not None and inspect(kind, raiseerr=False) is not None

    def ready(self, name: str) -> None:
        self._session(name)

    def label(self, model: type) -> str:
        return f"{module_name(model)}.{model.__qualname__}"

    def find(self, annotated: type, label: str) -> type | None:
        derived = (mapper.class_ for mapper in _mapper(annotated).self_and_descendants)
        return next((model for model in derived if self.label(model) == label), None)

    def refer(self, row: Any) -> tuple[tuple[Any, ...], str | None]:
        name = type(row).__qualname__
        self._session(name)
        identity = _inspect(row).identity
        if identity is None:
            raise BadArguments(f"this {name} has no primary key yet; flush or commit its session first")
        return tuple(identity), None

    def key(self, model: type, parts: list[Any]) -> tuple[Any, ...]:
        columns = _mapper(model).primary_key
        if len(parts) != len(columns):
            raise ValueError(f"the key of {self.label(model)} has {len(columns)} parts, not {len(parts)}")
        return tuple(msgspec.convert(part, _python_type(column)) for part, column in zip(parts, columns, strict=True))

    def open(self) -> Session:
        session = self._session("row")()
        if not isinstance(session, sys.modules["sqlalchemy.orm"].Session):
            raise BadOption(
                f"rows(app, Session): Session made a {type(session).__name__}, not a Session of sqlalchemy.orm"
            )
        return Session(session)

    def _session(self, name: str) -> Callable[[], Any]:
        if self.session is None:
            raise BadArguments(
                f"this app cannot load a {name} again; tell it how a session is opened: "
                "piecework.integrations.sqlalchemy.rows(app, Session)"
            )
        return self.session


class Session:
    """The session of one run."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def load(self, model: type, key: tuple[Any, ...], database: str | None) -> Any:
        return self._session.get(model, key)

    def leave(self) -> None:
        """A session may go from thread to thread, as long as one at a time uses it."""

    def close(self) -> None:
        self._session.close()


def _inspect(value: Any) -> Any:
    return sys.modules["sqlalchemy"].inspect(value)


def _mapper(model: type) -> Any:
    return _inspect(model)


def _python_type(column: Any) -> Any:
    try:
        return column.type.python_type
    except NotImplementedError:
        return Any
