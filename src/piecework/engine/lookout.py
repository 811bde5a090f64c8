"""When a worker asks for work: after a hint, after a look that found some, when a job comes due, else once in a while.

Hints are heard on a thread of its own, and only while the worker found nothing; a lost one costs one poll interval.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from piecework.clock import Clock
from piecework.engine.trouble import Pauses, Trouble
from piecework.errors import StoreError
from piecework.store.protocol import Store

POLL_SECONDS = 1.0  # how often an idle worker looks, hint or no hint
LISTEN_SECONDS = 0.12  # how long the listener waits for a hint at a stretch
AWAY_SECONDS = 0.1  # how often the listener asks whether the store is back


class Lookout:
    """One worker's: it is told what each look came to, and tells when the next one is worth a trip.

    `nudge` is called from another thread when a hint has come; `trouble` is that of the worker's trips, `aside` that of
    its calls beside them.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        nudge: Callable[[], None],
        *,
        trouble: Trouble,
        aside: Trouble,
        draw: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._nudge = nudge
        self._trouble = trouble
        self._aside = aside
        self._deaf = Pauses(clock, draw)  # of the listener: hints may be missing where all else goes well
        self._hungry = threading.Event()  # set while the worker would like a hint
        self._finished = threading.Event()
        self._listener: threading.Thread | None = None
        self._look_at = clock.monotonic()  # when to look again without a hint
        self._hinted = True  # something may have changed since the last look began
        self.empty = False  # the last look found nothing

    def open(self) -> None:
        """Begins to listen."""
        self._listener = threading.Thread(target=self._listen, name="piecework-hints", daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Asks for no further hint; `join` waits for the last one."""
        self._finished.set()
        self._hungry.set()

    def join(self) -> None:
        """The store is not asked any more once this has returned."""
        if self._listener is not None:
            self._listener.join()  # what it waits for is short, and it must not reach for a store that is closed next

    # ── when ─────────────────────────────────────────────────────────────────────────────────────

    def is_time(self) -> bool:
        """Whether to look now."""
        return self._hinted or self._clock.monotonic() >= self._look_at

    def left(self) -> float:
        """Seconds until it is time; a hint may come before."""
        return 0.0 if self._hinted else max(0.0, self._look_at - self._clock.monotonic())

    def hint(self) -> None:
        """Something may have changed: it is time."""
        self._hinted = True

    def begin(self) -> None:
        """A look begins: what is hinted at from now on is news."""
        self._hinted = False

    # ── what a look came to ──────────────────────────────────────────────────────────────────────

    def settled_only(self) -> None:
        """A trip has settled and asked for nothing: what was settled may have made something due."""
        self._hinted, self.empty = True, False

    def found_some(self) -> None:
        """There may be more: the next look is as soon as there is room."""
        self.empty = False
        self._hungry.clear()
        self._look_at = self._clock.monotonic()

    def found_none(self) -> None:
        """The next look is with the next hint, due job or poll."""
        self.empty = True
        now = self._clock.monotonic()
        self._look_at = now + min(POLL_SECONDS, self._next_due())
        self._hungry.set()

    def _next_due(self) -> float:
        try:
            due = self._store.next_due()
        except StoreError as error:
            self._aside.meet(error)
            return POLL_SECONDS
        self._aside.over()
        return POLL_SECONDS if due is None else due

    # ── hints ────────────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        """Turns the store's hints into nudges, while the worker is hungry."""
        while not self._finished.is_set():
            self._hungry.wait()
            if self._finished.is_set():
                return
            if self._trouble.tries:  # one thread that tries is enough
                self._finished.wait(AWAY_SECONDS)
                continue
            try:
                hinted = self._store.wait(LISTEN_SECONDS)
            except StoreError:
                self._deaf.failed()
                self._finished.wait(self._deaf.left())
                continue
            self._deaf.reached()
            if hinted:
                self._hungry.clear()
                self._hinted = True
                self._nudge()
