"""The order of a round: the limit, then piecework, then the limit again; so that both see the same weather."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import limit, measure, peers, size, stock, stocked, walks
from bench.jobs import STEPS
from bench.reading import Reading, Watch

Round = dict[str, Reading]

BITE = 100  # jobs added one by one before it is the other side's turn
WARM = 10


@dataclass(frozen=True)
class Plan:
    """How much is measured, and where."""

    folder: Path
    synchronous: str
    rounds: int
    jobs: int
    singles: int
    samples: int
    idle_seconds: float
    peers: bool
    stock: (
        int  # jobs that ended before, and as many that are due later, in the store that is compared with an empty one
    )
    turns: int
    pieces: int  # of the split whose memory is weighed
    operations: int
    many_operations: int  # so many that the beginning, when few are fetched at a time, does not count
    peer_jobs: int = 5000
    peer_operations: int = 100


def run(plan: Plan) -> list[Round]:
    """All rounds. Raises `NotExact` at the first one that is not."""
    say("starting and stopping workers, to know what that costs")
    with _folder(plan) as folder, measure.new_store(folder, "empty", plan.synchronous) as store:
        costs = {processes: measure.starting(store, processes=processes) for processes in (1, 2)}
    rounds = [_round(plan, number, costs) for number in range(1, plan.rounds + 1)]
    say(f"a split of {plan.pieces:,} pieces")
    with _folder(plan) as folder, measure.new_store(folder, "size", plan.synchronous) as store:
        for name, reading in size.split(store, plan.pieces).items():
            _note(rounds[-1], name, reading)
    return rounds


def _round(plan: Plan, number: int, costs: dict[int, float]) -> Round:
    """One of everything."""
    found: Round = {}
    say(f"round {number} of {plan.rounds}")
    with _folder(plan) as folder:
        _adding_singly(plan, folder, found)
        _limit(plan, folder, found, "limit", delete=False)
        _drain(plan, folder, found, "drain", 1, costs)
        _walks(plan, folder, found, costs)
        _split(plan, folder, found, costs)
        _limit(plan, folder, found, "limit_delete", delete=True)
        _drain(plan, folder, found, "drain_two", 2, costs)
        _waiting(plan, folder, found)
        _stocked(plan, folder, found)
        if plan.peers:
            path = folder / "huey.db"
            _note(found, "huey", peers.huey_drain(path, plan.peer_jobs, plan.synchronous))
            _note(found, "dbos", peers.dbos_steps(folder / "dbos.db", plan.peer_operations, STEPS))
    return found


def _adding_singly(plan: Plan, folder: Path, found: Round) -> None:
    """In turns of a few, because what a commit takes changes from second to second on a shared disk."""
    bare, ours = Watch(), Watch()
    turns = [BITE] * (plan.singles // BITE)
    with (
        closing(limit.singles(folder / "singles-limit.db", plan.synchronous)) as con,
        measure.new_store(folder, "singles", plan.synchronous) as store,
    ):
        measure.later_one_by_one(store, WARM)
        for n in turns:
            content = limit.rows(n)
            with bare:
                limit.insert_one_by_one(con, content)
            with ours:
                measure.later_one_by_one(store, n)
        measure.expect_waiting(store, WARM + sum(turns))
    _note(found, "insert", bare.reading(sum(turns)))
    _note(found, "later", ours.reading(sum(turns)))


def _limit(plan: Plan, folder: Path, found: Round, name: str, *, delete: bool) -> None:
    path = folder / f"{name}.db"
    filled = limit.insert_many(path, plan.jobs, plan.synchronous)
    if not delete:
        _note(found, "insert_many", filled)
    _note(found, name, limit.drain(path, plan.jobs, plan.synchronous, delete=delete))


def _drain(plan: Plan, folder: Path, found: Round, name: str, processes: int, costs: dict[int, float]) -> None:
    with measure.new_store(folder, name, plan.synchronous) as store:
        filled = measure.later_many(store, plan.jobs)
        if processes == 1:
            _note(found, "later_many", filled)
        _note(found, name, measure.drain(store, plan.jobs, processes=processes, idle_cpu=costs[processes]))


def _split(plan: Plan, folder: Path, found: Round, costs: dict[int, float]) -> None:
    with measure.new_store(folder, "split", plan.synchronous) as store:
        _note(found, "split", measure.split(store, plan.jobs, idle_cpu=costs[1]))


def _walks(plan: Plan, folder: Path, found: Round, costs: dict[int, float]) -> None:
    for name, n in (("steps", plan.operations), ("steps_many", plan.many_operations)):
        with measure.new_store(folder, name, plan.synchronous) as store:
            _note(found, name, walks.steps(store, n, idle_cpu=costs[1]))
    with measure.new_store(folder, "march", plan.synchronous) as store:
        for name, reading in walks.long(store).items():
            _note(found, name, reading)


def _waiting(plan: Plan, folder: Path, found: Round) -> None:
    with measure.new_store(folder, "waiting", plan.synchronous) as store:
        for name, reading in measure.latency(store, plan.samples).items():
            _note(found, name, reading)
    with measure.new_store(folder, "idle", plan.synchronous) as store:
        for name, reading in measure.idle(store, plan.idle_seconds).items():
            _note(found, name, reading)


def _stocked(plan: Plan, folder: Path, found: Round) -> None:
    """A store with a past and a future against one without, first in this process, then with a real worker."""
    with (
        measure.new_store(folder, "bare", plan.synchronous) as empty,
        measure.new_store(folder, "laden", plan.synchronous) as full,
    ):
        stock.fill(full.path, finished=plan.stock, future=plan.stock)
        for name, reading in stocked.compare(empty, full, plan.turns).items():
            _note(found, name, reading)
        for name, store in (("worker_empty", empty), ("worker_full", full)):
            _note(found, name, stocked.drain(store, plan.jobs // 4))


@contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    """A round's files, gone after it: the next round gets a disk in the same state."""
    folder = Path(tempfile.mkdtemp(prefix="piecework-bench-", dir=plan.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.2)


def _note(found: Round, name: str, reading: Reading) -> None:
    found[name] = reading
    say(f"  {name:<16} {reading.value:>12,.1f}")


def say(sentence: str) -> None:
    """Progress goes to stderr; stdout is the table's."""
    print(sentence, file=sys.stderr, flush=True)
