"""Two stores that are told the same: what every state machine of this room is made of.

`PIECEWORK_MODEL_EXAMPLES` and `PIECEWORK_MODEL_STEPS` make the search longer, for a soak.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from piecework.errors import PieceworkError
from piecework.job import Claim, Fetched, Filter, NewJob, Record, SessionRecord, State
from piecework.store import Store
from piecework.store.redis.store import RedisStore
from piecework.testing import FrozenClock, ModelStore

EXAMPLES = int(os.environ.get("PIECEWORK_MODEL_EXAMPLES", "300"))
STEPS = int(os.environ.get("PIECEWORK_MODEL_STEPS", "40"))

QUEUES = ("a", "b")
SESSIONS = ("s", "t")
WORKERS = ("s.1", "s.2", "t.1")


class Seen:
    """What a store says after a step, asked once: most of what a walk takes is reading, and checks read the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            asked = (verb, repr(args), repr(kwargs))
            if asked not in self._said:
                self._said[asked] = getattr(self._store, verb)(*args, **kwargs)
            return self._said[asked]

        return ask


class Twins(RuleBasedStateMachine):
    """Sends every call to a store and to the model."""

    fresh: Callable[[FrozenClock], Store]
    seen: Seen

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.model = ModelStore(clock=self.clock)
        self.store = type(self).fresh(self.clock)
        self.spread = isinstance(self.store, RedisStore) and len(self.store._set_up().shards) > 1
        self.number = 0
        self.sent: list[tuple[Any, ...]] = []  # calls of `add`, to be sent again
        self.batches: list[str] = []
        self.runs: list[Fetched] = []
        self.lives: Counter[str] = Counter()  # one of `WORKERS` → how many of its kind are over
        self.claims: dict[str, Claim] = {}

    def teardown(self) -> None:
        self.store.close()

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}{self.number}"

    def both(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Calls the verb on both and compares what they answer, or which error they raise."""
        theirs = answer_of(self.store, verb, args, kwargs)
        ours = answer_of(self.model, verb, args, kwargs)
        assert theirs == ours, f"{verb}: the store answers {theirs}, the model {ours}"
        return ours

    def add(self, jobs: list[NewJob], **fields: Any) -> Any:
        self.sent.append((jobs, fields))
        return self.both("add", jobs, **fields)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        jobs, fields = data.draw(st.sampled_from(self.sent))
        self.both("add", jobs, **fields)

    def bound(self, which: Filter, limit: int) -> int:
        """A limit for people's verbs: which jobs it leaves out is nobody's promise where they lie in several shards."""
        return 1000 if self.spread and which.ids is None else limit

    def pass_time(self, worker: str) -> None:
        """What is too late is cancelled by now. Where jobs lie in several shards, a claim that is sent again sees to that, too,
        in those from which it got nothing; elsewhere only a new one does."""
        if self.spread:
            self.number += 1
            self.both("fetch", Claim(self.named(worker), self.number, 1, ()))

    def know(self, batch: str) -> None:
        if batch not in self.batches:
            self.batches.append(batch)

    def claim(self, worker: str, limit: int, queues: tuple[str, ...] | None) -> Claim:
        self.number += 1
        self.claims[worker] = Claim(self.named(worker), self.number, limit, queues)
        return self.claims[worker]

    def named(self, worker: str) -> str:
        """What one of `WORKERS` is called in this life: nobody is called as one that was reaped."""
        session, _, number = worker.partition(".")
        return f"{session}.{int(number) + len(WORKERS) * self.lives[worker]}"

    def asked_again(self, worker: str) -> Claim | None:
        """A worker's last claim, if some of what it got runs: one of which nothing does any more is as good as new."""
        claim = self.claims.get(worker)
        if claim is None:
            return None
        got = self.model._t.claims.get((claim.worker, claim.number), ())
        return claim if any(self.model._owns(fence) for fence in got) else None

    def reap(self, worker: str, crashed: list[str], crash_limit: int) -> None:
        """It is over. What it asked for before, and arrives late, gets it nothing."""
        name = self.named(worker)
        self.both("reap", name, crashed=crashed, reason="died", crash_limit=crash_limit)
        self.both("fetch", self.claims.pop(worker, Claim(name, 0, 3)))
        assert self.both("holds", name) == []
        self.lives[worker] += 1

    def took(self, answer: Any) -> None:
        if isinstance(answer, list):
            self.runs += answer

    def has(self, *states: State) -> bool:
        return any(job.state in states for job in self.model.find(Filter(), limit=1000))

    def live(self) -> list[Fetched]:
        running = {(job.id, job.run) for job in self.model.find(Filter(state=State.RUNNING), limit=1000)}
        return [run for run in self.runs if (run.id, run.run) in running]

    def enlist(self, session: str) -> None:
        self.both("enlist", SessionRecord(id=session, beat=0, started_at=1.0, seen_at=1.0, name="", host="", pid=1))

    @invariant()
    def all_holds(self) -> None:
        self.seen = Seen(self.store)
        self.check()

    def check(self) -> None:
        """What must hold after every step, of what is `seen`."""
        raise NotImplementedError

    def check_rows(self) -> None:
        """Every row and counter of the one is that of the other."""
        theirs = [view(job) for job in self.seen.find(Filter(), limit=1000)]
        ours = [view(job) for job in self.model.find(Filter(), limit=1000)]
        for their, our in zip(theirs, ours, strict=False):
            assert their == our, {name: (their[name], our[name]) for name in our if their[name] != our[name]}
        assert len(theirs) == len(ours)
        for id in self.batches:
            assert self.seen.batch(id) == self.model.batch(id)
            assert self.both("pieces", id) is not None
        for id in (job["id"] for job in ours):
            assert history(self.seen, id) == history(self.model, id)
        assert {place: n for place, n in self.seen.counts().items() if n} == self.model.counts()
        assert self.seen.paused() == self.model.paused()
        assert self.seen.oldest_due() == self.model.oldest_due()
        assert self.seen.next_due() == self.model.next_due()
        assert beats(self.seen) == beats(self.model)


def answer_of(store: Store, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        answer = getattr(store, verb)(*args, **kwargs)
    except PieceworkError as error:
        return type(error).__name__
    if verb in ("report", "reap"):
        return sorted(answer)
    if verb == "pieces":
        return [(piece.ordinal, piece.key, piece.id, piece.state, piece.result) for piece in answer]
    return answer


def view(job: Record) -> dict[str, Any]:
    """What can be seen of a job, without the wording of reasons and errors."""
    shown = {name: getattr(job, name) for name in job.__struct_fields__}
    shown |= {"error": job.error and job.error.type, "reason": None}
    if job.state is not State.RUNNING:
        shown["worker"] = None
    if job.state is not State.AVAILABLE:
        shown["run_at"] = None
    return shown


def history(store: Store, id: str) -> list[tuple[Any, ...]]:
    lines = store.attempts(id)
    return sorted((line.run, line.outcome, line.attempt, line.cursor or "", line.changes) for line in lines)


def beats(store: Store) -> list[tuple[str, int]]:
    return sorted((session.id, session.beat) for session in store.sessions())


def examples_on(shelf: str) -> int:
    """How many histories: a store over a socket takes several times as long for each."""
    return EXAMPLES if shelf == "sqlite" else max(1, EXAMPLES // 10)


def walk_randomly(
    machine: type[Twins],
    fresh_store: Callable[[FrozenClock], Store],
    *,
    examples: int = EXAMPLES,
    phases: Collection[Phase] = tuple(Phase),
    start: int | None = None,
) -> None:
    """Random histories, compared after each step; the same ones each time where it is said from where they start."""

    class Machine(machine):  # type: ignore[misc, valid-type]
        fresh = staticmethod(fresh_store)

    if start is not None:
        seed(start)(Machine)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=True,
            phases=phases,
        ),
    )
