"""The session of a supervisor at the store: begun, kept alive, begun anew where others buried it, and left.

What the processes of a session leave behind is given back here, as soon as the store takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from piecework.clock import Clock
from piecework.engine.child import Hello
from piecework.engine.keeper import Keeper
from piecework.engine.trouble import Trouble, longest_pause
from piecework.errors import StoreError, StoreUnavailable
from piecework.job import SUSPECT
from piecework.store.protocol import Store

log = logging.getLogger("piecework.supervisor")


class Session:
    """One supervisor's, on the store that its first worker process named.

    `lost` is called when others have declared it dead, `begun` when another has been begun in its place; `polled` says
    how many seconds ago the workers looked at the store.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        hello: Hello,
        *,
        name: str,
        polled: Callable[[], float | None],
        lost: Callable[[], None],
        begun: Callable[[], None],
        draw: Callable[[], float],
    ) -> None:
        self.url = hello.url
        self.is_buried = False  # and no new one has been begun yet
        self._store = store
        self._lost = lost
        self._begun = begun
        self._trouble = Trouble(clock, draw, log=log, longest=longest_pause(hello.lease))
        self._keeper = Keeper(
            store, clock, name=name, lease=hello.lease, keep_completed=hello.keep_completed, polled=polled
        )
        self._owed: list[tuple[str, list[str], str]] = []  # reaps that the store has not taken yet

    @property
    def id(self) -> str:
        """As the store knows it, and the first half of its workers' names."""
        return self._keeper.session

    @property
    def beaten_at(self) -> float:
        """When it beat last, by the monotonic clock."""
        return self._keeper.beaten_at

    def begin(self) -> bool:
        """Enters it at the store; False where that is away. Raises `StoreError` for what no time will mend."""
        try:
            self._keeper.enlist()
        except StoreUnavailable as error:
            self._trouble.meet(error)
            return False
        self._trouble.over()
        return True

    def away(self) -> float:
        """Seconds before the store is asked again; 0 where it is there."""
        return self._trouble.left()

    def next_turn(self) -> float:
        """Seconds until `turn` has something to do."""
        return max(self.away(), 0.0 if self._owed or self.is_buried else self._keeper.next_turn())

    def turn(self) -> None:
        """Does what is due."""
        self._with_store(self._keep)

    def give_back(self, worker: str, crashed: list[str], why: str) -> None:
        """The jobs of a worker that is gone go back, now or as soon as the store is there; `crashed` ran when it died."""
        self._owed.append((worker, crashed, why))
        self._with_store(self._pay)

    def doubt(self) -> None:
        """Somebody was told that it is over: it beats at once, and sees."""
        self._keeper.hurry()

    def leave(self) -> None:
        """Ends it in good order, and lets go of the store."""
        try:
            self._pay()
            self._keeper.leave()
        except StoreError as error:
            log.warning("the store could not be told that this session ended; others will notice in a lease: %s", error)
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the store, of which no session was begun."""
        self._store.close()

    def _with_store(self, work: Callable[[], None]) -> None:
        """Store work that is tried again when the store is away: not at once, and each time later."""
        if self.away():
            return
        asks = not self.next_turn()
        try:
            work()
        except StoreError as error:
            self._trouble.meet(error)
        else:
            if asks:
                self._trouble.over()

    def _keep(self) -> None:
        if not self.is_buried and not self._keeper.turn():
            log.warning("this session was declared dead by others; starting anew")
            self.is_buried = True
            self._lost()
        if self.is_buried:
            self._keeper.enlist()
            self.is_buried = False
            self._begun()
        self._pay()

    def _pay(self) -> None:
        """Hands back the jobs of processes that are gone."""
        while self._owed:
            worker, running, why = self._owed[0]
            back = self._store.reap(worker, crashed=self._blame(running), reason=why)
            self._owed.pop(0)
            if back:
                log.warning("%d %s went back: %s", len(back), "job" if len(back) == 1 else "jobs", why)

    def _blame(self, running: list[str]) -> list[str]:
        """Which of the jobs that ran when a process died are charged with its death; they stand in order of their start.

        All of them at first. Those that were charged twice run alone as far as possible: where one did, or had to be
        begun beside others, it is the one to blame, and not its neighbours.
        """
        if len(running) < 2:
            return running
        charged = {record.id for record in self._store.get(running) if record.crashes >= SUSPECT}
        return [id for id in running if id in charged][-1:] or running
