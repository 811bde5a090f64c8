"""The nemesis: kills worker processes and whole trees, and freezes trees for longer than their lease.

Two trees work, as two machines would. Every fault is written into the ledger with the processes that it met.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from piecework.errors import PieceworkError
from piecework.torture.dice import Dice
from piecework.torture.ledger import Kind, Ledger
from piecework.torture.load import insist
from piecework.torture.trees import Tree

PROBE_SECONDS = 0.5  # how long a harmless write may take beside a frozen tree
FREEZES = 5  # tries to stop a tree at a moment at which it holds no lock
START_SECONDS = 60.0  # how long a tree may take to begin its session
# What is done first, so that a short run meets everything; then by weight.
OPENING = ("child", "tree", "child", "stop", "child")
WEIGHTS = {"child": 12.0, "below": 2.0, "tree": 1.0, "supervisor": 1.0, "stop": 2.0}


class Nemesis:
    """Torments `trees` that it started itself, until it is told to stop."""

    def __init__(
        self,
        start: Callable[[str], Tree],
        probe: Callable[[], object],
        ledger: Ledger,
        dice: Dice,
        *,
        kill_every: float,
        lease: float,
    ) -> None:
        self._start = start
        self._probe = probe
        self._ledger = ledger
        self._dice = dice
        self._every = kill_every
        self._lease = lease
        self._numbers = itertools.count(1)
        self._line = deque(OPENING)
        self._enough = threading.Event()
        self._stopped_at = self._continue_at = 0.0
        self.trees: list[Tree] = []
        self.past: list[Tree] = []
        self.over: list[Tree] = []  # ended, and looked at
        self.killed = 0
        self.killed_trees = 0
        self.frozen = 0
        self.unasked: list[str] = []  # ends that nobody asked for

    def run(self) -> None:
        """Starts the trees, and a fault every so many seconds."""
        for _ in range(2):
            self._begin()
        at = time.monotonic()
        while True:
            at = max(at + self._dice.between(0.5, 1.5) * self._every, time.monotonic())
            if self._enough.wait(at - time.monotonic()):
                return
            self._look_after()
            self._do(self._line.popleft() if self._line else self._dice.weighed(WEIGHTS))

    def stop(self) -> None:
        self._enough.set()

    def met_all(self) -> bool:
        """Whether every fault happened that a run must have met."""
        return not self._line

    def end(self) -> Iterator[str]:
        """Stops the trees in good order; says what did not end as it should."""
        yield from self.unasked
        self.unasked.clear()
        for tree in self.trees:
            if tree.stopped:  # not before its lease is over: it would have been stopped for nothing
                time.sleep(max(0.0, self._stopped_at + 1.1 * self._lease - time.monotonic()))
            self._thaw(tree)
        for tree in self.trees:
            tree.await_ready(START_SECONDS)  # one that has only begun knows no signal yet
            code = tree.stop(within=60.0)
            if code != 0:
                yield f"{tree.name} was asked to stop and ended with {'SIGKILL after 60 s' if code is None else code}"
        ended, self.trees = [*self.past, *self.trees], []
        self.past = []
        self.over += ended
        for tree in ended:
            if tree.left_behind():
                yield f"a process of {tree.name} outlived its supervisor"

    def destroy(self) -> None:
        for tree in (*self.trees, *self.past):
            tree.destroy()

    def mended(self) -> Iterator[str]:
        """Lines of the trees' logs that no fault explains: counters that were repaired, a loop that broke."""
        for tree in self.over:
            for line in tree.log.read_text(errors="replace").splitlines():
                if "repaired:" in line or "own loop failed" in line:
                    yield f"{tree.name}: {line}"

    # ── faults ───────────────────────────────────────────────────────────────────────────────────

    def _do(self, what: str) -> None:
        awake = [tree for tree in self.trees if not tree.stopped and tree.children()]
        if not awake:
            return
        tree = self._dice.one(awake)
        if what in ("stop", "tree", "supervisor") and len(awake) < 2:  # somebody must be left to take over: later, then
            self._line.append(what)
            what = "child"
        if what == "child":
            self._kill_child(tree)
        elif what == "below":
            self._kill_below(tree)
        elif what == "stop":  # beside the kill that is due
            self._freeze(tree)
            self._kill_child(self._dice.one([other for other in awake if other is not tree]))
        else:
            self._kill_tree(tree, supervisor_alone=what == "supervisor")

    def _kill_child(self, tree: Tree) -> None:
        """SIGKILL to a worker process; what runs single jobs for it must go with it."""
        for child in self._some(tree.children()):
            for pid in tree.below(child):
                self._ledger.note(Kind.KILLED_BELOW, pid=pid)
            self._ledger.note(Kind.KILLED_CHILD, pid=child)
            _send(child, signal.SIGKILL)
            self.killed += 1

    def _kill_below(self, tree: Tree) -> None:
        """SIGKILL to a process that runs one job, which is that job's failure and nobody else's."""
        for pid in self._some(tree.below()):
            self._ledger.note(Kind.KILLED_BELOW, pid=pid)
            _send(pid, signal.SIGKILL)

    def _some(self, pids: list[int]) -> list[int]:
        return [self._dice.one(pids)] if pids else []

    def _kill_tree(self, tree: Tree, *, supervisor_alone: bool) -> None:
        """SIGKILL to all of it, or to the supervisor, which must take its workers along."""
        for pid in (*tree.children(), *tree.below()):
            self._ledger.note(Kind.KILLED_TREE, pid=pid)
        if supervisor_alone:
            tree.signal_supervisor(signal.SIGKILL)
        else:
            tree.signal(signal.SIGKILL)
        self.killed_trees += 1
        self.trees.remove(tree)
        self.past.append(tree)
        self._begin()

    def _begin(self) -> None:
        """Another tree; the faults wait until it is at work."""
        tree = self._start(f"tree-{next(self._numbers)}")
        self.trees.append(tree)
        if not tree.await_ready(START_SECONDS):
            raise PieceworkError(f"{tree.name} did not begin to work; it said: {tree.log.read_text()[-2000:]}")

    def _freeze(self, tree: Tree) -> None:
        """SIGSTOP to all of it for one and a half to two and a half leases."""
        for _ in range(FREEZES):
            tree.signal(signal.SIGSTOP)
            if self._others_can_write():
                break
            tree.signal(signal.SIGCONT)
            self._ledger.note(Kind.RELEASED_LOCK, pid=tree.pid)
        else:
            self._line.append("stop")  # later, then
            return
        for pid in (tree.pid, *tree.children(), *tree.below()):
            self._ledger.note(Kind.STOPPED, pid=pid)
        tree.stopped = True
        self.frozen += 1
        self._stopped_at = time.monotonic()
        self._continue_at = self._stopped_at + self._dice.between(1.5, 2.5) * self._lease

    def _others_can_write(self) -> bool:
        """Whether the store takes a write beside a frozen tree.

        A process may be stopped while it holds a lock of the store, where everybody would wait for it. That would try
        the store's locks and not the lease, so such a stop is lifted at once.
        """
        done = threading.Event()

        def write() -> None:
            insist(self._probe)
            done.set()

        threading.Thread(target=write, name="torture-probe", daemon=True).start()
        return done.wait(PROBE_SECONDS)

    def _look_after(self) -> None:
        """Lets a frozen tree go on when its time is over; replaces a tree that ended by itself."""
        for tree in list(self.trees):
            if tree.stopped and time.monotonic() >= self._continue_at:
                self._thaw(tree)
            if tree.code() is not None:
                self.unasked.append(f"{tree.name} ended by itself with {tree.code()}")
                self.trees.remove(tree)
                self.past.append(tree)
                self._begin()

    def _thaw(self, tree: Tree) -> None:
        """Half of the times the workers go on before their supervisor, which would kill them: their late words are heard."""
        if not tree.stopped:
            return
        tree.stopped = False
        self._ledger.note(Kind.CONTINUED, pid=tree.pid)
        if self._dice.happens(0.5):
            for child in tree.children():
                _send(child, signal.SIGCONT)
            self._enough.wait(0.2)
        tree.signal(signal.SIGCONT)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it ended meanwhile, when its session had been buried
        return
