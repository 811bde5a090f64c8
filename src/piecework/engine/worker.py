"""The loop of one worker: what ended is settled, what is free is filled, in one trip to the store.

Jobs that prove short are fetched ahead, so that a trip is shared by hundreds of them; jobs that turn out long hand back
what was fetched behind them.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.engine.crowding import Crowding
from piecework.engine.foresight import Foresight
from piecework.engine.keeping import Keeping, put_down
from piecework.engine.lease import Lease
from piecework.engine.lookout import Lookout
from piecework.engine.mending import go_home, keep_standard_streams
from piecework.engine.pool import FLUSH, Ended, Inbox
from piecework.engine.pools import Pools
from piecework.engine.process import PoolSettings
from piecework.engine.reporting import Reporting
from piecework.engine.reviver import Reviver
from piecework.engine.runner import Runner
from piecework.engine.slate import Pulse, Slate
from piecework.engine.strays import Strays
from piecework.engine.suspects import Suspects
from piecework.engine.trips import Trip, Trips
from piecework.engine.trouble import Trouble, longest_pause
from piecework.errors import LeaseLost, StoreError
from piecework.job import SUSPECT, Answer, Fetched, State
from piecework.options import TaskOptions
from piecework.outcome import Outcome, Release, Settlement
from piecework.registry import Registry
from piecework.settle import settle
from piecework.store.protocol import Store

log = logging.getLogger("piecework.worker")

WORTH_A_TRIP = 250  # ended jobs that are settled while the others in hand run on, if that is half of all
LINGER_SECONDS = 0.01  # how long an ended job waits for company while others are still in line
STUCK_SECONDS = 0.25  # after so long without an end, jobs in line are handed back
KEEP_SECONDS = 0.5  # how often progress is written, stop requests are read, and the stuck are given up

NO_PLACE = Release("every place of this worker has its job", quiet=True)
_NO_OPTIONS = TaskOptions()


class Stopping(Enum):
    """How far a worker is with stopping."""

    NO = 0
    DRAIN = 1  # takes nothing new, finishes what runs
    NOW = 2  # leaves what runs to whoever reaps it


class Worker:
    """Takes due jobs and sees them through, until it is told to stop."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        clock: Clock,
        *,
        name: str,
        concurrency: int = 10,
        queues: Sequence[str] | None = None,
        burst: bool = False,
        max_payload: int | None = None,
        draw: Callable[[], float] = random.random,
        slate: Slate | None = None,
        lease: float = math.inf,
        processes: PoolSettings | None = None,
        on_worn: Callable[[], None] | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._concurrency = concurrency
        self._burst = burst
        self._draw = draw
        self._on_worn = on_worn
        self._home = os.getcwd()
        self.pulse = Pulse() if slate is None else slate.pulse
        self._trouble = trouble or Trouble(clock, draw, log=log, longest=longest_pause(lease))
        self._aside = self._trouble.aside()  # of calls beside the trips, of which some may fail where trips do not

        self._runner = Runner(registry, store, clock, **({} if max_payload is None else {"max_payload": max_payload}))
        self._inbox = Inbox()
        self._pools = Pools(self._runner, self._inbox, clock, concurrency=concurrency, slate=slate, processes=processes)
        self._trips = Trips(name, store, tuple(queues) if queues is not None else None, self._trouble)
        self._lookout = Lookout(store, clock, self._inbox.nudge, trouble=self._trouble, aside=self._aside, draw=draw)
        self._reporting = Reporting(name, store, self.pulse, trouble=self._trouble, aside=self._aside)
        self._lease = Lease(self._runner, clock, lease)
        self._foresight = Foresight(clock, concurrency)
        self._crowding = Crowding(self._pools, clock)
        self._suspects = Suspects(clock)
        self._keeping = Keeping(self._runner, clock)
        self._reviver = Reviver(self._runner, store, clock)
        self._strays = Strays(name, store, clock, lease)

        self._in_hand: dict[str, Running] = {}
        self._held: set[str] = set()  # jobs that are known to have held a process
        self._worn = False  # too much is stuck in this process: another is to take its place
        self._stopping = Stopping.NO
        self._is_buried = False
        self._ended_at = self._kept_at = clock.monotonic()
        self.settled = 0

    # ── from outside ─────────────────────────────────────────────────────────────────────────────

    def stop(self, how: Stopping = Stopping.DRAIN) -> None:
        """Asks the worker to stop; may be called from any thread, and again with more urgency."""
        if how.value > self._stopping.value:
            self._stopping = how
        self._inbox.nudge()

    def beaten(self, at: float) -> None:
        """Tells the worker that its session beat at this moment of the monotonic clock; may be called from any thread."""
        self._lease.beaten(at)

    def buried(self) -> None:
        """Tells the worker that its session was declared dead; may be called from any thread. `run` raises `LeaseLost`.

        A worker that asks for work is told by the store. One whose session had no beat for a lease does not ask.
        """
        self._is_buried = True
        self._inbox.nudge()

    def run_alone(self, ids: Iterable[str]) -> None:
        """Tells the worker which jobs held a process past their timeout; may be called from any thread."""
        self._held.update(ids)

    def run(self) -> None:
        """Works until stopped (or, with `burst`, until nothing is due).

        Raises `LeaseLost` when its session was buried.
        """
        self._lookout.open()
        try:
            while not self._is_done():
                self._turn()
        finally:
            self._lookout.close()
            self._pools.close()
            self._lookout.join()

    def running(self) -> list[str]:
        """The ids of the jobs in hand."""
        return list(self._in_hand)

    def unsettled(self) -> list[str]:
        """The ids of the jobs that have ended, and whose end the store has not taken yet."""
        ended = [running.job.id for running, _ in list(self._inbox.items)]
        return self._trips.untaken() + ended

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────

    def _is_done(self) -> bool:
        if self._stopping is Stopping.NOW:
            return True
        nothing_left = not self._in_hand and not self._trips.unsent and not self._inbox.items
        if self._stopping is Stopping.DRAIN:
            return nothing_left or (self._worn and self._only_the_blocked_are_left())
        return self._burst and nothing_left and self._lookout.empty

    def _turn(self) -> None:
        """One round: wait, settle and fetch in one trip, start what came."""
        self.pulse.turn()
        ended = self._collect()
        if self._is_buried:
            raise LeaseLost(f"the session of worker {self.name} was declared dead by others")
        self._report_last(ended)
        self._trips.add(self._settlement(running, outcome) for running, outcome in ended)
        if self._stopping is Stopping.DRAIN:
            self._trips.add(self._hand_back("the worker is stopping"))
        elif self._is_jammed():
            self._foresight.forget()
            self._trips.add(self._hand_back("the jobs before it took long"))
        self._keep()
        self._look_around()
        suspect = self._suspects.next(self._in_hand)
        if suspect is not None:
            self._pools.submit([suspect])
        limit = self._room()
        if (self._trips.unsent or (limit > 0 and self._lookout.is_time())) and not self._trouble.left():
            self._trip(limit)

    def _collect(self) -> list[Ended]:
        """Waits for something to do; while jobs are in line, a little longer, so that one trip settles many."""
        if not self._inbox.items:
            self._inbox.wait(self._patience())
        if self._stopping is Stopping.NO:
            half = max(WORTH_A_TRIP, len(self._in_hand) // 2)  # so that operations that are kept run during a trip, too
            self._pools.linger(LINGER_SECONDS, min(FLUSH, half))
        ended = self._inbox.take()
        if ended:
            self._ended_at = self._clock.monotonic()
        return ended

    def _patience(self) -> float:
        """How long to wait for an end, a hint or a stop."""
        if away := self._trouble.left():
            return min(away, 0.1) if self._in_hand else away
        if self._trips.unsent or (self._suspects and len(self._in_hand) == len(self._suspects)):
            return 0.0
        if self._stopping is not Stopping.NO:
            return 0.05
        if self._room() <= 0:
            return 0.1
        until = self._lookout.left()
        return min(until, 0.1) if self._in_hand else until

    def _room(self) -> int:
        """For how many jobs there is room; what is settled on a trip makes room on that trip."""
        if self._stopping is not Stopping.NO or self._suspects.want_the_place():
            return 0
        if self._crowding.forbids() or self._lease.is_doubtful():
            return 0
        settled = len(self._trips.unsent) - self._trips.to_keep
        return self._concurrency + self._foresight.ahead - len(self._in_hand) + settled

    def _trip(self, limit: int) -> None:
        self._lookout.begin()
        trip = self._trips.go(limit, behind=self._crowding.depth)
        if trip is None:
            self._lookout.hint()
            return
        self.pulse.poll()
        self._lease.reached()
        self._report_refused(trip)
        kept = self._forget(trip)
        self.settled += len(trip.settlements)
        self._foresight.learn(sum(not _is_given_back(s) for s in trip.settlements))
        self._plan_look(trip)
        if trip.jobs or kept:
            self._start(trip.jobs, trip.places, kept)

    def _plan_look(self, trip: Trip) -> None:
        if trip.places <= 0:
            self._lookout.settled_only()
        elif trip.jobs:
            self._lookout.found_some()
        else:
            if not self._in_hand:
                go_home(self._home)
                keep_standard_streams()
            self._lookout.found_none()

    def _start(self, jobs: Sequence[Fetched], places: int, begin: list[Running]) -> None:
        """Begins what came, as far as there are places, after what goes on; after a deep look there may be fewer."""
        now = self._ended_at = self._clock.monotonic()  # what has only come in line is not stuck
        for job in jobs:
            prepared = self._runner.prepare(job)
            if not isinstance(prepared, Running):
                self._inbox.put((Running(job, None, None), prepared))
                continue
            self._in_hand[job.id] = prepared
            prepared.held_since = now
            if self._is_suspect(job):
                self._suspects.add(prepared)
                continue
            if not self._pools.is_for_processes(prepared):
                places -= 1
                if places < 0:
                    self._inbox.put((prepared, NO_PLACE))
                    continue
            begin.append(prepared)
        self._pools.submit(begin)
        if self._crowding.judge(came=bool(jobs)):
            self._foresight.forget()

    def _is_suspect(self, job: Fetched) -> bool:
        """Whether a job is run alone: one of those that ran when two workers died, or that held one by itself."""
        return job.crashes >= SUSPECT or (job.crashes > 0 and job.id in self._held)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    def _settlement(self, running: Running, outcome: Outcome) -> Settlement:
        if running.spot is None:
            return settle(running.job, outcome, running.options or _NO_OPTIONS, self._draw())
        keep = self._stopping is Stopping.NO and not self._suspects.want_the_place()
        settlement = self._keeping.settlement(running, running.spot, outcome, self._draw(), keep=keep)
        self._trips.to_keep += settlement.state is State.RUNNING
        return settlement

    def _hand_back(self, reason: str) -> list[Settlement]:
        back = self._pools.take_back(processes=self._stopping is not Stopping.NO)
        if self._stopping is not Stopping.NO:
            back += self._suspects.take_back()
        return [self._settlement(running, Release(reason)) for running in back]

    def _is_jammed(self) -> bool:
        """Whether jobs wait in line behind others that do not end."""
        if not self._pools.backlog():
            return False
        return self._clock.monotonic() - self._ended_at > STUCK_SECONDS

    def _forget(self, trip: Trip) -> list[Running]:
        """Lets go of what has ended, and answers which operations go on here."""
        ended = [put_down(self._in_hand, s) for s in trip.settlements]
        if not trip.to_keep:
            return []
        kept = []
        for running, s, answer in zip(ended, trip.settlements, trip.answers, strict=True):
            if s.state is not State.RUNNING or running is None:
                continue
            if answer is Answer.OK or answer is Answer.ALREADY:
                kept += self._go_on(running, s)
        return kept

    def _go_on(self, running: Running, settlement: Settlement) -> list[Running]:
        """The next run of an operation; none where it comes to something without being begun."""
        following = self._keeping.next(running, settlement)
        if isinstance(following, tuple):
            self._inbox.put(following)
            return []
        self._in_hand[settlement.id] = following
        return [following]

    def _report_refused(self, trip: Trip) -> None:
        for s, answer in zip(trip.settlements, trip.answers, strict=True):
            if answer is Answer.STALE:
                log.warning(
                    "job %s run %d: the store refused its outcome, because the job belongs to another run or has ended",
                    s.id,
                    s.run,
                )

    # ── keeping ──────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Writes progress and learns which jobs should stop, about twice a second while something runs."""
        now = self._clock.monotonic()
        if now - self._kept_at >= KEEP_SECONDS and self._in_hand:
            self._kept_at = now
            keep_standard_streams()
            self._give_up_the_stuck()
            self._report(list(self._in_hand.values()))

    def _look_around(self) -> None:
        """Brings back parked jobs that this worker's code can run, and gives back those that it never got."""
        if self._stopping is Stopping.NO and not self._trouble.tries and not self._aside.left():
            try:
                back = self._reviver.turn() + self._strays.turn(lambda: {*self.running(), *self.unsettled()})
                if back > 0:
                    self._lookout.hint()
            except StoreError as error:
                self._aside.meet(error)

    def _give_up_the_stuck(self) -> None:
        """Settles what does not end at its timeout; where too much of it has gathered, this process is worn out."""
        late = self._pools.abandon_late()
        self._trips.add(self._settlement(running, outcome) for running, outcome in late)
        stuck, limit = self._pools.stuck(), max(1, self._concurrency // 2)
        if self._worn or not stuck or (stuck < limit and not self._pools.is_blocked()):
            return
        self._worn = True
        if self._on_worn is None:
            log.error("stuck jobs: %d; only the end of this process can end them, and it is not this worker's", stuck)
            return
        log.error("stuck jobs: %d; this worker process takes no more, and another takes its place", stuck)
        self._on_worn()
        self.stop(Stopping.DRAIN)

    def _only_the_blocked_are_left(self) -> bool:
        """Whether what is still in hand waits on an event loop that will never turn again."""
        on_loop = [running.is_async for running in self._in_hand.values()]
        return all(on_loop) and not self._trips.unsent and self._pools.is_blocked()

    def _report_last(self, ended: Sequence[Ended]) -> None:
        """Writes what ended jobs said last, while they are still this worker's."""
        said = [running for running, _ in ended if running.progress is not None]
        if said:
            self._report(said)

    def _report(self, jobs: Sequence[Running]) -> None:
        for id in self._reporting.report(jobs):
            self._ask_to_stop(id)

    def _ask_to_stop(self, id: str) -> None:
        running = self._in_hand.get(id)
        if running is None or running.stopping:
            return
        running.stopping = True
        self._pools.stop(running)


def _is_given_back(settlement: Settlement) -> bool:
    """Whether a job goes back to the line unbegun, which says nothing of how long it takes."""
    back = settlement.state is State.AVAILABLE and settlement.advance is None
    return back and settlement.history in (None, "released")
