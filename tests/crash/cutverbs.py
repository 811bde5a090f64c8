"""The verbs that change something, each with a scene for it: what is cut off and sent again in the tests of a server's store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from piecework import parting
from piecework.job import Amendment, Claim, Deed, Ending, ErrorInfo, Filter, NewSignal, OnFailure, Progress, State, Wait
from piecework.parts import PartEnd, Push
from piecework.store import Store
from piecework.testing.conformance import kit, parts, signals
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


def signal_nobody_waits_for(store: Store) -> Call:
    (id,) = store.add([an_operation("op")])
    return lambda at: at.signal(id, NewSignal(id="s1", name="yes", payload='"go"'))


# ── operations ───────────────────────────────────────────────────────────────────────────────────


def add_fork(store: Store) -> Call:
    """Operations that begin elsewhere, one of them with a wait."""
    begun = {"forked_from": "op", "forked_after": 1, "cursor": "main/b/2"}
    jobs = [an_operation("f1", change("n", 1), **begun)]
    jobs.append(an_operation("f2", **begun, state=State.WAITING, wait=Wait("yes", timeout=60.0)))
    return lambda at: at.add(jobs)


def fetch_whose_wait_is_over(store: Store) -> Call:
    signals.waiting(store, timeout=0.0)
    claim = Claim("w.1", 100, 2)
    return lambda at: at.fetch(claim)


def settle_keep(store: Store) -> Call:
    """An operation that goes on in its worker, and one that is let go because its globals were edited meanwhile."""
    one, two = started(store, change("n", 1)), started(store)
    store.amend(two.id, "main/a/1", Amendment(id="a1", what="edited", by="me", changes=(change("n", 7),)))
    ends = [stepped(run, "main/b/2", State.RUNNING, change("m", 2, "m=2")) for run in (one, two)]
    return lambda at: at.settle(ends)


def settle_seal(store: Store) -> Call:
    """A step that is a split has offered its pieces, of which one has failed."""
    run = started(store)
    signals.offering(store, run, 2, OnFailure.FAIL_FAST)
    kit.settle(store, failed(signals.leaves(store, 1)[0]))
    return lambda at: at.settle([signals.sealing(run, 2)])


def settle_undone(store: Store) -> Call:
    """The last undo of an operation that has failed."""
    run = started(store, change("n", 1))
    ending = Ending(State.FAILED, ErrorInfo("ValueError", "bad body"))
    kit.settle(
        store, stepped(run, "undo/main/a/1", State.AVAILABLE, ending=ending, error=ending.error, history="failed")
    )
    end = stepped(fetch_one(store), "undone/1", State.FAILED, change("n", 0), error=ending.error, history="undone")
    return lambda at: at.settle([end])


def cancel_to_undo(store: Store) -> Call:
    """Of all: one waits for a signal, one for pieces, one runs, and one is a job that is no operation."""
    started(store)
    signals.waiting(store, timeout=60.0)
    signals.splitting_operation(store)
    add(store)
    return lambda at: at.cancel(Filter(), reason="no", by="me", undo=True)


def retry_operations(store: Store) -> Call:
    """One that waits again, and one whose signal has come meanwhile."""
    runs = [started(store) for _ in range(2)]
    store.settle([signals.waits(run, timeout=0.0) for run in runs])
    store.settle([failed(run) for run in fetch(store, 2)])
    store.signal(runs[1].id, NewSignal(id="s1", name="go", payload='"go"'))
    return lambda at: at.retry(Filter(operations=True), by="me", reason="why not")


def amend_and_go_on(store: Store) -> Call:
    """A step is skipped that failed."""
    run = started(store)
    kit.settle(store, failed(run))
    by_hand = Amendment(id="a1", what="skipped", by="me", cursor="main/a/1/skip", resume=True)
    return lambda at: at.amend(run.id, "main/a/1", by_hand)


def prune_operation(store: Store) -> Call:
    run = started(store, change("n", 1, "n=1"))
    store.signal(run.id, NewSignal(id="s1", name="yes", payload='"go"'))
    store.amend(run.id, "main/a/1", Amendment(id="a1", what="edited", by="me", changes=(change("n", 7),)))
    kit.settle(store, stepped(run, "main/a/1", State.COMPLETED))
    return lambda at: at.prune(before=1e12)


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
OPERATIONS = [
    add_fork, fetch_whose_wait_is_over, settle_keep, settle_seal, settle_undone, cancel_to_undo, retry_operations,
    amend_and_go_on, prune_operation, signal_nobody_waits_for,
]  # fmt: skip
VERBS = [
    add_plain, add_first_ever, add_bite, add_operation, seal, fetch_some, fetch_behind_the_expired, settle_some,
    settle_pieces, settle_that_fails_a_batch, settle_step, exchange, report, enlist, renew, bury, reap, cancel, retry,
    prune, delete, amend, amend_many, signal, signal_many, pause, *PARTS, *OPERATIONS,
]  # fmt: skip
