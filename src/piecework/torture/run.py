"""One torture from its beginning to its report: load and faults, then calm, a drain, and the verdict."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from piecework.errors import UsageError
from piecework.ids import short_token
from piecework.job import Filter, Record, State
from piecework.store import Store, redacted
from piecework.torture.books import facts, miscounted
from piecework.torture.chaos import Nemesis
from piecework.torture.dice import Dice
from piecework.torture.faults import Faults
from piecework.torture.faulty import faulty
from piecework.torture.guardian import Guardian
from piecework.torture.jobs import Jobs
from piecework.torture.join import joined
from piecework.torture.ledger import Kind, Ledger, read
from piecework.torture.load import Load
from piecework.torture.plan import Plan
from piecework.torture.report import Report, judge_speed, make
from piecework.torture.trees import Tree
from piecework.torture.verdict import Verdict, Word
from piecework.torture.watch import Now, Watch

LAST_SECONDS = 15.0  # the same under faults, where a job may just be hit again and again
MEET_ALL_SECONDS = 60.0  # by which a run is longer at most, so that every fault happens once
DECISIONS = 5  # rounds of retrying what is parked
WORKERS = "piecework.torture.workers:app"


class Options(msgspec.Struct, frozen=True):
    """How long, how hard, where."""

    url: str
    seconds: float = 60.0
    jobs: int | None = None  # instead: until so many are stored, and have ended
    processes: int = 2  # in each of the two trees
    concurrency: int = 4
    seed: int = 0
    kill_every: float = 1.0
    lease: float = 2.0
    lose: float = 0.01
    forge: float = 0.05
    patience: float = 60.0  # seconds without a single end after which what is left counts as stuck
    app: str = WORKERS
    app_dir: str | None = None


def check(store: Store, *, allow_jobs: bool) -> None:
    """Raises `UsageError` for a store that somebody uses."""
    sessions = store.sessions()
    if sessions:
        who = ", ".join(f"{s.name} (pid {s.pid} on {s.host})" for s in sessions[:5])
        raise UsageError(
            f"workers are enlisted in {store.url}: {who}. The torture's lease is short, and would declare them dead; stop "
            "them first, or name another store"
        )
    if not allow_jobs and any(store.counts().values()):
        raise UsageError(
            f"{store.url} holds jobs. The torture has a queue of its own and leaves them alone, but it adds many of its own "
            "and keeps the database busy; name an empty store, or say --yes-use-this-store"
        )


class Torture:
    """One torture; `run` is called once."""

    def __init__(self, options: Options, folder: Path, *, show: Callable[[Now], None] = lambda now: None) -> None:
        self.options = options
        self._folder = folder
        self._ledger = Ledger(folder / "ledger")
        self._plan = Plan(
            options.url,
            str(self._ledger.path),
            f"torture-{short_token()}",
            os.getpid(),
            options.lease,
            options.seed,
            options.lose,
            options.forge,
        )
        dice = Dice(options.seed)
        self._jobs = Jobs(self._plan, self._ledger)
        self._store = self._jobs.app.store
        line = faulty(self._store, self._ledger, dice.fork("line"), lose=options.lose)
        self._load = Load(self._jobs, line, self._ledger, dice.fork("load"), self._plan.queue, enough=self._enough)
        self._nemesis = Nemesis(
            lambda name: self._tree(name, self._plan),
            lambda: self._store.bury("nobody", 0),  # which stands in line for every lock that there is
            self._ledger,
            dice.fork("nemesis"),
            kill_every=options.kill_every,
            lease=options.lease,
        )
        self._watch = Watch(self._load, self._nemesis, show)
        self._wrong: list[str] = []  # of processes

    def run(self) -> Report:
        """Torments, calms, drains and judges."""
        self._store.migrate()
        with closing(Guardian()) as self._guardian:
            try:
                self._torment()
                self._wrong += self._nemesis.end()
                self._drain()
            finally:
                self._nemesis.destroy()
        seconds = self._watch.seconds()
        self._watch.show("verdict")
        return self._judge(seconds)

    def _enough(self, stored: int) -> bool:
        if self.options.jobs is not None:
            return stored >= self.options.jobs
        over = self._watch.seconds() - self.options.seconds
        return over >= (0.0 if self._nemesis.met_all() else MEET_ALL_SECONDS)

    # ── torment ──────────────────────────────────────────────────────────────────────────────────

    def _torment(self) -> None:
        """Load and faults side by side. With a number of jobs, the faults go on until nearly all of them have ended."""
        with ThreadPoolExecutor(2, "torture") as pool:
            load, nemesis = pool.submit(self._load.run), pool.submit(self._nemesis.run)
            try:
                self._watch.until("faults", lambda: load.done() or nemesis.done())
                if self.options.jobs is not None:
                    self._watch.until(
                        "faults", lambda: nemesis.done() or self._ended() or self._watch.still() > LAST_SECONDS
                    )
            finally:
                self._load.stop()
                self._nemesis.stop()
            load.result()
            nemesis.result()

    def _ended(self) -> bool:
        """Whether every job has; a store that is away is asked again."""
        self._load.look()
        return self._load.finished == self._load.stored

    def _tree(self, name: str, plan: Plan) -> Tree:
        options = [
            "-c",
            str(self.options.concurrency),
            "--processes",
            str(self.options.processes),
            "-Q",
            plan.queue,
            "--pool-size",
            "1",
        ]
        if self.options.app_dir is not None:
            options += ["--app-dir", self.options.app_dir]
        return Tree(name, self.options.app, options, plan.environ(), self._folder, self._guardian)

    # ── drain ────────────────────────────────────────────────────────────────────────────────────

    def _drain(self) -> None:
        """A tree without faults runs what is left.

        What is parked, or failed because a piece was, is retried: somebody decides.
        """
        calm = self._tree("calm", msgspec.structs.replace(self._plan, lose=0.0, forge=0.0))
        self._nemesis.trees.append(calm)
        self._watch.until("drain", lambda: calm.ready() or calm.code() is not None)
        for _ in range(DECISIONS):
            self._watch.until(
                "drain", lambda: self._ended() or self._watch.still() > self.options.patience or calm.code() is not None
            )
            if not self._decide():
                break
        self._wrong += self._nemesis.end()

    def _decide(self) -> int:
        """Retries what waits for somebody; returns how many jobs came back."""
        queue, back = self._plan.queue, 0
        for which in (
            Filter(queue=queue, state=State.PARKED),
            Filter(queue=queue, state=State.FAILED, task=self._jobs.nest.name),
        ):
            for page in pages(self._store, which):
                ids = tuple(record.id for record in page)
                self._ledger.note_all([(Kind.DECIDED, id, 0) for id in ids])
                back += self._store.retry(Filter(ids=ids), limit=len(ids))
        return back

    # ── verdict ──────────────────────────────────────────────────────────────────────────────────

    def _judge(self, seconds: float) -> Report:
        stalls = self._watch.stalls
        verdict, kinds = judge(self._jobs, self._store, self._ledger.path, self._plan.queue, self._folder, stalls)
        for sentence in (*self._wrong, *self._nemesis.mended()):
            verdict.blame(Word.PROCESSES, sentence)
        judge_speed(verdict, self.options.lease)
        return make(
            verdict,
            kinds,
            trees=self._nemesis.killed_trees,
            url=redacted(self.options.url),
            queue=self._plan.queue,
            seed=self.options.seed,
            lease=self.options.lease,
            seconds=seconds,
            stalls=sum(end - begin for begin, end in stalls),
            load=self._watch.load / (os.cpu_count() or 1),
            folder=str(self._folder),
        )


def judge(
    jobs: Jobs, store: Store, ledger: Path, queue: str, folder: Path, stalls: Sequence[tuple[float, float]] = ()
) -> tuple[Verdict, Counter[Kind]]:
    """Joins a ledger with the store; the second is how many records of each kind there are."""
    kinds: Counter[Kind] = Counter()
    faults = Faults(stalls)
    for entry in read(ledger):
        kinds[entry.kind] += 1
        faults.add(entry)
    verdict = Verdict(faults)
    known = facts(store, queue, {jobs.nest.name, jobs.mixed.name}, jobs.wrong)
    for id, fact, entries in joined(ledger, known, folder):
        verdict.job(id, fact, entries)
    verdict.finish()
    for sentence in miscounted(store, queue, verdict.jobs):
        verdict.blame(Word.COUNTS, sentence)
    return verdict, kinds


def pages(store: Store, which: Filter) -> Iterator[list[Record]]:
    """Matching jobs, a page at a time.

    A job that is retried meanwhile does not match any more; those behind it still do.
    """
    last: str | None = None
    while page := store.find(which, after=last, limit=500):
        last = page[-1].id
        yield page
