"""Pages of what a filter means, one behind the other, also where some of one are deleted before the next is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from piecework.job import Filter, Record
from piecework.store.protocol import Store


def pages(
    store: Store, which: Filter, *, limit: int, after: str | None = None, newest: bool = False
) -> Iterator[list[Record]]:
    """The jobs that match, in order of arrival or the reverse, beginning behind the job `after`."""
    page: list[Record] = []
    while True:
        before, page = page, store.find(which, after=after, limit=limit, newest=newest)
        if page:
            yield page
            after = page[-1].id
        elif (after := _still_there(store, before)) is None:
            return


def _still_there(store: Store, page: Sequence[Record]) -> str | None:
    """Where to go on behind a page whose last was deleted meanwhile; None where it is the end that was come to.

    Where all of a page were deleted before the next was asked for, that is the end, too: nobody knows what came behind them.
    """
    there = store.get([record.id for record in page]) if page else []
    return there[-1].id if there and there[-1].id != page[-1].id else None
