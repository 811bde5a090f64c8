"""The scripts of the Redis shelf with bites so small that a few jobs are many."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from unittest import mock

from piecework.store.redis import scripts

SMALL = {  # title -> how much one script does, in the order of the numbers there
    "lib_0_keys": [("STOP_BITE", 5)],
    "part_search": [("LOOKS", 7), ("PAGE", 3), ("FEW", 4), ("WEIGHT", 2000)],
    "part_revive": [("room", 5)],
    "cancel": [("BITE_OF", 5)],
    "retry": [("BITE_OF", 5)],
    "delete": [("HEADS, ROOM", "4, 5")],
    "part_erase": [("LINES", 7)],
    "dig": [("BITE_OF", 5)],
    "bury": [("BITE_OF", 5)],
    "part_strays": [("LOOKED", 5), ("AT_ONCE, WEIGHING", "2, 400")],
    "reap": [("BITE_OF", 5)],
    "told": [("SLICE, LOOKED", "2, 5"), ("WEIGHT", 2000)],
    "survey": [("BITE_OF", 5)],
    "sweep": [("BITE_OF", 5)],
    "prune": [("LOOKED, DELETED", "7, 5")],
    "prune_loose": [("LOOKED", 2)],
    "repair": [("LOOKED, LARGE", "30, 20")],
    "attempts": [("PAGE", 3)],
    "oldest_due": [("HOPS, OVERDUE", "3, 10")],
}


def small(whole: Collection[str] = ()) -> dict[str, str]:
    """The shelf's scripts, with smaller numbers in them, but for those that are to be left whole."""
    texts = dict(scripts.texts())
    texts["part_whole"] = texts["part_search"]
    for title in whole:
        texts[title] = texts[title].replace("-- with: search", "-- with: whole")
    for title, numbers in SMALL.items():
        if title in whole:
            continue
        for name, number in numbers:
            texts[title], n = re.subn(rf"\b{name} = [\d, ]*\d", f"{name} = {number}", texts[title], count=1)
            assert n == 1, f"{title}.lua does not say how much {name} is"
    return texts


@contextmanager
def small_bites(*, whole: Collection[str] = ()) -> Iterator[None]:
    """Within it, whoever sends a script sends one of these."""
    texts = small(whole)
    scripts.script.cache_clear()
    try:
        with mock.patch.object(scripts, "texts", return_value=texts):
            yield
    finally:
        scripts.script.cache_clear()
