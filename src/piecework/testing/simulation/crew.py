"""The engine on the stage: the real supervisor, keeper, worker, pool and runner, with simulated processes below them.

What the engine uses of the system is replaced while a history runs: threads, events and queues by the stage's own;
sockets, signals and the processes that a supervisor starts by stand-ins. What is written here stands for
`piecework.cli.child` (a worker process's own first and last steps) and for the memory that the slate shares.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec

from piecework.engine import child, lookout, pool, session, supervisor
from piecework.engine.child import BYE, EXIT_FENCED, Hello
from piecework.engine.keeper import Keeper
from piecework.engine.slate import Pulse
from piecework.engine.worker import Stopping, Worker
from piecework.errors import LeaseLost
from piecework.registry import Registry
from piecework.store.protocol import Store
from piecework.testing.simulation.stage import Gone, Process, Stage, StageEvent, StageQueue, threading_on

STARTUP = 0.05  # seconds until a worker process has imported its app
LISTEN_SECONDS = 1.0  # the listener's stretches are longer here: each costs a step


class Slate:
    """The ids that a process is running, still readable when it is gone."""

    handle = 0

    def __init__(self, process: Process, monotonic: Callable[[], float]) -> None:
        self._slots: dict[int, str] = {}
        self._process = process
        self.pulse = Pulse(monotonic=monotonic)

    def write(self, slot: int, id: str, until: float = 0.0) -> None:
        if not self._process.dead:
            self._slots.pop(slot, None)
            self._slots[slot] = id  # at the end: read in the order of writing

    def clear(self, slot: int) -> None:
        if not self._process.dead:  # a dead process unwinds, which a killed one does not
            self._slots.pop(slot, None)

    def read(self) -> list[str]:
        return list(self._slots.values())

    def close(self) -> None:
        """Nothing is shared."""


class Bell:
    """A socket, or the supervisor's bell, as far as a selector sees it: it becomes readable."""

    def __init__(self) -> None:
        self.readable = False
        self.at: StageEvent | None = None

    def ring(self) -> None:
        self.readable = True
        if self.at is not None:
            self.at.set()

    def silence(self) -> None:
        self.readable = False

    def recv(self, size: int) -> bytes:
        self.readable = False
        return b"\0"

    def setblocking(self, on: bool) -> None:
        """It never blocks."""

    def close(self) -> None:
        """Nothing is open."""


class Selector:
    """`selectors.DefaultSelector`, of bells."""

    def __init__(self, stage: Stage) -> None:
        self._rung = StageEvent(stage)
        self._keys: dict[Bell, Any] = {}

    def register(self, bell: Bell, events: int, data: Any = None) -> None:
        self._keys[bell] = SimpleNamespace(fileobj=bell, data=data)
        bell.at = self._rung
        if bell.readable:
            self._rung.set()

    def unregister(self, bell: Bell) -> None:
        del self._keys[bell]

    def select(self, timeout: float) -> list[tuple[Any, int]]:
        self._rung.wait(timeout)
        self._rung.clear()
        return [(key, 1) for bell, key in self._keys.items() if bell.readable]

    def close(self) -> None:
        self._keys.clear()


class Crew:
    """Makes the processes of a history: supervisors, and the workers that those start."""

    def __init__(
        self, stage: Stage, connect: Callable[[Process], Store], registry: Registry, lease: float, keeper: type[Keeper]
    ) -> None:
        self.stage = stage
        self.connect = connect
        self.registry = registry
        self.lease = lease
        self.keeper = keeper
        self.supervisors: list[tuple[Process, supervisor.Supervisor]] = []

    def hire(self, *, processes: int, concurrency: int) -> None:
        """Starts a supervisor, as `piecework work` does."""
        process = self.stage.process(f"s{len(self.supervisors) + 1}")
        made = supervisor.Supervisor(
            [str(concurrency)],
            lambda url: self.connect(process),
            self.stage.clock,
            processes=processes,
            concurrency=concurrency,
            name=process.name,
            shutdown_timeout=self.lease,
            draw=self.stage.random.random,
        )
        self.supervisors.append((process, made))
        self.stage.spawn(process, self._supervise, process, made)

    def _supervise(self, process: Process, made: supervisor.Supervisor) -> None:
        made.run()  # ends by itself, too, where the first worker process dies before it has said hello
        self.stage.kill(process)

    def living(self) -> list[tuple[Process, supervisor.Supervisor]]:
        return [(process, made) for process, made in self.supervisors if not process.dead]

    def dismiss(self) -> None:
        """SIGTERM to every supervisor."""
        for process, made in self.living():
            self.stage.spawn(process, made.stop, name="signal")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The engine's modules find the stage where they look for the system."""
        stage = self.stage
        threading = threading_on(stage)
        with (
            mock.patch.multiple(pool, threading=threading, SimpleQueue=partial(StageQueue, stage)),
            mock.patch.multiple(lookout, threading=threading, LISTEN_SECONDS=LISTEN_SECONDS),
            mock.patch.multiple(
                supervisor,
                Bell=lambda signalled: Bell(),
                Child=partial(Child, self),
                Warden=Warden,
                selectors=SimpleNamespace(DefaultSelector=partial(Selector, stage), EVENT_READ=1),
                time=SimpleNamespace(sleep=stage.sleep),
            ),
            mock.patch.object(session, "Keeper", partial(self.keeper, draw=stage.random.random)),
        ):
            yield


