"""Many items some at a time: so many as one transaction does, and of one name never two."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def bites(items: Sequence[T], name: Callable[[T], Hashable], most: int) -> Iterator[Sequence[T]]:
    """The items in their order, up to `most` at a time; one whose name is in a bite already begins the next."""
    first, names = 0, set[Hashable]()
    for n, item in enumerate(items):
        if n - first >= most or name(item) in names:
            yield items[first:n]
            first, names = n, set()
        names.add(name(item))
    if first < len(items):
        yield items[first:]
