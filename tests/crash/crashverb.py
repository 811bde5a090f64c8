"""A program whose forks send one verb to the store about one operation, one after the other, and may die while they do.

    python crashverb.py VERB OPERATION FAILPOINT...

There is a fork for each failpoint, an empty one dies nowhere, and their exit codes are told. Whatever makes a verb safe to be sent twice (the id of the operation, of the signal, of the amendment) is the same each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import crashapp

from piecework import failpoints
from piecework.job import Amendment, Change, Filter, NewSignal

store = crashapp.app.store
order = crashapp.operations.order


def add(id: str) -> object:
    job = order._new_job(id, (), {"n": 3, "fails": 1})
    return store.add([job])


def add_by_key(id: str) -> object:
    """Each time another id: the key is the same."""
    return order.using(key="only once").later(n=3, fails=1)


def signal(id: str) -> object:
    return store.signal(id, NewSignal(id="one signal", name="approval", payload='"yes"', by="a test"))


def edit(id: str) -> object:
    cursor = store.get([id])[0].cursor or ""
    return store.amend(id, cursor, Amendment(id="one edit", what="edited", by="a test", changes=(Change("edit", "7"),)))


def jump(id: str) -> object:
    cursor = store.get([id])[0].cursor or ""
    return store.amend(
        id, cursor, Amendment(id="one jump", what="jumped", by="a test", cursor="main/end/4", onward=True)
    )


def undo(id: str) -> object:
    return store.cancel(Filter(ids=(id,)), reason="a test says so", by="a test", undo=True)


def retry(id: str) -> object:
    return store.retry(Filter(ids=(id,)))


VERBS: dict[str, Callable[[str], object]] = {
    "add": add, "add by key": add_by_key, "signal": signal, "edit": edit, "jump": jump, "undo": undo, "retry": retry,
}  # fmt: skip


def send(verb: str, id: str, point: str) -> None:
    store.counts()  # the connection is open, and what is armed next strikes in the verb itself
    if point:
        failpoints.arm(point)
    VERBS[verb](id)


def main(verb: str, id: str, *points: str) -> None:
    codes = []
    for point in points:
        fork = os.fork()
        if fork == 0:
            send(verb, id, point)
            return
        codes.append(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
    print(*codes)


if __name__ == "__main__":
    main(*sys.argv[1:])
