"""The suite's own words: short ways to add, fetch and settle, and the check that follows every test."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from piecework.ids import new_id
from piecework.job import (
    Answer,
    BatchRecord,
    BatchState,
    Claim,
    ErrorInfo,
    Fetched,
    Filter,
    NewBatch,
    NewJob,
    OnFailure,
    Record,
    SessionRecord,
    State,
)
from piecework.outcome import Settlement
from piecework.store.protocol import Store

EVERYTHING = Filter()
BAD_BODY = ErrorInfo("ValueError", "bad body")
LEAVES, SPLITS = "leaves", "splits"
SESSIONS = ("w", "splitter", "composer")  # whose workers the tests fetch for

AnyStore = TypeVar("AnyStore", bound=Store)
End = Callable[[Fetched], Settlement]  # what a run comes to
_claims = itertools.count(1)
_workers = itertools.count(1000)


class Conformance:
    """The root of the themes: after each test, what the store counts is what it holds."""

    @pytest.fixture(autouse=True)
    def sound(self, store: Store) -> Iterator[None]:
        enlist(store)
        yield
        assert_sound(store)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def assert_sound(store: Store) -> None:
    """`counts` equals a recount by `find`, each batch's counters equal its pieces, and `repair` finds nothing."""
    jobs = everything(store)
    recount = Counter((job.queue, str(job.state)) for job in jobs)
    assert {place: n for place, n in store.counts().items() if n} == dict(recount)
    for id in {job.batch for job in jobs if job.batch is not None}:
        assert_counted(store, id)
    assert store.repair(limit=1000) == []


def assert_counted(store: Store, batch: str) -> None:
    """The counters of a batch add up, and a sealed batch that is still open waits for somebody."""
    found = store.batch(batch)
    if found is None:
        return
    assert found.open + found.completed + found.failed + found.cancelled == found.total
    assert found.open >= 0
    if found.state is BatchState.OPEN and found.sealed:
        assert found.open > 0


def everything(store: Store, which: Filter = EVERYTHING) -> list[Record]:
    """All matching jobs, page by page."""
    found: list[Record] = []
    while page := store.find(which, after=found[-1].id if found else None, limit=500):
        found += page
    return found


def record(store: Store, id: str) -> Record:
    (found,) = store.get([id])
    return found


def state(store: Store, id: str) -> State:
    return record(store, id).state


def states(store: Store, ids: Sequence[str]) -> list[State]:
    return [job.state for job in store.get(ids)]


def batch(store: Store, id: str) -> BatchRecord:
    found = store.batch(id)
    assert found is not None
    return found


def tally(store: Store, id: str) -> tuple[int, int, int, int]:
    """A batch's open, completed, failed and cancelled pieces."""
    found = batch(store, id)
    return found.open, found.completed, found.failed, found.cancelled


def snapshot(store: Store, *batches: str) -> tuple[Any, ...]:
    """The whole visible state, for `sent twice has the same end state`."""
    return everything(store), store.counts(), [store.batch(id) for id in batches], store.paused(), store.sessions()


@contextmanager
def at_work(store: AnyStore, *, sound: bool = True) -> Iterator[AnyStore]:
    """Sets a store up with the tests' sessions, and closes it at the end, when what it counts must be what it holds."""
    store.migrate()
    enlist(store)
    yield store
    if sound:
        assert_sound(store)
    store.close()


def enlist(store: Store) -> None:
    """The sessions of the workers that the tests fetch for."""
    for session in SESSIONS:
        store.enlist(a_session(session))


# ── doing ────────────────────────────────────────────────────────────────────────────────────────


def a_job(id: str | None = None, **fields: Any) -> NewJob:
    """A job nobody cares about the details of."""
    return NewJob(**{"id": id or new_id(), "task": "demo", "args": "[]", **fields})


def a_session(id: str, beat: int = 0) -> SessionRecord:
    return SessionRecord(id=id, beat=beat, started_at=1.0, seen_at=1.0, name="n", host="h", pid=1)


def add(store: Store, **fields: Any) -> str:
    """Adds one job and returns its id."""
    (id,) = store.add([a_job(**fields)])
    return id


def a_claim(worker: str = "w.1", limit: int = 1, queues: tuple[str, ...] | None = None) -> Claim:
    """A request for work that was never made before."""
    return Claim(worker, next(_claims), limit, queues)


def a_worker() -> str:
    """The name of a worker that there never was before: nobody is called as one that was reaped."""
    return f"w.{next(_workers)}"


def fetch(store: Store, limit: int = 1, *, worker: str = "w.1", queue: str | None = None) -> list[Fetched]:
    return store.fetch(a_claim(worker, limit, None if queue is None else (queue,)))


def fetch_one(store: Store, *, worker: str = "w.1", queue: str | None = None) -> Fetched:
    (run,) = fetch(store, worker=worker, queue=queue)
    return run


def running(store: Store, *, worker: str = "w.1", **fields: Any) -> Fetched:
    """Adds one job to an otherwise idle store and fetches it."""
    id = add(store, **fields)
    run = fetch_one(store, worker=worker)
    assert run.id == id
    return run


def ended(run: Fetched, state: State, **fields: Any) -> Settlement:
    """The settlement of a run, with what does not change taken from it."""
    return Settlement(
        **{
            "id": run.id,
            "run": run.run,
            "state": state,
            "attempt": run.attempt,
            "queue": run.queue,
            "cursor": run.cursor,
            "batch": run.batch,
            **fields,
        }
    )


