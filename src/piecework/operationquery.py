"""Questions to the stored operations: `fulfil.where(subscription_id=7).retry()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from piecework.operations import Operation

if TYPE_CHECKING:
    from piecework.app import Piecework

S = TypeVar("S")


class OperationQuery(Generic[S]):
    """Some operations."""

    def __init__(self, app: Piecework, names: Sequence[str], part: Mapping[str, Any]) -> None:
        self._app = app
        self._names = names
        self._part = part

    def __iter__(self) -> Iterator[Operation[S]]:
        raise NotImplementedError
