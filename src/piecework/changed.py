"""What a verb on many answers: how many it changed, and which it left out, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

MOST_REFUSED = 100


class Changed(int):
    """How many a verb changed; `refused` has the others that it was to change, each as (id, why not).

    Only the first 100 of those are in it; `left` is how many they were.

    Example::

        done = app.jobs.where(queue="mail").retry()
        print(done, "retried;", done.left, "left;", *(f"{id}: {why}" for id, why in done.refused))
    """

    left: int
    refused: list[tuple[str, str]]

    def __new__(cls, n: int, refused: Sequence[tuple[str, str]] = (), left: int | None = None) -> Changed:
        changed = super().__new__(cls, n)
        changed.refused = list(refused)
        changed.left = len(changed.refused) if left is None else left
        return changed