class Warden:
    """Nobody: nothing on the stage has a timeout."""

    def __init__(self, *_: Any) -> None:
        """It looks at no child."""

    def start(self) -> None:
        """It has no thread."""

    def stop(self) -> None:
        """It ends nobody."""


class Child:
    """One worker process, and what its supervisor holds of it."""

    def __init__(self, crew: Crew, command: Sequence[str], slots: int) -> None:
        self._crew = crew
        self._stage = crew.stage
        parent = self._stage.current.process
        me = self._stage.process(f"{parent.name}.{len(parent.children) + 1}", parent)
        me.at_end = self._over
        self._process = me
        self._concurrency = int(command[0])
        self._code = -signal.SIGKILL
        self._said: list[bytes] = []  # by the process
        self._told = StageQueue(self._stage)  # to the process
        self.slate = Slate(me, self._stage.clock.monotonic)
        self.socket = Bell()
        # Its end is told by the socket, always: nothing holds that open on the stage.
        self.process = SimpleNamespace(pid=len(self._stage.processes), poll=lambda: None)
        self.works_since: float | None = None
        self.worker = ""
        self.killed = False
        self.retiring = False
        self.replaced = False
        self.blamed: list[str] | None = None
        self.urge_at: float | None = None
        self.urged = False
        self.said_bye = False
        self._stage.spawn(me, self._main)

    # ── the supervisor's end ─────────────────────────────────────────────────────────────────────

    def say(self, **message: Any) -> None:
        self._told.put(json.dumps(message))

    def hear(self) -> list[bytes] | None:
        if not self._said:
            if self._process.dead:
                return None
            self.socket.readable = False
        lines, self._said = self._said, []
        self.socket.readable = self._process.dead
        return lines

    urge = child.Child.urge  # the real ones: they only say and kill
    replace = child.Child.replace

    def kill(self) -> None:
        self.killed = True
        self._stage.kill(self._process)

    def bury(self) -> int:
        return self._code

    def _over(self) -> None:
        self.socket.ring()

    # ── the process ──────────────────────────────────────────────────────────────────────────────

    def _tell(self, line: bytes) -> None:
        self._said.append(line)
        self.socket.ring()

    def _main(self) -> None:
        crew, stage = self._crew, self._stage
        stage.sleep(STARTUP * stage.random.random())
        self._tell(msgspec.json.encode(Hello("simulated:", crew.lease, None, len(crew.registry))))
        welcome = json.loads(self._told.get())
        worker = Worker(
            crew.registry,
            crew.connect(self._process),
            stage.clock,
            name=welcome["worker"],
            concurrency=self._concurrency,
            draw=stage.random.random,
            slate=self.slate,  # type: ignore[arg-type]
            lease=crew.lease,
        )
        worker.beaten(welcome["beaten"])
        worker.run_alone(welcome["alone"])
        stage.spawn(self._process, self._obey, worker, name="control")
        try:
            worker.run()
            self._code = 0
        except LeaseLost:
            self._code = EXIT_FENCED
        self._tell(BYE)
        stage.kill(self._process)
        raise Gone

    def _obey(self, worker: Worker) -> None:
        while True:
            said = json.loads(self._told.get())
            if "beaten" in said:
                worker.beaten(said["beaten"])
            else:
                worker.stop(Stopping.DRAIN if said["stop"] == "drain" else Stopping.NOW)
