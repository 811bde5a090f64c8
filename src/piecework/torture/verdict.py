"""The verdict: the ledger joined with the store, one job at a time. Plain data in, plain data out; no I/O.

At least once means that a body may start more than once, and a worker that stood still may wake up and go on with a job
that somebody else has. Neither breaks a promise. What breaks one is a second accepted end, a start that was *fetched*
after the end was recorded, an end without a body, and a job that is gone or never ends.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

from piecework.job import State
from piecework.torture import walked
from piecework.torture.books import Fact
from piecework.torture.faults import Faults
from piecework.torture.ledger import ENDS, STARTS, Entry, Kind, unpacked
from piecework.torture.words import Word

__all__ = ["Verdict", "Word", "quantile"]


KEPT = 20  # violations of a word that are told one by one


class Verdict:
    """Judges job after job, and adds up what was seen."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.found: Counter[Word] = Counter()
        self.told: dict[Word, list[str]] = {word: [] for word in Word}
        self.jobs: Counter[State] = Counter()
        self.starts = 0
        self.started_jobs = 0
        self.zombie_starts = 0
        self.composes = 0
        self.steps = 0
        self.undone = 0
        self.in_flight = 0
        self.after_child = array("d")  # seconds until a job of a killed worker process ran again
        self.after_tree = array("d")
        self.after_several = array("d")  # a second fault met the job, or a whole tree, before it ran again
        self._composed_at: dict[str, float] = {}
        self._pieces_until: dict[str, float] = {}

    def blame(self, word: Word, sentence: str) -> None:
        self.found[word] += 1
        if len(self.told[word]) < KEPT:
            self.told[word].append(sentence)

    def job(self, id: bytes, fact: Fact | None, entries: Sequence[Entry]) -> None:
        """One job: what the store knows of it, and its records in the order of time."""
        starts = [e for e in entries if e.kind in STARTS]
        self.starts += len(starts)
        self.started_jobs += bool(starts)
        self._follow_kills(starts, entries)
        if fact is None:
            if entries:
                self.blame(Word.LOST, f"{_told(unpacked(id), entries)}: the store does not have it")
            return
        self.jobs[fact.state] += 1
        self.steps += sum(outcome == "completed" for outcome, _, _ in fact.steps)
        self.undone += sum(outcome == "undone" for outcome, _, _ in fact.steps)
        for word, sentence in self._wrongs(fact, starts, entries):
            self.blame(word, f"{fact.task} {_told(fact.id, entries)}: {sentence}")
        self._remember_joints(fact, entries)

    def finish(self) -> None:
        """What can only be said when every job has been seen."""
        for id, at in self._composed_at.items():
            if at < self._pieces_until.get(id, 0.0):
                self.blame(Word.COMPOSE, f"{id}: its compose began before its last piece had ended")
        self.composes = len(self._composed_at)

    # ── one job ──────────────────────────────────────────────────────────────────────────────────

    def _wrongs(self, fact: Fact, starts: Sequence[Entry], entries: Sequence[Entry]) -> Iterator[tuple[Word, str]]:
        if not fact.state.finished and fact.state is not State.PARKED:
            yield Word.STUCK, f"it is {fact.state}"
        if fact.state is State.PARKED and not fact.reason:
            yield Word.LOST, "it is parked without a reason"
        if fact.wrong:
            yield Word.WRONG, fact.wrong
        if any(e.kind is Kind.FORGED_OK for e in entries):
            yield Word.ACCEPTED, "a settlement was accepted that was late or forged"
        runs = Counter(e.run for e in starts)
        if any(n > 1 for n in runs.values()):
            yield Word.AGAIN, "one run of it was begun twice"
        if any(run > fact.run for run in runs):
            yield Word.AGAIN, f"a run was begun that the store does not know; it knows {fact.run}"
        yield from self._after_the_end(starts, entries)
        recorded = {e.run for e in entries if e.kind is Kind.RECORDED}
        if len(recorded) > 1:
            yield Word.COMPOSE if fact.is_split else Word.TWICE, f"completions were recorded of the runs {recorded}"
        if fact.is_operation:
            yield from walked.wrongs(fact, entries)
        elif fact.state is State.COMPLETED:
            yield from _completed(fact, entries)

    def _after_the_end(self, starts: Sequence[Entry], entries: Sequence[Entry]) -> Iterator[tuple[Word, str]]:
        """Starts after the completion had been recorded.

        Only who had been made to stand still may go on with an older run.
        """
        end = next((e for e in entries if e.kind is Kind.RECORDED), None)
        if end is None:
            return
        for start in starts:
            if start.run > end.run:
                yield Word.AGAIN, f"run {start.run} was begun, and the completion of run {end.run} had been recorded"
            elif start.at > end.at:
                if not self._faults.stopped(start.pid, start.at):
                    yield Word.AGAIN, f"run {start.run} was begun after the completion of run {end.run} was recorded"
                self.zombie_starts += 1

    def _remember_joints(self, fact: Fact, entries: Sequence[Entry]) -> None:
        """When a compose began, and when a piece's last run ended: they are compared when all have been seen."""
        for e in entries:
            if e.kind is Kind.COMPOSE_START:
                self._composed_at.setdefault(fact.id, e.at)
            if fact.batch is not None and e.kind in ENDS and e.run == fact.run:
                self._pieces_until[fact.batch] = max(self._pieces_until.get(fact.batch, 0.0), e.at)

    # ── kills ────────────────────────────────────────────────────────────────────────────────────

    def _follow_kills(self, starts: Sequence[Entry], entries: Sequence[Entry]) -> None:
        """Bodies that a kill cut off, and how long it took until the job ran again."""
        ended = {e.run for e in entries if e.kind in ENDS}
        for n, start in enumerate(starts):
            kill = None if start.run in ended else self._faults.kill_of(start.pid, start.at)
            if kill is None:
                continue
            self.in_flight += 1
            later = next((e for e in starts[n + 1 :] if e.run > start.run), None)
            if later is None or any(e.kind is Kind.DECIDED and kill.at < e.at < later.at for e in entries):
                continue  # parked by its third crash, until somebody decided
            self._took(kill, later, direct=later.run == start.run + 1)

    def _took(self, kill: Entry, later: Entry, *, direct: bool) -> None:
        """Files a wait under what caused it; one in which a second fault had a part is not judged by either limit."""
        seconds = later.at - kill.at - self._faults.machine(kill.at, later.at)
        if not direct or self._faults.others(kill, later.at):
            self.after_several.append(seconds)
        elif kill.kind is Kind.KILLED_TREE:
            self.after_tree.append(seconds)
        else:
            self.after_child.append(seconds)


