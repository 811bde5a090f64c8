"""Distributed jobs by chance: every store answers as the model does, and keeps the same, whatever is said in whatever order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from piecework.errors import PieceworkError
from piecework.job import ErrorInfo, Filter, NewJob
from piecework.parts import DistributedRecord, Done, PartEnd, PartState, Push, Resumed
from piecework.store.protocol import Parts, Store
from piecework.testing import FrozenClock, ModelStore
from piecework.testing.model.parts import ModelParts

TOKENS, NAMES, RUNS = ("a", "b"), ("0", "1", "2", "é"), ("p", "q")
STEPS = 120


def draw(chance: random.Random, follow_ups: int) -> Callable[[Parts], Any]:
    """One call of a verb, the same for every store."""
    token, run = chance.choice(TOKENS), chance.choice(RUNS)
    names = tuple(chance.choices(NAMES, k=chance.randint(0, 4)))
    ttl = chance.choice((None, 5.0, 50.0))
    close = chance.choice((None, None, len(set(names)), len(NAMES), chance.randint(0, 4)))
    jobs = [None if chance.random() < 0.5 else NewJob(id=f"{which}{follow_ups}", task="t", args="[]") for which in "to"]
    push = Push(
        token=token,
        producer=run,
        parts=names,
        begins=chance.random() < 0.7,
        close=close,
        complete=close is not None and chance.random() < 0.5,
        ttl=ttl,
        expected=chance.choice((None, 9)),
        then=jobs[0],
        otherwise=jobs[1],
    )
    error = ErrorInfo("E", f"error {follow_ups}")
    left_with = chance.choice((None, error))
    ends = [
        PartEnd(
            chance.choice(NAMES),
            f"c{chance.randint(0, 9)}",
            chance.choice((None, "7")),
            chance.choice((None, None, error)),
        )
        for _ in range(chance.randint(1, 3))
    ]
    call = chance.choice((None, f"v{follow_ups}"))
    verbs: list[tuple[int, Callable[[Parts], Any]]] = [
        (6, lambda parts: parts.push(push)),
        (2, lambda parts: parts.leave(token, run, left_with)),
        (9, lambda parts: parts.end(token, ends, ttl=ttl)),
        (1, lambda parts: parts.stop(token, "why", call=call, by="ann", ttl=ttl)),
        (2, lambda parts: parts.resume(token, call=call)),
        (1, lambda parts: parts.forget([token], call=call)),
    ]
    return chance.choices([verb for _, verb in verbs], [weight for weight, _ in verbs])[0]


def said(call: Callable[[Parts], Any], store: Store) -> Any:
    """What a store answers, or how it refuses."""
    try:
        return call(store.parts)
    except PieceworkError as error:
        return type(error), str(error)


def kept(store: Store) -> Any:
    """All that can be read of a store."""
    parts = store.parts
    return (
        parts.find(newest=False),
        [parts.read(token) for token in TOKENS],
        [[parts.parts(token, state=state) for state in (None, *PartState)] for token in TOKENS],
        [[parts.part(token, name) for name in NAMES] for token in TOKENS],
        sorted(job.id for job in store.find(Filter(), limit=1000)),
    )


def walks(store: Store, clock: FrozenClock) -> None:
    for seed in range(4):
        walk(store, clock, seed)


def walk(store: Store, clock: FrozenClock, seed: int) -> None:
    """Says the same to a store and to the model, and compares what they answer and keep."""
    chance = random.Random(seed)
    model = ModelStore(clock=clock)
    moved: set[str] = set()
    for step in range(STEPS):
        call = draw(chance, step)
        for _ in range(chance.choice((1, 1, 2))):  # sent again, now and then
            expected = said(call, model)
            assert said(call, store) == expected, (seed, step)
        if step % 5 == 0 or step == STEPS - 1:
            assert kept(store) == kept(model), (seed, step)
        moved |= {str(job.state) for job in model.parts.find()}
        clock.advance(chance.choice((0.0, 1.0, 20.0)))
    assert len(moved) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_store_does_what_the_model_does(store: Store, clock: FrozenClock, seed: int) -> None:
    walk(store, clock, seed)


class CountsOnlyCalls(ModelParts):
    """Forgets by which call a part ended."""

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        return super().end(token, [replace(end, call=f"{n}") for n, end in enumerate(ends)], ttl=ttl)


class StoresNothing(ModelParts):
    """Loses what follows."""

    def _set(self, before: DistributedRecord | None, after: DistributedRecord) -> None:
        self._store._t.distributed[after.token] = after


class ForgetsStops(ModelParts):
    """A stopped job is forgotten once its time is over."""

    def _is_over(self, job: DistributedRecord) -> bool:
        return super()._is_over(job) or (job.stopped_at or self._store.now()) + job.ttl < self._store.now()


class ForgetsCalls(ModelParts):
    """Takes a call that is sent again for another."""

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        return super().resume(token)


@pytest.mark.parametrize("bad", [CountsOnlyCalls, StoresNothing, ForgetsStops, ForgetsCalls])
def test_a_store_that_does_something_else_is_found(
    bad: type[ModelParts], clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(clock=clock)
    monkeypatch.setattr(type(store), "parts", property(lambda self: bad(self) if self is store else ModelParts(self)))
    with pytest.raises(AssertionError):
        walks(store, clock)
