"""A program whose forks send verbs to the store, each about an operation, one after the other, and may die while they do.

    python crashverb.py '{"VERB": "OPERATION", …}' FAILPOINT...

For each verb there is a fork for each failpoint, an empty one dies nowhere, and their exit codes are told. Whatever makes a
verb safe to be sent twice (the id of the operation, of the signal, of the amendment) is the same each time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from unittest import mock

import crashapp

from piecework import failpoints, forking
from piecework.job import Amendment, Change, Filter, NewSignal
from piecework.terms import term

store = crashapp.app.store
order, approved = crashapp.operations.order, crashapp.operations.approved


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


def add_many(id: str) -> object:
    return store.add([order._new_job(f"{id}{n}", (), {"n": n, "fails": 0}) for n in range(3)])


def fork(id: str) -> object:
    """Behind its first step, as the step said: with the globals of then."""
    with mock.patch.object(forking, "new_id", return_value=f"fork-of-{id}"):
        return forking.fork(crashapp.app, approved.get(id), "reserve", {"n": 4})


def skip(id: str) -> object:
    cursor = store.get([id])[0].cursor or ""
    return store.amend(id, cursor, Amendment(id="one skip", what="skipped", by="a test", cursor=f"{cursor}/skip"))


def unset(id: str) -> object:
    cursor = store.get([id])[0].cursor or ""
    return store.amend(id, cursor, Amendment(id="no n", what="edited", by="a test", changes=(Change("n", None),)))


def cancel(id: str) -> object:
    return store.cancel(Filter(ids=(id,)), reason="a test says so", by="a test")


def resume(id: str) -> object:
    return store.retry(Filter(ids=(id,)), resume=True, by="a test", reason="a test says so")


def undo_many(id: str) -> object:
    return store.cancel(Filter(terms=(term("group", "undone"),)), reason="a test says so", by="a test", undo=True)


def retry_many(id: str) -> object:
    return store.retry(Filter(terms=(term("group", "retried"),)), by="a test")


def prune(id: str) -> object:
    return store.prune(before=store.now() + 1)


VERBS: dict[str, Callable[[str], object]] = {
    "add": add, "add by key": add_by_key, "add many": add_many, "fork": fork, "signal": signal, "edit": edit,
    "unset": unset, "jump": jump, "skip": skip, "cancel": cancel, "resume": resume, "undo": undo, "undo many": undo_many,
    "retry": retry, "retry many": retry_many, "prune": prune,
}  # fmt: skip


def send(verb: str, id: str, point: str) -> None:
    store.counts()  # the connection is open, and what is armed next strikes in the verb itself
    if point:
        failpoints.arm(point)
    VERBS[verb](id)


def main(verbs: str, *points: str) -> None:
    codes: dict[str, list[int]] = {}
    for verb, id in json.loads(verbs).items():
        for point in points:
            fork = os.fork()
            if fork == 0:
                send(verb, id, point)
                return
            codes.setdefault(verb, []).append(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    main(*sys.argv[1:])
