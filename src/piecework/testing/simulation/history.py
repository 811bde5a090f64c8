"""One history: a seed makes a store, a crew, people and faults; it is played, drained without faults, and judged."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from piecework.clock import Clock
from piecework.engine.keeper import Keeper
from piecework.ids import counted
from piecework.store.protocol import Store
from piecework.testing.model import ModelStore
from piecework.testing.simulation.crew import Crew
from piecework.testing.simulation.hands import Hands
from piecework.testing.simulation.oracle import Oracle
from piecework.testing.simulation.people import QUEUE, Calls, Client, Nemesis, Operator
from piecework.testing.simulation.stage import Gone, Process, Stage, StageEvent
from piecework.testing.simulation.toys import Entry, Toys
from piecework.testing.simulation.wire import Weather, Wire

LEASE = 1.0  # short, so that much happens in few steps
PLAY_SECONDS = 4.0
DRAIN_SECONDS = 120.0  # then what has not ended is stuck: a wall clock that jumped back by an hour is set right before
LEAVE_SECONDS = 30.0
RATES = (0.0, 0.02, 0.05, 0.15)  # the share of calls that meet a fault
UNFINISHED = ("waiting", "available", "running")

MakeStore = Callable[[Clock], Store]
Connect = Callable[[Store], Store]  # a process's own view of the store, above the faults


@dataclass
class Protocol:
    """What is proved: a store, and, for protocols that are known to be bad, the part that its clients and keepers play."""

    store: MakeStore = lambda clock: ModelStore(clock=clock)
    connect: Connect = lambda store: store
    keeper: type[Keeper] = Keeper


@dataclass
class Verdict:
    """What one history came to."""

    seed: int
    violations: list[str]
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    jobs: int = 0


class History:
    """A world of one seed."""

    def __init__(self, seed: int, protocol: Protocol, toys: Toys, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.stage = Stage(seed)
        self._tell = trace
        self._calls = 0
        chance = self.stage.random
        self.store = protocol.store(self.stage.clock)
        self.store.migrate()
        self.oracle = Oracle(self.store, self.stage.clock, LEASE)
        self._connect = protocol.connect
        self._hint = StageEvent(self.stage)
        self.weather = Weather(chance, chance.choice(RATES), LEASE)
        self.crew = Crew(self.stage, self.connect, toys.app.registry, LEASE, protocol.keeper)
        self._toys = toys
        self._troublemakers: list[Process] = []
        toys.world = self

    def connect(self, process: Process) -> Store:
        """The store as a process reaches it."""
        trace = self.trace if self._tell is not None else None
        wire = Wire(self.stage, self.store, self.weather, process, self._saw, self._hint, trace)
        return self._connect(cast(Store, wire))

    def _saw(self, verb: str, *rest: object) -> None:
        self._calls += 1
        self.oracle.saw(verb, *rest)  # type: ignore[arg-type]

    def trace(self, line: str) -> None:
        if self._tell is not None:
            self._tell(f"{self.stage.clock.elapsed:9.4f}  {line}")

    # ── what bodies do ───────────────────────────────────────────────────────────────────────────

    def write(self, entry: Entry) -> None:
        process = self.stage.current.process
        if process.dead:
            raise Gone
        self.trace(f"{process.name:8} {entry.job}#{entry.run}: {entry.kind} {entry.what}s")
        self.oracle.wrote(entry)

    def sleep(self, seconds: float) -> None:
        self.stage.sleep(seconds)

    def die(self) -> None:
        process = self.stage.current.process
        self.trace(f"{process.name:8} dies of its job")
        self.stage.kill(process)
        raise Gone

    # ── the play ─────────────────────────────────────────────────────────────────────────────────

    def play(self) -> Verdict:
        with self.crew.at_work():
            try:
                self._play()
            except RuntimeError as error:
                self.oracle.fail(str(error))
            finally:
                self.stage.close()
        self.oracle.violations += self.stage.broken
        return Verdict(
            self.seed,
            self.oracle.violations,
            self.weather.met,
            self.oracle.answers,
            self._calls,
            len(self.oracle.everything()),
        )

    def _play(self) -> None:
        self._open()
        self.stage.run(PLAY_SECONDS)
        self._calm()
        self._drain()
        self.oracle.judge_rest()
        self.crew.dismiss()
        self.stage.run(LEAVE_SECONDS)
        for process, _ in self.crew.living():
            self.oracle.fail(f"supervisor {process.name} was asked to stop, and has not after {LEAVE_SECONDS:g} s")
        self.oracle.judge()

    def _open(self) -> None:
        chance, stage = self.stage.random, self.stage
        for _ in range(chance.choice((1, 2, 2))):
            self.crew.hire(processes=chance.choice((1, 1, 2)), concurrency=chance.choice((1, 2, 3)))
        calls = Calls(chance, self._toys)
        for n in range(chance.choice((1, 2))):
            process = stage.process(f"client{n + 1}")
            client = Client(stage, self.connect(process), self.oracle, calls, chance.choice((1, 2, 3)))
            stage.spawn(process, client.run)
        if chance.random() < 0.4:
            process = stage.process("operator")
            self._troublemakers.append(process)
            operator = Operator(stage, self.connect(process), self.oracle, chance.choice((1, 2, 4)))
            stage.spawn(process, operator.run)
        if chance.random() < 0.4:
            process = stage.process("hands")
            self._troublemakers.append(process)
            hands = Hands(stage, self.connect(process), self.oracle, QUEUE, chance.choice((3, 6, 12)))
            stage.spawn(process, hands.run)
        if chance.random() < 0.6:
            process = stage.process("nemesis")
            self._troublemakers.append(process)
            nemesis = Nemesis(stage, self.crew, self.weather, self.trace)
            stage.spawn(process, nemesis.run, chance.choice((1, 2, 4)))

    def _calm(self) -> None:
        """No faults any more; whoever stands still goes on, and the wall clock is right again."""
        self.trace("         no faults from here on")
        for process in self._troublemakers:
            self.stage.kill(process)
        self.weather.rate = 0.0
        self.weather.away_until = 0.0
        while self.weather.under_way:  # what somebody asked for before may still arrive
            self.stage.run(0.1)
        self.stage.clock.wall = 1_700_000_000.0 + 3600.0 * 8  # ahead of every jump
        self.store.pause(QUEUE, False)  # an operator may have died between the two
        if not self.crew.living():
            self.crew.hire(processes=1, concurrency=2)

    def _drain(self) -> None:
        end = self.stage.clock.elapsed + DRAIN_SECONDS
        self.stage.run(LEASE / 2)  # two beats of whoever lives
        while self.stage.clock.elapsed < end:
            self.stage.run(0.5)
            if not self.crew.living():  # the last one had been asked to stop
                self.crew.hire(processes=1, concurrency=2)
            elif not self._busy():
                return

    def _busy(self) -> bool:
        """Whether somebody still has something to do."""
        clients = [process for process in self.stage.processes if process.name.startswith("client")]
        if any(not process.dead and not fiber.done for process in clients for fiber in process.fibers):
            return True
        if any(n for (_, state), n in self.store.counts().items() if state in UNFINISHED):
            return True
        return any(self.oracle.silent(session.id) > LEASE / 3 for session in self.store.sessions())


def play(seed: int, protocol: Protocol, toys: Toys, trace: Callable[[str], None] | None = None) -> Verdict:
    """Plays one history. The same seed is the same history, on every machine."""
    quiet = logging.getLogger("piecework")
    level, collecting = quiet.level, gc.isenabled()
    quiet.setLevel(logging.CRITICAL + 1)
    gc.disable()  # a collection would come at another moment each time, and throw into fibers that are left
    try:
        with counted():
            return History(seed, protocol, toys, trace).play()
    finally:
        quiet.setLevel(level)
        if collecting:
            gc.enable()
