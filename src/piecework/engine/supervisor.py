"""The process that starts workers, beats for them, replaces the dead, and stops them in good order.

It imports no user code and decodes no payload, so that nothing a job does can silence the beat or take the supervisor
along. A worker process tells it over a socket which store the app uses; the end of that socket is the end of the
process.
"""

from __future__ import annotations

import logging
import random
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from piecework.clock import Clock
from piecework.engine.bell import Bell
from piecework.engine.child import BYE, EXIT_BROKEN_APP, EXIT_FENCED, KILL_AFTER, WORN, Child, Hello, WorkerPulse
from piecework.engine.exits import exit_in_words
from piecework.engine.respite import Respite
from piecework.engine.session import Session
from piecework.engine.slate import Pulse
from piecework.engine.warden import Warden
from piecework.errors import StoreError
from piecework.store.protocol import Store

log = logging.getLogger("piecework.supervisor")

REMEMBERED = 100  # jobs that held a process, of which the workers are told


class Supervisor:
    """Keeps `processes` workers running until it is told to stop."""

    def __init__(
        self,
        command: Sequence[str],
        open_store: Callable[[str], Store],
        clock: Clock,
        *,
        processes: int,
        concurrency: int,
        name: str,
        burst: bool = False,
        shutdown_timeout: float = 25.0,
        on_ready: Callable[[Hello, str], None] | None = None,
        reloads: bool = False,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._command = list(command)
        self._open_store = open_store
        self._clock = clock
        self._processes = processes
        self._slots = 2 * concurrency
        self._name = name
        self._burst = burst
        self._shutdown_timeout = shutdown_timeout
        self._on_ready = on_ready
        self._reloads = reloads  # somebody watches the code: what cannot be imported may be mended
        self._changed = False
        self._waiting = 0  # processes that could not import the app, and wait for a change
        self._bell: Bell | None = None
        self.pulse = Pulse()
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._session: Session | None = None
        self._count = 0
        self._stops = 0
        self._kill_at: float | None = None
        self._start_at: list[float] = []
        self._respite = Respite()
        self._held: deque[str] = deque(maxlen=REMEMBERED)  # jobs that held their process past their timeout
        self._greeting: list[Child] = []  # said hello, and have no place in a session yet
        self._told_at = 0.0  # the beat that the workers were told of last
        self._draw = draw
        self._broken = False

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """Works until stopped, or, with `burst`, until every worker found nothing to do. The exit code."""
        self._bell = bell = Bell(self.stop)
        self._selector.register(bell, selectors.EVENT_READ)
        warden = Warden(lambda: list(self._children), self._clock)
        warden.start()
        try:
            self._start_at = [self._clock.monotonic()] * self._processes
            while self._turn(bell):
                pass
        finally:
            warden.stop()
            for child in list(self._children):
                child.kill()
                self._ended(child)
            if self._session is not None:
                self._session.leave()
            self._bell = None
            bell.close()
            self._selector.close()
        return 1 if self._broken else 0

    def stop(self) -> None:
        """Once: finish what runs, for as long as the shutdown timeout. Twice: now."""
        self._stops += 1
        now = self._clock.monotonic()
        if self._stops == 1:
            log.info("stopping: finishing what runs, for up to %g s", self._shutdown_timeout)
            for child in self._children:
                if child.worker:
                    child.say(stop="drain")
                else:
                    child.kill()  # it still starts, and has nothing to lose
            self._kill_at = now + self._shutdown_timeout
        elif self._stops == 2:
            self._now()

    def reload(self) -> None:
        """Replaces every worker process by one with the code as it is now. May be called from any thread."""
        self._changed = True
        if (bell := self._bell) is not None:
            bell.ring()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stops > 0

    @property
    def session(self) -> str | None:
        """The session's id; None before the first worker process has said hello."""
        return self._session.id if self._session is not None else None

    def pulses(self) -> list[WorkerPulse]:
        """The life of each worker process that works. May be called from any thread."""
        found = []
        now = self._clock.monotonic()
        for child in list(self._children):
            pulse = child.slate.pulse
            try:
                if child.worker:
                    ages = now - (child.works_since or now), pulse.turned_ago(), pulse.polled_ago()
                    found.append(WorkerPulse(child.worker, child.process.pid, *ages))
            except ValueError:  # its process ended just now, and its slate is closed
                continue
        return found

    def _now(self) -> None:
        log.info("stopping now: what still runs goes back to its queue, with its attempt unspent")
        self._stops = max(self._stops, 2)
        for child in self._children:
            child.say(stop="now")
        self._kill_at = self._clock.monotonic() + KILL_AFTER

    def _turn(self, bell: Bell) -> bool:
        """One round; False when there is nothing left to supervise."""
        now = self._clock.monotonic()
        self.pulse.turn()
        if self._changed:
            self._replace_all(now)
        self._start_due(now)
        if not self._children and not self._start_at and not self._waiting:
            return False
        for key, _ in self._selector.select(self._patience(now)):
            if key.fileobj is bell:
                bell.silence()
            else:
                self._attend(key.data)
        self._notice_the_dead()
        self._press()
        if self._session is not None:
            self._session.turn()
            self._tell_beat(self._session.beaten_at)
        return True

    def _patience(self, now: float) -> float:
        waits = [1.0]
        if self._session is not None:
            waits.append(self._session.next_turn())
        if self._kill_at is not None:
            waits.append(self._kill_at - now)
        waits += [at - now for at in self._start_at]
        waits += [child.urge_at - now for child in self._children if child.urge_at is not None]
        return max(0.0, min(waits))

    def _press(self) -> None:
        """Grows more urgent once the time for stopping is over."""
        for child in self._children:
            child.urge(self._clock.monotonic())
        if self._kill_at is None or self._clock.monotonic() < self._kill_at:
            return
        if self._stops < 2:
            self._now()
        else:
            self._kill_at = None
            self._kill_all()

    # ── processes ────────────────────────────────────────────────────────────────────────────────

    def _start_due(self, now: float) -> None:
        due = [at for at in self._start_at if at <= now]
        self._start_at = [at for at in self._start_at if at > now]
        if self._stops:
            self._start_at, self._waiting = [], 0
            return
        for _ in due:
            try:
                child = Child(self._command, self._slots)
            except OSError as error:  # no handle, no memory, or no process is to be had
                log.error("no worker process could be started: %s; trying again", error)
                self._start_at.append(now + 1.0)
                continue
            self._children.append(child)
            self._selector.register(child.socket, selectors.EVENT_READ, child)

    def _replace_all(self, now: float) -> None:
        self._changed = False
        if self._stops:
            return
        log.info("files have changed: starting anew")
        for child in self._children:
            if not child.replaced:
                child.replace(now)
        self._start_at += [now] * self._waiting
        self._waiting = 0

    def _attend(self, child: Child) -> None:
        lines = child.hear()
        if lines is None:
            self._ended(child)
            return
        for line in lines:
            if line == BYE:
                child.said_bye = True
                continue
            if line == WORN:
                child.retiring = True
                self._start_at.append(self._clock.monotonic())
                continue
            try:
                hello = msgspec.json.decode(line, type=Hello)
            except msgspec.MsgspecError:  # a job wrote on a socket that it did not open
                log.error("worker process %d does not keep to the protocol; it is killed", child.process.pid)
                child.process.kill()
                continue
            session = self._session or self._open(hello)
            if session is None:
                return
            if hello.url != session.url:
                log.error("the app has moved to another store; start piecework work anew")
                self._broken = True
                self.stop()
                return
            self._greeting.append(child)
            if not session.is_buried:
                self._welcome()

    def _welcome(self) -> None:
        """Gives those that said hello a place in the session; while there is none that the store has taken, they wait."""
        assert self._session is not None
        greeting, self._greeting = self._greeting, []
        for child in greeting:
            if child not in self._children:
                continue
            self._count += 1
            child.worker = f"{self._session.id}.{self._count}"
            child.works_since = self._clock.monotonic()
            child.say(worker=child.worker, beaten=self._session.beaten_at, alone=list(self._held))
            if self._stops:
                child.say(stop="drain" if self._stops == 1 else "now")

    def _notice_the_dead(self) -> None:
        """Ends that no socket told of, because something that a job left behind still holds the other end open."""
        for child in list(self._children):
            if child.process.poll() is not None:
                child.socket.setblocking(False)
                while child in self._children:
                    self._attend(child)

    def _open(self, hello: Hello) -> Session | None:
        """Begins a session on the app's store, and waits for a store that is away; None when stopped meanwhile."""
        session = Session(
            self._open_store(hello.url),
            self._clock,
            hello,
            name=self._name,
            polled=self._polled_ago,
            lost=self._kill_all,
            begun=self._welcome,
            draw=self._draw,
        )
        while not self._stops:
            self.pulse.turn()
            try:
                has_begun = session.begin()
            except StoreError as error:  # no time will mend it
                log.error("%s", error)
                self._broken = True
                self.stop()
                continue
            if has_begun:
                self._session = session
                if self._on_ready is not None:
                    self._on_ready(hello, session.id)
                return session
            self._wait_for(session)
        session.close()
        return None

    def _wait_for(self, session: Session) -> None:
        """Until it is time to try again, or somebody wants an end."""
        while not self._stops and (left := session.away()):
            self.pulse.turn()
            time.sleep(min(0.1, left))

    def _ended(self, child: Child) -> None:
        """A worker process is gone: gives its jobs back at once, and starts another where one is wanted."""
        self._selector.unregister(child.socket)
        self._children.remove(child)
        code = child.bury()
        crashed = child.blamed or ([] if child.killed or child.said_bye else child.slate.read())
        child.slate.close()
        if child.blamed:
            self._single_out(child.blamed)  # before they are back in their queues
        if child.worker and self._session is not None:
            why = "its worker was stopped" if not crashed else f"its worker process died: {exit_in_words(code)}"
            self._session.give_back(child.worker, crashed, why)
        if code == EXIT_FENCED and self._session is not None:
            self._session.doubt()
        if self._reloads and not self._stops and (child.replaced or code == EXIT_BROKEN_APP):
            self._follow(child)
            return
        if self._session is None:
            # None has ever come as far as to say hello: the app is broken, and would be the next time.
            self._broken = self._broken or not self._stops
            self.stop()
            return
        if not child.said_bye and not child.killed:
            log.warning("worker process %d ended: %s; starting another", child.process.pid, exit_in_words(code))
        if not self._stops and not child.retiring and not (self._burst and child.said_bye and code == 0):
            now = self._clock.monotonic()
            worked = 0.0 if child.works_since is None else now - child.works_since
            self._start_at.append(now + self._respite.after(worked))

    def _single_out(self, held: list[str]) -> None:
        """Tells the workers which jobs held a process: each is run alone from now on, so that no neighbour is held again."""
        self._held += held
        for child in self._children:
            if child.worker:
                child.say(alone=held)

    def _follow(self, child: Child) -> None:
        """Starts a process with newer code; after one that could not import it, only when there is newer code."""
        if child.replaced:
            self._start_at.append(self._clock.monotonic())
        else:
            self._waiting += 1
            log.error("the app could not be imported; waiting for a change of its files")

    # ── for the session ──────────────────────────────────────────────────────────────────────────

    def _polled_ago(self) -> float | None:
        """Seconds since every worker process has looked at the store: of the one that was silent for longest."""
        found = [child.slate.pulse.polled_ago() for child in self._children if child.worker]
        return max((ago for ago in found if ago is not None), default=None)

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()

    def _tell_beat(self, at: float) -> None:
        """Tells the workers of a beat that they have not been told of."""
        if at != self._told_at:
            self._told_at = at
            for child in self._children:
                if child.worker:
                    child.say(beaten=at)
