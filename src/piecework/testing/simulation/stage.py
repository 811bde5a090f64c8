"""One thread that plays many processes with many threads each: virtual time, seeded chance, and death at any moment.

A process's thread is a fiber (a greenlet). It runs until it waits for something: a time, an event, an answer of the
store. Then the stage goes on with whoever is next in virtual time. Nothing here knows of jobs.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import traceback
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from greenlet import getcurrent, greenlet

Chance = random.Random  # seeded; the only one of a history

TICK = 0.0001  # the shortest sleep, so that a loop that waits for nothing does not stop the time
STEPS = 200_000  # after so many, a history does not come to rest


class Gone(BaseException):
    """The process has died; thrown into its fibers, so that they unwind. What they do meanwhile reaches nobody."""


class StageClock:
    """Virtual time. The wall time can be made to jump; the other one never goes back."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.wall = 1_700_000_000.0

    def now(self) -> float:
        return self.wall + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed


class Process:
    """Fibers that die together, and with them the processes that they started."""

    def __init__(self, name: str, parent: Process | None = None) -> None:
        self.name = name
        self.fibers: list[Fiber] = []
        self.children: list[Process] = []
        self.dead = False
        self.stopped_until = 0.0
        self.at_end: Callable[[], None] | None = None
        if parent is not None:
            parent.children.append(self)


class Fiber:
    """One thread of a process."""

    def __init__(self, process: Process, name: str) -> None:
        self.process = process
        self.name = name
        self.ticket = 0  # of its place in the line; a place with another ticket is void
        self.done = False
        self.joining: list[Fiber] = []
        self.glet: greenlet


class Stage:
    """The scheduler. Everything that happens follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = Chance(seed)
        self.clock = StageClock()
        self.steps = 0
        self.broken: list[str] = []  # exceptions that ended a fiber
        self.processes: list[Process] = []
        self._current: Fiber | None = None
        self._line: list[tuple[float, int, Fiber]] = []
        self._tickets = itertools.count(1)
        self._dying: list[Process] = []
        self._hub = getcurrent()

    # ── for who plays ────────────────────────────────────────────────────────────────────────────

    @property
    def current(self) -> Fiber:
        """The fiber that runs now."""
        assert self._current is not None
        return self._current

    def process(self, name: str, parent: Process | None = None) -> Process:
        """A new process, still without a fiber."""
        made = Process(name, parent)
        self.processes.append(made)
        return made

    def spawn(self, process: Process, target: Callable[..., Any], *args: Any, name: str = "main") -> Fiber:
        """A new fiber of a process."""
        fiber = Fiber(process, name)
        fiber.glet = greenlet(lambda: self._live(fiber, target, args), self._hub)
        process.fibers.append(fiber)
        self.wake(fiber)
        return fiber

    def sleep(self, seconds: float) -> None:
        """Lets the others go on for so long; inf is until somebody wakes this fiber."""
        fiber = self.current
        if fiber.process.dead:
            raise Gone
        if seconds == math.inf:
            fiber.ticket = 0
        else:
            self._put(fiber, seconds if seconds > TICK else TICK)
        self._hub.switch()
        if fiber.process.dead:
            raise Gone

    def wake(self, fiber: Fiber) -> None:
        """Ends a fiber's sleep."""
        self._put(fiber, TICK * self.random.random())

    def stop(self, process: Process, seconds: float) -> None:
        """A process stands still, as under SIGSTOP; its own code notices nothing."""
        process.stopped_until = self.clock.elapsed + seconds

    def kill(self, process: Process) -> None:
        """A process and those below it end. Whoever kills the process he is in must raise `Gone` himself."""
        if process.dead:
            return
        process.dead = True
        self._dying.append(process)
        for child in process.children:
            self.kill(child)

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────

    def run(self, seconds: float) -> None:
        """Lets virtual time go on."""
        until = self.clock.elapsed + seconds
        line, clock = self._line, self.clock
        while line and line[0][0] <= until:
            at, ticket, fiber = heapq.heappop(line)
            if fiber.ticket != ticket or fiber.done:
                continue
            if fiber.process.stopped_until > at:
                self._put(fiber, fiber.process.stopped_until - clock.elapsed + TICK * self.random.random())
                continue
            clock.elapsed = max(clock.elapsed, at)
            self.steps += 1
            if self.steps > STEPS:
                raise RuntimeError(f"a history of more than {STEPS:,} steps: somebody does not come to rest")
            self._current = fiber
            fiber.glet.switch()
            if self._dying:
                self._bury()
        clock.elapsed = until

    def close(self) -> None:
        """Ends whatever is left."""
        for process in self.processes:
            self.kill(process)
        self._bury()

    def _put(self, fiber: Fiber, seconds: float) -> None:
        fiber.ticket = next(self._tickets)
        heapq.heappush(self._line, (self.clock.elapsed + seconds, fiber.ticket, fiber))

    def _bury(self) -> None:
        while self._dying:
            process = self._dying.pop(0)
            for fiber in process.fibers:
                while fiber.glet and not fiber.done:
                    self._current = fiber
                    fiber.glet.throw(Gone)
                fiber.done = True
            if process.at_end is not None:
                process.at_end()

    def _live(self, fiber: Fiber, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            target(*args)
        except Gone:
            pass
        except BaseException:
            if not fiber.process.dead:
                self.broken.append(f"{fiber.process.name}, {fiber.name}: {traceback.format_exc()}")
        finally:
            fiber.done = True
            for other in fiber.joining:
                self.wake(other)


# ── what stands where the standard library stood ─────────────────────────────────────────────────


class StageEvent:
    """`threading.Event`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._set = False
        self._waiting: list[Fiber] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for fiber in self._waiting:
            self._stage.wake(fiber)
        self._waiting.clear()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            fiber = self._stage.current
            self._waiting.append(fiber)
            self._stage.sleep(math.inf if timeout is None else timeout)
            if fiber in self._waiting:
                self._waiting.remove(fiber)
        return self._set


class StageQueue:
    """`queue.SimpleQueue`."""

    def __init__(self, stage: Stage) -> None:
        self._items: deque[Any] = deque()
        self._stage = stage
        self._hungry: deque[Fiber] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._hungry:
            self._stage.wake(self._hungry.popleft())

    def get(self) -> Any:
        while not self._items:
            self._hungry.append(self._stage.current)
            self._stage.sleep(math.inf)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        from queue import Empty

        if not self._items:
            raise Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class StageThread:
    """`threading.Thread`: a fiber of the process that starts it."""

    def __init__(
        self,
        stage: Stage,
        *,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        name: str = "thread",
        daemon: bool | None = None,
    ) -> None:
        self._stage = stage
        self._what = target, args
        self.name = name
        self._fiber: Fiber | None = None

    def start(self) -> None:
        target, args = self._what
        self._fiber = self._stage.spawn(self._stage.current.process, target, *args, name=self.name)

    def join(self, timeout: float | None = None) -> None:
        if self._fiber is not None and not self._fiber.done:
            self._fiber.joining.append(self._stage.current)
            self._stage.sleep(math.inf if timeout is None else timeout)

    def is_alive(self) -> bool:
        return self._fiber is not None and not self._fiber.done


def threading_on(stage: Stage) -> SimpleNamespace:
    """What the engine uses of the module `threading`."""
    import threading

    return SimpleNamespace(
        Thread=lambda **what: StageThread(stage, **what),
        Event=lambda: StageEvent(stage),
        Lock=threading.Lock,  # nobody waits while he holds one
        get_ident=threading.get_ident,
    )
