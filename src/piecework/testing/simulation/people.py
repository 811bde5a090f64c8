"""Who is around the engine: clients that enqueue, an operator who cancels and retries, and the nemesis that breaks things."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from piecework.engine.splitter import placed
from piecework.errors import StoreUnavailable, UsageError
from piecework.ids import new_id
from piecework.job import Filter, NewBatch, NewJob, NewSignal, OnFailure, State
from piecework.split import Piece
from piecework.store.protocol import Store
from piecework.testing.simulation.crew import Crew
from piecework.testing.simulation.oracle import UNKNOWN, Oracle
from piecework.testing.simulation.stage import Chance, Stage
from piecework.testing.simulation.strollers import GO, HINT, OPERATIONS, PATIENT
from piecework.testing.simulation.toys import DEADLY, FLAKY, STEP, Toys
from piecework.testing.simulation.wire import Weather

QUEUE = "default"
SHORT, LONG = 0.0, 0.8  # seconds that a body takes; in the longer ones workers die and leases end


class Calls:
    """Makes calls of every kind, each with a number of its own, by which a call that is stored twice is seen."""

    def __init__(self, chance: Chance, toys: Toys) -> None:
        self._chance = chance
        self._toys = toys
        self._numbers = 0

    def call(self) -> Piece[Any]:
        kind = self._chance.choice((STEP, STEP, FLAKY, DEADLY, UNKNOWN, *(["split"] * 5), *OPERATIONS * 3))
        if kind in OPERATIONS:
            return self._toys.pieces[kind](*self._stroll())
        if kind == UNKNOWN:
            return Piece(UNKNOWN, json.dumps([self._number()]), QUEUE, 0)
        return self._split(2) if kind == "split" else self._toys.pieces[kind](*self._leaf(kind)[1:])

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _seconds(self) -> float:
        return SHORT if self._chance.random() < 0.7 else self._chance.random() * LONG

    def _leaf(self, kind: str) -> list[Any]:
        if kind == STEP:
            return [kind, self._number(), self._seconds()]
        return [kind, self._number(), self._seconds(), self._chance.choice((1, 1, 2, 3))]

    def _stroll(self) -> list[Any]:
        """What the steps of an operation do: most of them what they should, and some fail for good."""
        chance = self._chance
        fails = {name: chance.choice((0, 0, 0, 1, 2, 3)) for name in ("set_out", "mend", "close")}
        fails |= {name: chance.choice((0, 0, 0, 0, 0, 1, 2, 3)) for name in ("spread", "gather", "detour")}
        script = {
            "seconds": self._seconds() / 4,
            "fails": fails,
            "deaths": chance.choice((0, 0, 0, 0, 3, 4, 6)),  # the last run of this operation that dies in `mend`
            "stubborn": chance.choice((0, 0, 0, 1, 2)),
            "rounds": chance.choice((1, 1, 2, 3)),
            "aside": chance.random() < 0.3,
            "naps": chance.choice((0.0, 0.0, 0.2)),
            "asks": chance.random() < 0.25,
            "spread": [self._leaf(chance.choice((STEP, STEP, FLAKY))) for _ in range(chance.choice((0, 1, 3)))],
            "gather": [self._leaf(chance.choice((STEP, STEP, FLAKY, DEADLY))) for _ in range(chance.choice((0, 1, 2)))],
        }
        return [self._number(), script]

    def _split(self, depth: int) -> Piece[Any]:
        kind, *args = self._tree(depth)
        return self._toys.pieces[kind](*args)

    def _tree(self, depth: int) -> list[Any]:
        """A split whose pieces may be splits; some wait between two pieces, so that they are stored in many bites."""
        chance = self._chance
        plan = []
        for _ in range(chance.choice((0, 1, 2, 2, 3, 4))):
            kind = chance.choice((*([STEP] * 8), FLAKY, DEADLY, "split", PATIENT))
            if kind == PATIENT:
                plan.append([kind, *self._stroll()])
                continue
            plan.append(
                self._tree(depth - 1)
                if kind == "split" and depth > 1
                else self._leaf(STEP if kind == "split" else kind)
            )
        policy = chance.choice((OnFailure.FINISH, OnFailure.FINISH, OnFailure.COMPOSE, OnFailure.FAIL_FAST))
        return [policy.value, self._number(), chance.choice((0.0, 0.0, 0.3)), plan]


class Client:
    """A caller that enqueues, and sends again what it has no answer to."""

    def __init__(self, stage: Stage, store: Store, oracle: Oracle, calls: Calls, many: int) -> None:
        self._stage = stage
        self._store = store
        self._oracle = oracle
        self._calls = calls
        self._many = many

    def run(self) -> None:
        chance = self._stage.random
        for _ in range(self._many):
            self._stage.sleep(chance.random())
            if chance.random() < 0.15:
                self._batch([self._calls.call() for _ in range(chance.choice((1, 2, 3)))])
                continue
            pieces = [self._calls.call() for _ in range(chance.choice((1, 1, 2)))]
            jobs = [
                NewJob(new_id(), p.task, p.args, p.queue, p.priority, key=self._key(p), operation=p.operation)
                for p in pieces
            ]
            self._acknowledged(jobs, self.insist(partial(self._store.add, jobs)))
            for job in jobs:
                if job.operation is not None:
                    self._follow(job)

    def _key(self, piece: Piece[Any]) -> str | None:
        """Some operations have a key, by which they are found when they are started once more."""
        return f"key of {piece.args}" if piece.operation is not None and self._stage.random.random() < 0.3 else None

    def _follow(self, job: NewJob) -> None:
        """Signals for an operation: early or late, too many or none; and some are started once more."""
        chance = self._stage.random
        for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
            self._stage.sleep(chance.random() * 0.7)
            signal = NewSignal(id=new_id(), name=chance.choice((GO, GO, HINT)), payload=json.dumps(new_id()))
            self.insist(partial(self._store.signal, job.id, signal))
        if job.key is None:
            return
        (id,) = self.insist(partial(self._store.add, [msgspec.structs.replace(job, id=new_id())]))
        if id != job.id:
            self._oracle.fail(f"{job.id} was started once more by its key, and that is {id}")

    def _batch(self, pieces: list[Piece[Any]]) -> None:
        """A batch put together by hand, as `app.batch` does."""
        id = new_id()
        jobs = placed(pieces, id, id, 0)
        self._acknowledged(
            jobs, self.insist(lambda: self._store.add(jobs, batch=NewBatch(id, on_failure=OnFailure.COMPOSE)))
        )
        self.insist(lambda: self._store.seal(id))

    def _acknowledged(self, jobs: list[NewJob], ids: list[str]) -> None:
        for id, job in zip(ids, jobs, strict=True):
            self._oracle.acknowledged[id] = f"{job.task}{job.args}"

    def insist(self, call: Callable[[], Any]) -> Any:
        """Sends a call until it is answered."""
        while True:
            try:
                return call()
            except StoreUnavailable:
                self._stage.sleep(0.2 * self._stage.random.random())


class Operator:
    """Somebody at the command line: cancels, retries, pauses."""

    def __init__(self, stage: Stage, store: Store, oracle: Oracle, acts: int) -> None:
        self._stage = stage
        self._store = store
        self._oracle = oracle
        self._acts = acts

    def run(self) -> None:
        for _ in range(self._acts):
            self._stage.sleep(2.0 * self._stage.random.random())
            try:
                self._act()
            except (StoreUnavailable, UsageError):
                continue  # what may have been done has been done; somebody who looks again decides anew

    def _act(self) -> None:
        chance, store = self._stage.random, self._store
        what = chance.choice(("cancel", "cancel", "retry", "retry", "pause"))
        ids = tuple(self._oracle.acknowledged)
        if what == "cancel" and ids:
            store.cancel(Filter(ids=(chance.choice(ids),)), reason="an operator said so")
        elif what == "retry":
            store.retry(Filter(state=chance.choice((State.FAILED, State.CANCELLED, State.PARKED))))
        elif what == "pause":
            store.pause(QUEUE)
            self._stage.sleep(chance.random())
            store.pause(QUEUE, False)


class Nemesis:
    """Kills and stops processes, takes the store away, and lets the wall clock jump."""

    def __init__(self, stage: Stage, crew: Crew, weather: Weather, trace: Callable[[str], None]) -> None:
        self._stage = stage
        self._crew = crew
        self._weather = weather
        self._trace = trace

    def run(self, acts: int) -> None:
        for _ in range(acts):
            self._stage.sleep(1.5 * self._stage.random.random())
            what = self._stage.random.choice(tuple(DEEDS))
            self._weather.met[what] += 1
            DEEDS[what](self)

    def worker_killed(self) -> None:
        workers = [child for process, _ in self._crew.living() for child in process.children if not child.dead]
        if workers:
            victim = self._stage.random.choice(workers)
            self._trace(f"{victim.name:8} is killed")
            self._stage.kill(victim)

    def worker_stopped(self) -> None:
        workers = [child for process, _ in self._crew.living() for child in process.children if not child.dead]
        if workers:
            self._stand_still([self._stage.random.choice(workers)])

    def session_killed(self) -> None:
        if living := self._crew.living():
            process, _ = self._stage.random.choice(living)
            self._trace(f"{process.name:8} and all its processes are killed")
            self._stage.kill(process)
            self._crew.hire(processes=1, concurrency=2)

    def session_stopped(self) -> None:
        if living := self._crew.living():
            process, _ = self._stage.random.choice(living)
            self._stand_still([process, *process.children])

    def supervisor_stopped(self) -> None:
        if living := self._crew.living():
            self._stand_still([self._stage.random.choice(living)[0]])

    def _stand_still(self, processes: list[Any]) -> None:
        seconds = self._weather.pause()
        for process in processes:
            self._trace(f"{process.name:8} stands still for {seconds:g} s")
            self._stage.stop(process, seconds)

    def store_away(self) -> None:
        seconds = self._weather.pause()
        self._trace(f"         the store is away for {seconds:g} s")
        self._weather.away_until = self._stage.clock.elapsed + seconds

    def clock_jumps(self) -> None:
        seconds = self._stage.random.choice((-3600.0, -5.0, 5.0, 30.0, 3600.0))
        self._trace(f"         the wall clock jumps by {seconds:g} s")
        self._stage.clock.wall += seconds

    def session_replaced(self) -> None:
        """A deployment: one supervisor is asked to stop, another is started."""
        if living := self._crew.living():
            process, made = self._stage.random.choice(living)
            self._trace(f"{process.name:8} is asked to stop")
            self._stage.spawn(process, made.stop, name="signal")
            self._crew.hire(processes=1, concurrency=2)


DEEDS: dict[str, Callable[[Nemesis], None]] = {
    "worker process killed": Nemesis.worker_killed,
    "worker process stood still": Nemesis.worker_stopped,
    "supervisor and its workers killed": Nemesis.session_killed,
    "supervisor and its workers stood still": Nemesis.session_stopped,
    "supervisor stood still": Nemesis.supervisor_stopped,
    "store away": Nemesis.store_away,
    "wall clock jumped": Nemesis.clock_jumps,
    "supervisor replaced": Nemesis.session_replaced,
}
