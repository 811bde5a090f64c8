"""A session is buried after a whole lease of silence and not before; and what may be somebody else's is not begun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from piecework import Piece, Pieces, Piecework
from piecework.engine.keeper import Keeper
from piecework.engine.runner import Runner
from piecework.engine.worker import Worker
from piecework.errors import StoreUnavailable
from piecework.job import Claim, SessionRecord
from piecework.outcome import Complete, Release
from piecework.store.protocol import Store
from piecework.testing import FrozenClock, ModelStore

LEASE = 20.0


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


class Slow:
    """A store of which one verb takes its time, and during which something happens."""

    def __init__(self, store: Any, clock: FrozenClock) -> None:
        self._store = store
        self._clock = clock
        self.slow: dict[str, float] = {}
        self.meanwhile: Any = None

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._clock.advance(self.slow.pop(verb, 0.0))
            if self.meanwhile is not None:
                happens, self.meanwhile = self.meanwhile, None
                happens()
            return getattr(self._store, verb)(*args, **kwargs)

        return call


def test_a_slow_look_at_the_sessions_does_not_make_them_older(clock: FrozenClock) -> None:
    """The other session beats while the look is on its way, and is silent for less than a lease after that."""
    model = ModelStore(clock=clock)
    store = Slow(model, clock)
    model.enlist(SessionRecord(id="other", beat=0, started_at=0.0, seen_at=0.0, name="", host="", pid=1))
    keeper = Keeper(cast(Store, store), clock, name="keeper", lease=LEASE, draw=lambda: 0.5)
    keeper.enlist()
    clock.advance(5.0)
    store.slow = {"sessions": 9.0}
    store.meanwhile = None
    keeper.turn()  # asked at 5, answered at 14 with a beat of then
    for _ in range(3):
        clock.advance(4.9)
        keeper.turn()
    assert [session.id for session in model.sessions()] == ["other", keeper.session]  # at 28.7: silent for 14.7 s
    clock.advance(5.0)
    keeper.turn()
    clock.advance(5.0)
    keeper.turn()
    assert [session.id for session in model.sessions()] == [keeper.session]


def test_after_a_pause_of_its_own_a_keeper_gives_every_session_a_whole_lease_anew(clock: FrozenClock) -> None:
    """The machine slept: the others could not beat either, and their first beat may come a moment after this look."""
    model = ModelStore(clock=clock)
    model.enlist(SessionRecord(id="other", beat=0, started_at=0.0, seen_at=0.0, name="", host="", pid=1))
    keeper = Keeper(model, clock, name="keeper", lease=LEASE, draw=lambda: 0.5)
    keeper.enlist()
    clock.advance(5.0)
    keeper.turn()
    clock.advance(10 * LEASE)
    for _ in range(4):
        keeper.turn()
        assert "other" in [session.id for session in model.sessions()]
        clock.advance(5.0)
    keeper.turn()
    assert [session.id for session in model.sessions()] == [keeper.session]


def test_a_beat_vouches_from_before_it_was_sent(clock: FrozenClock) -> None:
    """The store may have noted a slow one at its beginning, and others count from there."""
    store = Slow(ModelStore(clock=clock), clock)
    keeper = Keeper(cast(Store, store), clock, name="keeper", lease=LEASE, draw=lambda: 0.5)
    clock.advance(3.0)
    store.slow = {"enlist": 7.0}
    keeper.enlist()
    assert (keeper.beaten_at, clock.monotonic()) == (3.0, 10.0)
    clock.advance(5.0)
    store.slow = {"renew": 9.0}
    keeper.turn()
    assert (keeper.beaten_at, clock.monotonic()) == (15.0, 24.0)


class Mute:
    """A store that begins a session, and whose answer to that is lost."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    def enlist(self, session: SessionRecord) -> None:
        self._store.enlist(session)
        raise StoreUnavailable("the answer was lost")


def test_a_session_whose_begin_was_not_answered_is_nobodys(clock: FrozenClock) -> None:
    """Whoever worked in it would be vouched for by the beats of the session that is begun next."""
    model = ModelStore(clock=clock)
    keeper = Keeper(cast(Store, Mute(model)), clock, name="keeper", lease=LEASE, draw=lambda: 0.5)
    with pytest.raises(StoreUnavailable):
        keeper.enlist()
    assert len(model.sessions()) == 1
    assert keeper.session == ""


@pytest.fixture
def app() -> Piecework:
    return Piecework("sqlite://:memory:")


@pytest.fixture
def composed(app: Piecework) -> list[int]:
    """How many pieces each compose that was begun has met."""
    met: list[int] = []

    @app.split(name="nothing")
    def nothing() -> Iterator[Piece[Any]]:
        yield from ()

    @nothing.compose
    def join(pieces: Pieces[Any]) -> None:
        met.append(len(pieces))

    return met


@pytest.mark.parametrize(("slow", "begun"), [(LEASE - 1, True), (LEASE + 1, False)])
def test_a_compose_whose_batch_took_longer_to_read_than_the_lease_is_not_begun(
    app: Piecework, clock: FrozenClock, composed: list[int], slow: float, begun: bool
) -> None:
    model = ModelStore(clock=clock)
    store = Slow(model, clock)
    model.enlist(SessionRecord(id="s", beat=0, started_at=0.0, seen_at=0.0, name="", host="", pid=1))
    app.store = model
    runner = Runner(app.registry, cast(Store, store), clock)
    app.task_of(app.registry["nothing"]).later()
    worker = Worker(app.registry, model, clock, name="s.1", concurrency=1, burst=False)
    (run,) = model.fetch(Claim("s.1", 1, 1))
    prepared = runner.prepare(run)
    model.settle([worker._settlement(prepared, runner.run(prepared))])  # type: ignore[arg-type]
    (run,) = model.fetch(Claim("s.1", 2, 1))
    runner.begin_until = clock.monotonic() + LEASE
    store.slow = {"batch": slow}
    outcome = runner.run(runner.prepare(run))  # type: ignore[arg-type]
    worker._pools.close()
    assert isinstance(outcome, Complete if begun else Release)
    assert composed == ([0] if begun else [])


def test_a_worker_whose_session_fell_silent_begins_nothing_though_it_reaches_the_store_itself(
    app: Piecework, clock: FrozenClock
) -> None:
    """Its supervisor stands still, so others may have buried the session and completed what this worker holds."""
    worker = Worker(app.registry, ModelStore(clock=clock), clock, name="s.1", concurrency=1, lease=LEASE)
    worker.beaten(clock.monotonic())
    worker._lease.reached()
    assert worker._runner.begin_until == clock.monotonic() + LEASE
    clock.advance(LEASE - 1)
    worker._lease.reached()  # a trip of its own
    assert worker._runner.begin_until == clock.monotonic() + 1
    clock.advance(2)
    assert worker._room() == 0, "it asks for nothing that it would not begin"
    worker.beaten(clock.monotonic())
    assert worker._runner.begin_until == clock.monotonic() + LEASE - 2  # its own last trip is as old
    assert worker._room() == 1
    worker._pools.close()