def completed(run: Fetched, result: str | None = '"ok"') -> Settlement:
    return ended(run, State.COMPLETED, result=result)


def failed(run: Fetched, error: ErrorInfo = BAD_BODY) -> Settlement:
    return ended(run, State.FAILED, attempt=run.attempt + 1, error=error, history="failed")


def retried(run: Fetched, delay: float | None = None, error: ErrorInfo = BAD_BODY) -> Settlement:
    return ended(run, State.AVAILABLE, attempt=run.attempt + 1, delay=delay, error=error, history="retry")


def snoozed(run: Fetched, delay: float) -> Settlement:
    return ended(run, State.AVAILABLE, delay=delay, reason="not yet", history="snoozed")


def released(run: Fetched) -> Settlement:
    return ended(run, State.AVAILABLE, reason="stopping", history="released")


def cancelled(run: Fetched, reason: str = "asked to stop") -> Settlement:
    return ended(run, State.CANCELLED, reason=reason, history="cancelled")


def parked(run: Fetched, reason: str = "no such task") -> Settlement:
    return ended(run, State.PARKED, reason=reason, history="parked")


def waiting(run: Fetched, offered: int) -> Settlement:
    """A splitter that has offered all its pieces."""
    return ended(run, State.WAITING, cursor="compose", seal=offered)


def settle(store: Store, settlement: Settlement) -> Answer:
    (answer,) = store.settle([settlement])
    return answer


# ── splits ───────────────────────────────────────────────────────────────────────────────────────


def pieces_of(
    run: Fetched, keys: int | Sequence[str], *, first: int = 0, queue: str = LEAVES, **fields: Any
) -> list[NewJob]:
    """Pieces for a split that runs, by number or by key."""
    names: list[str | None] = [None] * keys if isinstance(keys, int) else list(keys)
    return [
        a_job(
            queue=queue,
            batch=run.id,
            root=run.root or run.id,
            ordinal=first + n,
            piece=name,
            **{"task": "leaf", "args": f"[{first + n}]", **fields},
        )
        for n, name in enumerate(names)
    ]


def offer(
    store: Store, run: Fetched, pieces: Sequence[NewJob], on_failure: OnFailure = OnFailure.FINISH, **fields: Any
) -> list[str]:
    """Adds pieces as a splitter does: behind its fence, with its batch."""
    new = NewBatch(id=run.id, then=run.id, on_failure=on_failure, **fields)
    return store.add(pieces, batch=new, fence=run.fence)


def splitting(store: Store, *, worker: str = "splitter.1", **fields: Any) -> Fetched:
    """Adds a split and fetches it."""
    id = add(store, **{"task": "split", "queue": SPLITS, **fields})
    run = fetch_one(store, worker=worker, queue=SPLITS)
    assert run.id == id
    return run


def split(
    store: Store, keys: int | Sequence[str] = 3, on_failure: OnFailure = OnFailure.FINISH, **fields: Any
) -> tuple[str, list[str]]:
    """A split that waits for its pieces: its id and theirs."""
    run = splitting(store, **fields)
    pieces = offer(store, run, pieces_of(run, keys), on_failure)
    assert settle(store, waiting(run, len(pieces))) is Answer.OK
    return run.id, pieces


def loose_batch(
    store: Store, n: int = 2, on_failure: OnFailure = OnFailure.FINISH, **fields: Any
) -> tuple[str, list[str]]:
    """A batch without a splitter, not sealed: the id of the batch and its continuation, and the pieces'."""
    id = add_continuation(store, on_failure, **fields)
    pieces = store.add([a_job(queue=LEAVES, batch=id, root=id, ordinal=n) for n in range(n)])
    return id, pieces


def add_continuation(store: Store, on_failure: OnFailure = OnFailure.FINISH, **fields: Any) -> str:
    """A job that waits for a batch of its own, still without pieces."""
    then = a_job(state=State.WAITING, queue=SPLITS)
    return store.add([then], batch=NewBatch(id=then.id, then=then.id, on_failure=on_failure, **fields))[0]


def leaves(store: Store, n: int = 100, *, worker: str = "w.1") -> list[Fetched]:
    """Fetches pieces, in their order."""
    return fetch(store, n, worker=worker, queue=LEAVES)


def assert_named_as_failed(store: Store, id: str, piece: str) -> None:
    """A split failed, and its error names the piece that did."""
    assert (batch(store, id).state, state(store, id)) == (BatchState.FAILED, State.FAILED)
    error = record(store, id).error
    assert error is not None
    assert error.type == "PieceFailed"
    assert piece in error.message


def complete_leaves(store: Store) -> None:
    """Runs whatever pieces are due to a good end."""
    while runs := leaves(store):
        assert set(store.settle([completed(run) for run in runs])) == {Answer.OK}


def compose(store: Store, id: str, result: str = '"whole"') -> Fetched:
    """Fetches the released split and completes it."""
    run = fetch_one(store, worker="composer.1", queue=SPLITS)
    assert run.id == id
    assert settle(store, completed(run, result)) is Answer.OK
    return run


def finish_with(store: Store, end: End, which: int = 0, of: int = 3) -> None:
    """Runs all pieces; the one at `which` comes to the given end, the others complete."""
    runs = leaves(store)
    assert len(runs) == of
    store.settle([end(run) if n == which else completed(run) for n, run in enumerate(runs)])


# ── races ────────────────────────────────────────────────────────────────────────────────────────


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Runs the calls on threads that start at one moment; returns what they returned, or raises what one raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(n: int, call: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            results[n] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n, call)) for n, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
