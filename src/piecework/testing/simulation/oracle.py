"""Watches what the store answers and what bodies do, and judges a history at its end: every broken promise, one sentence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from piecework.errors import LeaseLost
from piecework.job import Answer, BatchState, Filter, Record, State
from piecework.store.protocol import Store
from piecework.testing.simulation.footprints import Footprints
from piecework.testing.simulation.stage import StageClock
from piecework.testing.simulation.toys import COMPOSE, SPLIT, Entry


class Given(msgspec.Struct):
    """The arguments of a toy, as far as its result depends on them."""

    number: int
    plan: list[Any] = []


_given = msgspec.json.Decoder(Given).decode
SPLITS = ("fail_fast", "finish", "compose")
UNKNOWN = "nobody"  # a task that no worker's app has
PAGE = 500
MOST_RUNS = 60  # by faults and attempts together, a job is fetched ten or twenty times at most …
MOST_STEPS = 400  # … and an operation that many times for each of its steps, of which it has a dozen or two


class Oracle:
    """What was promised, kept while a history is played and asked at its end."""

    def __init__(self, store: Store, clock: StageClock, lease: float) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self.violations: list[str] = []
        self.answers: Counter[str] = Counter()
        self.acknowledged: dict[str, str] = {}  # id → how it was called
        self._completed: dict[str, int] = {}  # job → the run that completed it
        self._to_undo: set[str] = set()  # operations that somebody had undone
        self._recorded: set[tuple[str, int]] = set()
        self._fetched: dict[tuple[str, int], str] = {}
        self._latest: dict[str, int] = {}  # job → its last run
        self._renewed: dict[str, float] = {}
        self._ledger: dict[str, list[Entry]] = defaultdict(list)
        self.footprints = Footprints(store, self.fail)

    def fail(self, sentence: str) -> None:
        if sentence not in self.violations:
            self.violations.append(sentence)

    # ── while it is played ───────────────────────────────────────────────────────────────────────

    def saw(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any, process: str) -> None:
        """A call that the store has applied, whether or not its answer will arrive."""
        if isinstance(answer, Exception):
            if verb == "exchange" and isinstance(answer, LeaseLost):
                self.answers["gone"] += len(args[0])
            return
        if verb == "exchange":
            self._settled(args[0], answer[0], args[1].worker)
            self._took(answer[1], args[1].worker)
        elif verb == "settle":
            self._settled(args[0], answer, "")
        elif verb == "enlist":
            self._renewed.setdefault(args[0].id, self._clock.elapsed)  # one that is there does not beat by it
        elif verb == "renew":
            if answer:
                self._renewed[args[0]] = self._clock.elapsed
        elif verb == "bury" and answer is not None:
            self._buried(*args)
        elif verb == "add":
            self.footprints.added(args[0], answer)
        elif verb == "amend" and answer is Answer.OK:
            self.footprints.amended(args[0], args[2])
        elif verb == "cancel" and kwargs.get("undo") and answer:
            self._to_undo.update(args[0].ids)
        elif verb == "signal" and answer is True:
            self.footprints.signalled(*args)

    def _settled(self, settlements: Any, answers: Any, worker: str) -> None:
        for s, answer in zip(settlements, answers, strict=True):
            self.answers[answer] += 1
            again = answer is Answer.LET_GO and (s.id, s.run) in self._recorded
            if again or answer not in (Answer.OK, Answer.LET_GO):
                self.footprints.sent_again(s)
                continue
            self.footprints.recorded(s)
            if (s.id, s.run) in self._recorded:
                self.fail(f"run {s.run} of job {s.id} was recorded twice")
            self._recorded.add((s.id, s.run))
            if s.run != self._latest.get(s.id):
                self.fail(f"run {s.run} of job {s.id} was recorded, and the job had been fetched again since")
            if s.id in self._completed:
                self.fail(f"job {s.id} was recorded as {s.state} after its completion")
            if s.state is State.COMPLETED and not self._goes_back(s.id):
                self._completed[s.id] = s.run
            if s.state is State.RUNNING:
                # The next run is this worker's, as if it had fetched it; one that was let go is nobody's.
                self._latest[s.id] = s.run + 1
                self._fetched[s.id, s.run + 1] = worker if answer is Answer.OK else "nobody"

    def _goes_back(self, id: str) -> bool:
        """Whether it was to be undone while its last step ran: that step is recorded, and undone like the others."""
        return id in self._to_undo and self._store.get([id])[0].state is not State.COMPLETED

    def _took(self, jobs: Any, worker: str) -> None:
        for job in jobs:
            self._latest[job.id] = max(job.run, self._latest.get(job.id, 0))
            other = self._fetched.setdefault((job.id, job.run), worker)
            if other != worker:
                self.fail(f"run {job.run} of job {job.id} was given to {other} and to {worker}")
            self.footprints.fetched(job)

    def _buried(self, session: str, beat: int | None = None) -> None:
        silent = self.silent(session)  # also where it was buried before: a late enlisting is no beat
        if beat is not None and silent < self._lease - 1e-6:
            self.fail(
                f"session {session} was declared dead {silent:.3f} s after a beat; the lease is {self._lease:g} s"
            )

    def silent(self, session: str) -> float:
        """Seconds since a session's last beat."""
        return self._clock.elapsed - self._renewed.get(session, 0.0)

    def wrote(self, entry: Entry) -> None:
        """A body began or ended."""
        self._ledger[entry.job].append(entry)
        if entry.what == "begin":
            if entry.job in self._completed:
                self.fail(
                    f"run {entry.run} of job {entry.job} was begun after the completion of run "
                    f"{self._completed[entry.job]} had been recorded"
                )
            if entry.kind == COMPOSE:
                self._composing(entry.job)
            if "/" in entry.kind:
                self._stepping(entry)

    def _stepping(self, entry: Entry) -> None:
        """A step of an operation begins, in a run that was let begin here."""
        if self._fetched.get((entry.job, entry.run)) in (None, "nobody"):
            self.fail(f"run {entry.run} of job {entry.job} began {entry.kind}, and it was given to nobody")
        self.footprints.begun(entry)

    def _composing(self, id: str) -> None:
        """A compose begins: its pieces must be there, all of them, and settled."""
        (job,) = self._store.get([id])
        asked = len(_given(job.args).plan)
        batch = self._store.batch(id)
        if batch is None or not batch.sealed or batch.open or batch.total != asked:
            self.fail(f"the compose of {id} began with {batch}, and the splitter offers {asked} pieces")
            return
        unsettled = [piece.id for piece in self._store.pieces(id) if not _settled(piece.state)]
        if unsettled:
            self.fail(f"the compose of {id} began while {unsettled} had not settled")

    # ── at the end ───────────────────────────────────────────────────────────────────────────────

    def everything(self) -> list[Record]:
        found: list[Record] = []
        while page := self._store.find(Filter(), after=found[-1].id if found else None, limit=PAGE):
            found += page
        return found

    def judge_rest(self) -> None:
        """Asked when nothing has happened any more: whoever waits now, waits for ever."""
        for job in self.everything():
            if job.state in (State.WAITING, State.AVAILABLE, State.RUNNING):
                self.fail(f"{job.task} {job.id} is stuck: {job.state}, run {job.run}, of {job.worker}")

    def judge(self) -> None:
        """Asked when everybody has left."""
        jobs = self.everything()
        by_id = {job.id: job for job in jobs}
        for id, call in self.acknowledged.items():
            if id not in by_id:
                self.fail(f"{call} was acknowledged as {id}, and is not stored")
        self._judge_calls(jobs)
        for job in jobs:
            for wrong in self._of_job(job):
                self.fail(f"{job.task} {job.id}: {wrong}")
        self._judge_books(jobs)

    def _judge_calls(self, jobs: list[Record]) -> None:
        calls = Counter((job.task, job.args) for job in jobs if job.batch is None)
        for call, n in calls.items():
            if n > 1:
                self.fail(f"{call[0]}{call[1]} was stored {n} times")

    def _of_job(self, job: Record) -> Iterator[str]:
        entries = self._ledger.get(job.id, [])
        if job.state is State.RUNNING:
            yield f"it is leased by {job.worker}, and everybody has left"
        if job.state is State.PARKED and not job.reason:
            yield "it is parked without a reason"
        if job.state is State.FAILED and job.error is None:
            yield "it failed without an error"
        if job.state is State.CANCELLED and not job.reason:
            yield "it was cancelled without a reason"
        if (job.state is State.COMPLETED) is not (job.id in self._completed):
            yield f"it is {job.state}, and its completion was recorded: {job.id in self._completed}"
        if job.run > (MOST_STEPS if job.id in self.footprints else MOST_RUNS):
            yield f"it went there and back: it was fetched {job.run} times"
        begun = [entry.run for entry in entries if entry.what == "begin"]
        if len(set(begun)) != len(begun):
            yield f"one run was begun twice: {begun}"
        if job.id in self.footprints:
            yield from self.footprints.judge(job, entries)
        elif job.state is State.COMPLETED:
            yield from self._of_completed(job, entries)

    def _of_completed(self, job: Record, entries: list[Entry]) -> Iterator[str]:
        kind = COMPOSE if job.task in SPLITS else job.task
        if Entry("end", kind, job.id, self._completed.get(job.id, 0)) not in entries:
            yield f"it is completed by run {self._completed.get(job.id)}, whose {kind} did not end"
        if kind is COMPOSE:
            yield from self._of_composed(job, entries)
        elif job.result != str(_given(job.args).number * 7):
            yield f"its result is {job.result}"

    def _of_composed(self, job: Record, entries: list[Entry]) -> Iterator[str]:
        batch = self._store.batch(job.id)
        asked = len(_given(job.args).plan)
        if batch is None or (batch.state, batch.sealed, batch.open, batch.total) != (BatchState.DONE, True, 0, asked):
            yield f"it completed, and its batch is {batch}"
            return
        if not any(entry.what == "end" and entry.kind == SPLIT for entry in entries):
            yield "it was composed, and its splitter never came to its end"
        pieces = self._store.pieces(job.id)
        joined = [[str(p.ordinal), _value(p.result)] for p in pieces if p.state is State.COMPLETED]
        failed = [str(p.ordinal) for p in pieces if p.state is not State.COMPLETED]
        if _value(job.result) != [joined, failed]:
            yield f"it was composed to {job.result}, and its pieces are {[joined, failed]}"

    def _judge_books(self, jobs: list[Record]) -> None:
        """Counters equal rows, nothing is leased, nobody is left."""
        rows = Counter((job.queue, str(job.state)) for job in jobs)
        kept = {place: n for place, n in self._store.counts().items() if n}
        if kept != dict(rows):
            self.fail(f"the counters say {kept}, the rows {dict(rows)}")
        ends: dict[str, Counter[str]] = defaultdict(Counter)
        for job in jobs:
            if job.batch is not None:
                ends[job.batch][_end(job)] += 1
        for id, counted in ends.items():
            batch = self._store.batch(id)
            if batch is None:
                self.fail(f"batch {id} is gone, and its pieces are not")
                continue
            told = {
                "open": batch.open,
                "completed": batch.completed,
                "failed": batch.failed,
                "cancelled": batch.cancelled,
            }
            if {end: n for end, n in told.items() if n} != dict(counted):
                self.fail(f"batch {id}: the counters say {told}, its pieces {dict(counted)}")
        for session in self._store.sessions():
            self.fail(f"session {session.id} is left")
        for sentence in self._store.repair(limit=1000):
            self.fail(f"repair found: {sentence}")


def _settled(state: State) -> bool:
    return state.finished or state is State.PARKED


def _end(job: Record) -> str:
    """As what a piece is counted. One that is parked for crashing counts as failed; another, as open."""
    if job.state is State.PARKED:
        return "failed" if job.finished_at is not None else "open"
    return str(job.state) if job.state.finished else "open"


def _value(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