def _completed(fact: Fact, entries: Sequence[Entry]) -> Iterator[tuple[Word, str]]:
    """A completed job: exactly one run ended well (of a split two: it sealed, it composed), and its body went to its end.

    The history has a line of each run that began and did not end well; one that was handed back before may have none.
    """
    good = sorted({e.run for e in entries if e.kind in STARTS and e.run <= fact.run} - set(fact.history))
    if fact.is_split:
        composed = {e.run for e in entries if e.kind is Kind.COMPOSE_END}
        sealed = {e.run for e in entries if e.kind is Kind.SPLIT_END}
        if len(good) != 2 or good[1] != fact.run or good[1] not in composed or good[0] not in sealed:
            yield Word.COMPOSE, f"of {fact.run} runs {good} ended well; composes ended in {sorted(composed)}"
        if fact.batch_wrong:
            yield Word.COMPOSE, fact.batch_wrong
        return
    if set(good) - {fact.run}:
        yield Word.TWICE, f"its last run is {fact.run}, and of its runs {good} ended well"
    if not any(e.kind is Kind.END and e.run == fact.run for e in entries):
        yield Word.LOST, f"run {fact.run} is recorded as completed, and its body never came to its end"


def _told(id: str, entries: Sequence[Entry]) -> str:
    """An id with its records, so that a reader can see what happened."""
    first = entries[0].at if entries else 0.0
    records = [f"{e.kind.name.lower()} run {e.run} pid {e.pid} +{e.at - first:.3f}s" for e in entries[:12]]
    return f"{id} [{', '.join(records)}{', …' if len(entries) > 12 else ''}]"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share of all; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
