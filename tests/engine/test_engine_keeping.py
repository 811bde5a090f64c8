"""The keeper's tidying: bites with pauses between them, and beats that go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from tests.support import until

from piecework import Piecework
from piecework.config import DAY
from piecework.engine import keeper as keeping
from piecework.engine.keeper import Keeper
from piecework.job import SessionRecord
from piecework.testing import FrozenClock


@dataclass
class Recorded:
    """A store that notes what a keeper asks of it; a bite takes as long as it is told."""

    clock: FrozenClock
    backlog: int = 0
    bite_takes: float = 0.001
    beats: int = 0
    repairs: int = 0
    bites: list[tuple[float, int, float]] = field(default_factory=list)  # when, how many at most, before

    def enlist(self, session: SessionRecord) -> None: ...

    def sessions(self) -> list[SessionRecord]:
        return []

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        self.beats += 1
        return True

    def repair(self, *, limit: int = 10) -> list[str]:
        self.repairs += 1
        return []

    def prune(self, *, before: float, limit: int = 1000) -> int:
        self.bites.append((self.clock.monotonic(), limit, before))
        self.clock.advance(self.bite_takes)
        n = min(limit, self.backlog)
        self.backlog -= n
        return n


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> Recorded:
    return Recorded(clock)


@pytest.fixture
def live(clock: FrozenClock, store: Recorded) -> Callable[..., None]:
    """Lets a keeper live for some seconds of the clock, called exactly when it says that it has something to do."""

    def live(seconds: float, keep: float | None = 7 * DAY) -> None:
        keeper = Keeper(store, clock, name="test", keep_completed=keep, draw=lambda: 0.5)  # type: ignore[arg-type]
        keeper.enlist()
        end = clock.monotonic() + seconds
        while clock.monotonic() < end:
            clock.advance(keeper.next_turn())
            assert keeper.turn()

    return live


def pauses(store: Recorded) -> list[float]:
    """Seconds from the end of one bite to the beginning of the next."""
    times = [at for at, _, _ in store.bites]
    return [after - at - store.bite_takes for at, after in pairwise(times)]


def test_what_ended_is_kept_for_as_long_as_was_said(live: Callable[..., None], store: Recorded) -> None:
    live(100)
    assert [round(store.clock._start + at - before) for at, _, before in store.bites] == [7 * DAY, 7 * DAY]


def test_without_an_end_of_the_keep_nothing_is_pruned(live: Callable[..., None], store: Recorded) -> None:
    live(300, keep=None)
    assert store.bites == []
    assert store.repairs == 5


def test_where_there_is_little_to_prune_it_looks_once_a_minute(live: Callable[..., None], store: Recorded) -> None:
    store.backlog = 30
    live(300)
    assert [round(at) for at, _, _ in store.bites] == [30, 90, 150, 210, 270]


def test_after_a_full_bite_another_follows_soon_but_not_at_once(live: Callable[..., None], store: Recorded) -> None:
    store.backlog = 20_000
    live(35)
    assert store.backlog == 0
    assert min(pauses(store)) >= keeping.BITE_PAUSE
    assert max(pauses(store)) < 1
    assert store.repairs == 1


def test_bites_that_take_long_become_small_and_pauses_long(live: Callable[..., None], store: Recorded) -> None:
    """A bite takes long where others write too: they are let through first."""
    store.backlog, store.bite_takes = 20_000, 0.1
    live(34.5)
    sizes = [limit for _, limit, _ in store.bites]
    assert sizes[0] == keeping.LARGEST_BITE
    assert sizes[-1] == min(sizes) == keeping.SMALLEST_BITE
    assert min(pauses(store)) >= 0.399
    store.bite_takes = 0.001
    store.bites.clear()
    live(70)
    assert store.bites[-1][1] == keeping.LARGEST_BITE


def test_who_does_not_come_to_the_end_goes_faster(live: Callable[..., None], store: Recorded) -> None:
    """Where jobs end faster than they are deleted, a store in memory would be full one day."""
    store.backlog, store.bite_takes = 10**9, 0.1
    live(70)
    sizes = [limit for _, limit, _ in store.bites]
    assert keeping.SMALLEST_BITE in sizes
    assert sizes[-1] == 32 * keeping.SMALLEST_BITE
    assert pauses(store)[-1] == pytest.approx(keeping.BITE_PAUSE)
    within = [limit for at, limit, _ in store.bites if at < store.bites[0][0] + 30]
    assert within[-1] == sizes[-1]
    store.backlog = 700
    store.bites.clear()
    live(120)
    assert min(pauses(store)) >= 0.399


def test_who_made_haste_looks_again_soon(live: Callable[..., None], store: Recorded) -> None:
    """The flow that made for it goes on; a minute of it is a mountain anew."""
    store.backlog, store.bite_takes = 3000, 0.1
    live(140)
    ends = [at for at, _, _ in store.bites if at > 31]
    assert sum(n >= keeping.HASTE_SECONDS - 0.01 and n < 2 * keeping.HASTE_SECONDS for n in pauses(store)) == 1
    assert store.repairs == 2
    assert ends[-1] - ends[-2] > 20


def test_a_flow_that_one_process_can_make_is_kept_pace_with(live: Callable[..., None], store: Recorded) -> None:
    """Ten thousand jobs end in a second, and a bite is held up for 0.1 s by all those who store and take them."""
    store.bite_takes, ended = 0.1, 10_000.0
    prune, came = store.prune, 0.0

    def flowing(*, before: float, limit: int = 1000) -> int:
        nonlocal came
        now = store.clock.monotonic()
        store.backlog, came = store.backlog + int((now - came) * ended), now
        return prune(before=before, limit=limit)

    store.prune = flowing  # type: ignore[method-assign]
    live(600)
    assert store.backlog < 90 * ended


def test_a_long_backlog_does_not_stop_the_beat(live: Callable[..., None], store: Recorded) -> None:
    store.backlog, store.bite_takes = 10**9, 0.05
    live(120)
    assert store.beats >= 22
    assert len(store.bites) > 100


def test_a_worker_prunes_by_itself(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention needs no service of its own and no call of the user's."""
    monkeypatch.setattr(keeping, "TIDY_SECONDS", 0.01)
    app = Piecework(store_url, keep_completed=0)

    @app.task
    def fine() -> None: ...

    @app.task(attempts=1)
    def bad() -> None:
        raise ValueError("no")

    jobs = [*fine.later_many([()] * 20), bad.later()]
    with app.worker():
        until(lambda: app.jobs.counts() == {("default", "failed"): 1}, lambda: str(app.jobs.counts()))
    assert [job.id for job in app.jobs.where()] == [jobs[-1].id]
    app.close()
