"""What a torture came to: what it tested, what it found, and the sentence at the end."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from piecework.torture.ledger import Kind
from piecework.torture.verdict import Verdict, Word, quantile

SOUND, BROKEN, UNTESTED = 0, 1, 2
CHILD_SECONDS = 1.0  # within which a dead child's jobs run again, for 99 of 100
TREE_SECONDS = 5.0  # beyond the lease, for those of a whole tree


class Spread(msgspec.Struct, frozen=True):
    """Some durations in seconds."""

    n: int
    p50: float
    p99: float
    max: float


class Report(msgspec.Struct, frozen=True):
    """Everything that is printed, and with `--json` everything there is."""

    url: str
    queue: str
    seed: int
    lease: float
    seconds: float
    jobs: dict[str, int]  # by the state in which they ended
    seen: dict[str, int]
    tested: dict[str, int]  # what must not be zero
    found: dict[str, int]  # what must be
    told: dict[str, list[str]]
    after_child: Spread
    after_tree: Spread
    after_several: Spread
    load: float  # processes that wanted a processor, on average over the last minute, for each processor
    stalls: float  # seconds for which the machine itself stood still, taken off the two above where they met
    folder: str | None = None

    @property
    def untested(self) -> list[str]:
        return [name for name, n in self.tested.items() if not n]

    @property
    def code(self) -> int:
        """The exit code: 0 every promise was kept, 1 one was broken, 2 nothing is known because a fault never happened."""
        if any(self.found.values()):
            return BROKEN
        return UNTESTED if self.untested else SOUND

    @property
    def sentence(self) -> str:
        """The whole in one sentence."""
        jobs, kills = sum(self.jobs.values()), self.tested["worker processes killed"]
        if self.code == BROKEN:
            words = ", ".join(f"{word} ({n:,})" for word, n in self.found.items() if n)
            return f"The store broke its promises: {words}."
        if self.code == UNTESTED:
            return f"It tested nothing: {', '.join(self.untested)}: 0. Let it run longer, or with more faults."
        return (
            f"{jobs:,} jobs, {kills:,} worker processes killed with {self.tested['jobs in their bodies at a kill']:,} "
            "jobs in their bodies: every job ended as it should, and was recorded once."
        )


def spread(values: list[float]) -> Spread:
    return Spread(
        len(values),
        round(quantile(values, 0.5), 3),
        round(quantile(values, 0.99), 3),
        round(max(values, default=0.0), 3),
    )


def judge_speed(verdict: Verdict, lease: float) -> None:
    """Adds a violation where jobs were taken over too late."""
    child, tree = spread(list(verdict.after_child)), spread(list(verdict.after_tree))
    if child.p99 >= CHILD_SECONDS:
        verdict.blame(
            Word.SLOW, f"after a worker process was killed: {child}; 99 of 100 must be under {CHILD_SECONDS:g} s"
        )
    if tree.max > lease + TREE_SECONDS:
        verdict.blame(Word.SLOW, f"after a tree was killed: {tree}; all must be under {lease + TREE_SECONDS:g} s")


def tested(kinds: Mapping[Kind, int], trees: int, verdict: Verdict) -> dict[str, int]:
    """The counters of faults; a run in which one of them is zero has tested nothing."""
    return {
        "worker processes killed": kinds.get(Kind.KILLED_CHILD, 0),
        "whole trees killed": trees,
        "trees stopped past the lease": kinds.get(Kind.CONTINUED, 0),
        "jobs in their bodies at a kill": verdict.in_flight,
        "requests lost": kinds.get(Kind.LOST_REQUEST, 0),
        "replies lost": kinds.get(Kind.LOST_REPLY, 0),
        "stale writes refused": kinds.get(Kind.FORGED_STALE, 0) + kinds.get(Kind.REFUSED, 0),
        "replays answered already": kinds.get(Kind.REPLAYED, 0) + kinds.get(Kind.FORGED_ALREADY, 0),
    }


def seen(kinds: Mapping[Kind, int], verdict: Verdict) -> dict[str, int]:
    """What is worth knowing and may be anything."""
    return {
        "enqueues acknowledged (jobs)": kinds.get(Kind.ACKNOWLEDGED, 0),
        "bodies started": verdict.starts,
        "… of them again (failed, killed, handed back)": verdict.starts - verdict.started_jobs,
        "… of them by a worker that woke up too late": verdict.zombie_starts,
        "splits composed": verdict.composes,
        "steps of operations completed": verdict.steps,
        "… of them undone": verdict.undone,
        "late words of woken workers, refused": kinds.get(Kind.REFUSED, 0),
        "processes of single jobs killed": kinds.get(Kind.KILLED_BELOW, 0),
        "stops lifted, for they held the store's lock": kinds.get(Kind.RELEASED_LOCK, 0),
        "parked or failed jobs retried by hand": kinds.get(Kind.DECIDED, 0),
    }


def make(
    verdict: Verdict,
    kinds: Mapping[Kind, int],
    *,
    trees: int,
    url: str,
    queue: str,
    seed: int,
    lease: float,
    seconds: float,
    stalls: float,
    load: float,
    folder: str | None,
) -> Report:
    """The report of a verdict."""
    return Report(
        url=url,
        queue=queue,
        seed=seed,
        lease=lease,
        seconds=round(seconds, 1),
        jobs={state.value: n for state, n in sorted(verdict.jobs.items())},
        seen=seen(kinds, verdict),
        tested=tested(kinds, trees, verdict),
        found={word.value: verdict.found[word] for word in Word},
        told={word.value: told for word, told in verdict.told.items() if told},
        after_child=spread(list(verdict.after_child)),
        after_tree=spread(list(verdict.after_tree)),
        after_several=spread(list(verdict.after_several)),
        load=round(load, 1),
        stalls=round(stalls, 3),
        folder=folder,
    )
