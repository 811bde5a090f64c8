"""The verbs that change something, each with a scene for it: what is cut off and sent again in the tests of a server's store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from piecework import parting
from piecework.job import Amendment, Claim, Deed, ErrorInfo, Filter, NewSignal, OnFailure, Progress, State, Wait
from piecework.parts import PartEnd, Push
from piecework.store import Store
from piecework.testing.conformance import kit, parts
from piecework.testing.conformance.kit import a_job, a_session, add, completed, failed, fetch, fetch_one
from piecework.testing.conformance.operations import an_operation, change, started, stepped

Call = Callable[[Store], Any]

# Each prepares a store and returns the call, which is the same each time it is sent.


def add_plain(store: Store) -> Call:
    jobs = [a_job(f"j{n}", key=f"k{n}", delay=None if n else 60.0) for n in range(3)]
    return lambda at: at.add(jobs)


def add_first_ever(store: Store) -> Call:
    """Sent by a store that has no connection yet."""
    return add_plain(store)


def add_bite(store: Store) -> Call:
    run = kit.splitting(store)
    pieces = kit.pieces_of(run, ["a", "b", "c"])
    return lambda at: kit.offer(at, run, pieces)


def add_operation(store: Store) -> Call:
    job = an_operation("op", change("n", 1, "n=1"), key="only one")
    return lambda at: at.add([job])


def seal(store: Store) -> Call:
    batch, _ = kit.loose_batch(store, 2)
    for run in fetch(store, 2, queue=kit.LEAVES):
        kit.settle(store, completed(run))
    return lambda at: at.seal(batch)


def fetch_some(store: Store) -> Call:
    for n in range(4):
        add(store, queue=f"q{n % 2}")
    claim = Claim("w.1", 100, 3)
    return lambda at: at.fetch(claim)


def fetch_behind_the_expired(store: Store) -> Call:
    """In several transactions: what has expired is cleared first."""
    add(store, expires_at=1.0)
    add(store)
    claim = Claim("w.1", 100, 3)
    return lambda at: at.fetch(claim)


def settle_some(store: Store) -> Call:
    for _ in range(3):
        add(store)
    one, two, three = fetch(store, 3)
    ends = [completed(one), failed(two), kit.retried(three)]
    return lambda at: at.settle(ends)


def settle_pieces(store: Store) -> Call:
    """The last pieces of a split: its compose is released."""
    kit.split(store, 2)
    ends = [completed(run) for run in fetch(store, 2, queue=kit.LEAVES)]
    return lambda at: at.settle(ends)


def settle_that_fails_a_batch(store: Store) -> Call:
    """Begun beside others, and again alone."""
    kit.split(store, 3, OnFailure.FAIL_FAST)
    (run,) = fetch(store, 1, queue=kit.LEAVES)
    return lambda at: at.settle([failed(run)])


def settle_step(store: Store) -> Call:
    run = started(store, change("n", 1))
    end = stepped(run, "main/b/2", State.WAITING, change("n", 2, "n=2"), wait=Wait("yes", timeout=60.0))
    return lambda at: at.settle([end])


def exchange(store: Store) -> Call:
    for _ in range(4):
        add(store)
    ends = [completed(run) for run in fetch(store, 2)]
    claim = Claim("w.1", 100, 2)
    return lambda at: at.exchange(ends, claim)


def report(store: Store) -> Call:
    add(store)
    run = fetch_one(store)
    return lambda at: at.report("w.1", {run.id: Progress(1, 2, "half")})


def enlist(store: Store) -> Call:
    return lambda at: at.enlist(a_session("new"))


def renew(store: Store) -> Call:
    return lambda at: at.renew("w", polled=1.0)


def bury(store: Store) -> Call:
    add(store)
    fetch_one(store)
    return lambda at: at.bury("w")


def reap(store: Store) -> Call:
    add(store)
    run = fetch_one(store)
    return lambda at: at.reap("w.1", crashed=[run.id], reason="it died")


def cancel(store: Store) -> Call:
    kit.split(store, 3)
    return lambda at: at.cancel(Filter(task="split"), reason="no", by="me")


def retry(store: Store) -> Call:
    root, _ = kit.split(store, 2)
    for run in fetch(store, 2, queue=kit.LEAVES):
        kit.settle(store, failed(run))
    return lambda at: at.retry(Filter(ids=(root,)), by="me")


def prune(store: Store) -> Call:
    kit.split(store, 2)
    for run in fetch(store, 2, queue=kit.LEAVES):
        kit.settle(store, completed(run))
    kit.settle(store, completed(fetch_one(store, worker="composer.1", queue=None)))
    return lambda at: at.prune(before=1e12)


def delete(store: Store) -> Call:
    id = add(store)
    kit.settle(store, failed(fetch_one(store)))
    return lambda at: at.delete(Filter(ids=(id,)))


def amend(store: Store) -> Call:
    (id,) = store.add([an_operation("op")])
    by_hand = Amendment(id="a1", what="edited", by="me", changes=(change("n", 7),))
    return lambda at: at.amend(id, "main/a/1", by_hand)


def signal(store: Store) -> Call:
    run = started(store)
    kit.settle(store, stepped(run, "main/b/2", State.WAITING, wait=Wait("yes", into="said")))
    return lambda at: at.signal(run.id, NewSignal(id="s1", name="yes", payload='"go"'))


def amend_many(store: Store) -> Call:
    """Some that are edited, and some that are moved and go on."""
    runs = [started(store) for _ in range(4)]
    for run in runs[2:]:
        kit.settle(store, failed(run))
    edit = Amendment(id="a1", what="edited", by="me", changes=(change("n", 7),))
    moved = Amendment(id="a1", what="jumped", by="me", cursor="main/c/9", resume=True)
    deeds = [Deed(run.id, "main/a/1", edit if n < 2 else moved) for n, run in enumerate(runs)]
    return lambda at: at.amend_many(deeds)


def signal_many(store: Store) -> Call:
    runs = [started(store) for _ in range(3)]
    for run in runs:
        kit.settle(store, stepped(run, "main/b/2", State.WAITING, wait=Wait("yes", into="said")))
    sent = [(run.id, NewSignal(id="s1", name="yes", payload='"go"')) for run in runs]
    return lambda at: at.signal_many(sent)


def pause(store: Store) -> Call:
    return lambda at: at.pause("q")


# ── distributed jobs ─────────────────────────────────────────────────────────────────────────────


def _parts(store: Store) -> list[str]:
    """A distributed job of more parts than the bites of these tests have."""
    names = [f"{n}" for n in range(5)]
    follow = {"then": a_job("then"), "otherwise": a_job("otherwise")}
    store.parts.push(Push(token="t", producer="p", parts=tuple(names), begins=True, close=5, complete=True, **follow))
    return names


def _in_small_bites(call: Call) -> Call:
    def small(store: Store) -> Any:
        with mock.patch.object(parting, "BITE", 2):
            return call(store)

    return small


def parts_end(store: Store) -> Call:
    """All parts of a distributed job: its follow-up is stored with the last bite."""
    ends = [PartEnd(name, "call", name) for name in _parts(store)]
    return _in_small_bites(lambda at: at.parts.end("t", ends))


def parts_resume(store: Store) -> Call:
    """One that failed, which is stopped while its parts are opened again."""
    error = ErrorInfo("ValueError", "bad body")
    store.parts.end("t", [PartEnd(name, "call", None, error) for name in _parts(store)])
    return _in_small_bites(lambda at: at.parts.resume("t", call="call"))


def parts_push(store: Store) -> Call:
    parts.push(store, "a")
    first = Push(token="u", producer="p", parts=("a", "b"), begins=True, close=2, then=a_job("then"))
    return lambda at: at.parts.push(first)


def parts_stop(store: Store) -> Call:
    parts.pushed(store, "a", otherwise=a_job("otherwise"))
    return lambda at: at.parts.stop("t", "why", call="call", by="ann")


def parts_resume_that_finishes(store: Store) -> Call:
    """All was done while the job was stopped."""
    parts.pushed(store, "a", then=a_job("then"))
    store.parts.stop("t", "why")
    parts.end(store, "a", call="before")
    return lambda at: at.parts.resume("t", call="call")


def parts_forget(store: Store) -> Call:
    parts.pushed(store, "a", "b")
    return lambda at: at.parts.forget(["t"], call="call")


PARTS = [parts_push, parts_end, parts_stop, parts_resume, parts_resume_that_finishes, parts_forget]
VERBS = [
    add_plain, add_first_ever, add_bite, add_operation, seal, fetch_some, fetch_behind_the_expired, settle_some,
    settle_pieces, settle_that_fails_a_batch, settle_step, exchange, report, enlist, renew, bury, reap, cancel, retry,
    prune, delete, amend, amend_many, signal, signal_many, pause, *PARTS,
]  # fmt: skip
