"""The torture itself under test: a small one, in this process, on a store of plain dicts that may have a defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support import until

from piecework.job import Filter, NewJob, State
from piecework.split import Piece
from piecework.testing import ModelStore
from piecework.torture.dice import Dice
from piecework.torture.faulty import faulty
from piecework.torture.jobs import Jobs
from piecework.torture.ledger import Kind, Ledger
from piecework.torture.load import insist
from piecework.torture.plan import Plan
from piecework.torture.run import judge
from piecework.torture.verdict import Verdict, Word

QUEUE = "torture-test"
UNFINISHED = (State.WAITING, State.AVAILABLE, State.RUNNING)


class Small:
    """A torture without processes: jobs, a ledger, one worker in this process, and the verdict."""

    def __init__(self, folder: Path, store: ModelStore, *, lose: float = 0.0, forge: float = 0.0) -> None:
        self.folder = folder
        self.store = store
        self.ledger = Ledger(folder / "ledger")
        plan = Plan("sqlite://:memory:", str(self.ledger.path), QUEUE)
        self.jobs = Jobs(plan, self.ledger, lambda _: faulty(store, self.ledger, Dice(1), lose=lose, forge=forge))
        self.kinds: Counter[Kind] = Counter()

    def enqueue(self, *pieces: Piece[object]) -> list[str]:
        jobs = [
            NewJob(f"{n:08x}-0000-7000-8000-000000000000", p.task, p.args, p.queue, operation=p.operation)
            for n, p in enumerate(pieces)
        ]
        ids = insist(lambda: self.jobs.app.store.add(jobs))
        self.ledger.note_all([(Kind.ACKNOWLEDGED, id, 0) for id in ids])
        return ids

    def mix(self) -> None:
        """A bit of everything."""
        jobs = self.jobs
        self.enqueue(
            *[jobs.noop.piece()] * 20,
            *[jobs.async_nap.piece(0.001)] * 3,
            *[jobs.flaky.piece(2)] * 5,
            jobs.doomed.piece(),
            *[jobs.snoozing.piece(2)] * 3,
            *[jobs.retrying.piece(2)] * 3,
            jobs.withdrawn.piece(),
            *[jobs.nest.piece(2, 4)] * 3,
            jobs.mixed.piece(3),
            jobs.steps.piece(2),
            jobs.steps.piece(1, aside=True),
            jobs.steps.piece(2, doomed=True),
        )

    def run(self, *, until_state: Callable[[], bool] | None = None) -> None:
        """Works until nothing is left, or until a condition holds."""
        nothing_left = lambda: not any(self.store.count(Filter(queue=QUEUE, state=state)) for state in UNFINISHED)  # noqa: E731
        with self.jobs.app.worker(concurrency=2, queues=[QUEUE]):
            until(until_state or nothing_left, lambda: f"ended: {self.store.counts()}", within=30)

    def verdict(self) -> Verdict:
        verdict, self.kinds = judge(self.jobs, self.store, self.ledger.path, QUEUE, self.folder)
        return verdict


def words(verdict: Verdict) -> set[Word]:
    """The words that were found to be broken."""
    return {word for word, n in verdict.found.items() if n}
