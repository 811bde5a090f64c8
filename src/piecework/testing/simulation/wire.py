"""Between a simulated process and the store: every call may meet a fault on its way there or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from piecework.errors import LeaseLost, PieceworkError, StoreUnavailable
from piecework.store.protocol import Store
from piecework.testing.simulation.stage import Chance, Gone, Process, Stage, StageEvent

LATENCY = 0.004  # seconds, at most, for a request and for its answer
SLOW_REPLIES = 0.25  # the share of answers on whose way others come between
FREQUENT = {"exchange", "next_due", "renew", "sessions", "report"}
SELDOM = 4  # how much more often the other verbs meet a fault, which are called so much less
LOSSY_HINTS = 0.8  # the share of changes that wake who waits for one


class Fault(StrEnum):
    """What can happen to one call of the store."""

    DIES_BEFORE = "killed before the request left"
    REQUEST_LOST = "request lost"
    STALLED_BEFORE = "stood still before the request left"
    TWICE = "request applied twice"
    DIES_AFTER = "killed after the request was applied"
    REPLY_LOST = "reply lost"
    STALLED_AFTER = "stood still before the reply was read"
    DIES_SENDING = "killed, and the request arrives later"
    LATE = "given up, and the request arrives later"
    AGAIN_LATER = "request applied, and once more later"


FAULTS = (
    *(Fault.REQUEST_LOST, Fault.REPLY_LOST) * 3,
    *(Fault.TWICE, Fault.STALLED_BEFORE, Fault.STALLED_AFTER, Fault.LATE, Fault.AGAIN_LATER, Fault.DIES_SENDING) * 2,
    *(Fault.DIES_BEFORE, Fault.DIES_AFTER),
)


@dataclass
class Weather:
    """How often calls meet faults, and for how long processes stand still."""

    chance: Chance
    rate: float
    lease: float
    away_until: float = 0.0  # the store cannot be reached until then
    under_way: int = 0  # requests that are still on their way, and that nobody waits for
    met: Counter[str] = field(default_factory=Counter)

    def fault(self, verb: str) -> Fault | None:
        rate = self.rate if verb in FREQUENT else self.rate * SELDOM
        if rate == 0.0 or self.chance.random() >= rate:
            return None
        fault = self.chance.choice(FAULTS)
        self.met[fault] += 1
        return fault

    def pause(self) -> float:
        """Around a lease: some come back in time, some too late."""
        return self.lease * self.chance.choice((0.3, 1.0, 1.3, 2.5))

    def delay(self) -> float:
        """How late a request is: others come between, a dead worker is reaped, or its whole session buried."""
        return self.lease * self.chance.choice((0.01, 0.05, 0.3, 1.5)) * (0.5 + self.chance.random())


Watcher = Callable[[str, tuple[Any, ...], dict[str, Any], Any, str], None]


class Wire:
    """A store as one process sees it."""

    url = "simulated:"

    def __init__(
        self,
        stage: Stage,
        store: Store,
        weather: Weather,
        process: Process,
        watcher: Watcher,
        hint: StageEvent,
        trace: Callable[[str], None] | None,
    ) -> None:
        self._stage = stage
        self._store = store
        self._weather = weather
        self._process = process
        self._watcher = watcher
        self._hint = hint
        self._trace = trace

    def wait(self, timeout: float) -> bool:
        hinted = self._hint.wait(timeout)
        self._hint.clear()
        return hinted

    def close(self) -> None:
        """The store is everybody's."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(verb, args, kwargs)

        if verb.startswith("_"):
            raise AttributeError(verb)
        setattr(self, verb, call)
        return call

    def _call(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stage, weather = self._stage, self._weather
        stage.sleep(LATENCY * stage.random.random())
        if stage.clock.elapsed < weather.away_until:
            self._say(verb, args, kwargs, "the store is away")
            raise StoreUnavailable("the store is away")
        fault = weather.fault(verb)
        if fault is Fault.DIES_BEFORE:
            self._die(verb, args, kwargs, fault)
        if fault is Fault.REQUEST_LOST:
            self._say(verb, args, kwargs, fault)
            raise StoreUnavailable(fault)
        if fault is Fault.STALLED_BEFORE:
            self._stall(verb, args, kwargs, fault)
        if fault in (Fault.DIES_SENDING, Fault.LATE):
            self._send_late(verb, args, kwargs, fault)
        if fault is Fault.DIES_SENDING:
            self._die(verb, args, kwargs, fault)
        if fault is Fault.LATE:
            self._say(verb, args, kwargs, fault)
            raise StoreUnavailable(fault)
        answer = self._apply(verb, args, kwargs, fault)
        if fault is Fault.TWICE:
            stage.sleep(LATENCY * stage.random.random())
            answer = self._apply(verb, args, kwargs, fault)
        if fault is Fault.AGAIN_LATER:
            self._send_late(verb, args, kwargs, fault)
        if fault is Fault.DIES_AFTER:
            self._die(verb, args, kwargs, fault)
        if fault is Fault.STALLED_AFTER:
            self._stall(verb, args, kwargs, fault)
        if fault or stage.random.random() < SLOW_REPLIES:
            stage.sleep(LATENCY * stage.random.random())
        if fault is Fault.REPLY_LOST:
            raise StoreUnavailable(fault)
        if isinstance(answer, PieceworkError):
            raise answer
        return answer

    def _apply(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], fault: Fault | None) -> Any:
        """The store's answer; an error that it raised is one, too."""
        try:
            answer = getattr(self._store, verb)(*args, **kwargs)
        except PieceworkError as error:
            answer = error
        if changes(verb, args, answer) and self._stage.random.random() < LOSSY_HINTS:
            self._hint.set()
        if self._trace is not None:
            self._say(verb, args, kwargs, f"{told(answer)}{f'   !! {fault}' if fault else ''}")
        self._watcher(verb, args, kwargs, answer, self._process.name)
        return answer

    def _send_late(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], fault: Fault) -> None:
        """The request is on its way by itself: whoever sent it may be dead when it arrives, and nobody hears the answer."""
        self._weather.under_way += 1
        carrier = self._stage.process(f"~{self._process.name}")
        self._stage.spawn(carrier, self._arrive, verb, args, kwargs, fault, self._weather.delay())

    def _arrive(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], fault: Fault, late: float) -> None:
        self._stage.sleep(late)
        if self._stage.clock.elapsed >= self._weather.away_until:  # else it is lost, after all
            self._apply(verb, args, kwargs, fault)
        self._weather.under_way -= 1

    def _stall(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], fault: Fault) -> None:
        seconds = self._weather.pause()
        self._say(verb, args, kwargs, f"{fault}, for {seconds:g} s")
        self._stage.stop(self._process, seconds)
        self._stage.sleep(0.0)

    def _die(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], fault: Fault) -> None:
        self._say(verb, args, kwargs, fault)
        self._stage.kill(self._process)
        raise Gone

    def _say(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> None:
        if self._trace is not None:
            given = ", ".join([*map(told, args), *(f"{name}={told(value)}" for name, value in kwargs.items() if value)])
            self._trace(f"{self._process.name:8} {verb}({given}) → {what}")


READS = {
    *(
        "sessions",
        "get",
        "find",
        "count",
        "counts",
        "batch",
        "pieces",
        "attempts",
        "paused",
        "next_due",
        "report",
        "holds",
    ),
    *("operations", "plan", "signals", "amendments"),
}


def changes(verb: str, args: tuple[Any, ...], answer: Any) -> bool:
    """Whether a call changed something that somebody may wait for. A look that found nothing wakes nobody."""
    if isinstance(answer, Exception) or verb in READS:
        return False
    return verb != "exchange" or bool(args[0] or answer[1])


def told(value: Any) -> str:
    """A value of a call, short enough for a line of a trace."""
    kind = type(value).__name__
    if isinstance(value, PieceworkError):
        return f"{'gone: ' if isinstance(value, LeaseLost) else ''}{kind}: {value}"
    if kind == "Settlement":
        there = f" at {value.cursor}" if value.cursor is not None else ""
        return f"{value.id}#{value.run} {value.state}{there}" + (
            f" seal {value.seal}" if value.seal is not None else ""
        )
    if kind == "Fetched":
        return f"{value.id}#{value.run} {value.task}{value.args}"
    if kind == "NewJob":
        return f"{value.id} {value.task}{value.args}"
    if kind == "NewBatch":
        return f"batch {value.id}"
    if kind == "Fence":
        return f"{value.id}#{value.run}"
    if kind == "Claim":
        return f"claim {value.number} of {value.worker}, {value.limit}"
    if kind == "SessionRecord":
        return f"{value.id} at beat {value.beat}"
    if isinstance(value, Iterable) and not isinstance(value, str | dict):
        return f"[{', '.join(told(item) for item in value)}]"
    return str(value)
