"""The bad line: what is lost was or was not applied, and what is forged is written down with the store's answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from piecework.errors import StoreUnavailable
from piecework.job import Answer, Claim, Filter, NewJob, SessionRecord, State
from piecework.outcome import Settlement
from piecework.store import Store
from piecework.testing import ModelStore
from piecework.torture.dice import Dice
from piecework.torture.faulty import faulty
from piecework.torture.ledger import Kind, Ledger, read, unpacked
from piecework.torture.load import insist

IDS = [f"01900000-0000-7000-8000-00000000000{n}" for n in range(5)]


class Loaded(Dice):
    """Dice that say what they are told to, and no for ever after."""

    def __init__(self, *throws: bool) -> None:
        super().__init__(0)
        self._throws = list(throws)

    def happens(self, share: float) -> bool:
        return bool(share) and bool(self._throws) and self._throws.pop(0)


@pytest.fixture
def model() -> ModelStore:
    store = ModelStore()
    store.enlist(SessionRecord(id="s", beat=0, started_at=0, seen_at=0, name="", host="", pid=1))
    return store


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def kinds(ledger: Ledger) -> Counter[Kind]:
    return Counter(entry.kind for entry in read(ledger.path))


def jobs(n: int) -> list[NewJob]:
    return [NewJob(id, "some.task", "{}") for id in IDS[:n]]


def done(id: str, run: int = 1) -> Settlement:
    return Settlement(id, run, State.COMPLETED, 1, "default")


def test_a_lost_request_was_not_applied(model: ModelStore, ledger: Ledger) -> None:
    with pytest.raises(StoreUnavailable, match="request of add"):
        faulty(model, ledger, Loaded(True), lose=1.0).add(jobs(1))
    assert model.counts() == {}
    assert kinds(ledger) == {Kind.LOST_REQUEST: 1}


def test_a_lost_reply_was_applied(model: ModelStore, ledger: Ledger) -> None:
    with pytest.raises(StoreUnavailable, match="reply to add"):
        faulty(model, ledger, Loaded(False, True), lose=1.0).add(jobs(1))
    assert model.counts() == {("default", "available"): 1}
    assert kinds(ledger) == {Kind.LOST_REPLY: 1}


@pytest.mark.parametrize("call", [lambda s: s.get([]), lambda s: s.renew("s"), lambda s: s.find(Filter())])
def test_every_verb_can_be_lost(model: ModelStore, ledger: Ledger, call: Callable[[Store], object]) -> None:
    with pytest.raises(StoreUnavailable):
        call(faulty(model, ledger, Loaded(True), lose=1.0))


def test_insisting_brings_it_through_once(model: ModelStore, ledger: Ledger) -> None:
    line = faulty(model, ledger, Loaded(True, False, True, True), lose=1.0)
    assert insist(lambda: line.add(jobs(3))) == IDS[:3]
    assert model.counts() == {("default", "available"): 3}


def test_a_replayed_settlement_is_written_down(model: ModelStore, ledger: Ledger) -> None:
    model.add(jobs(2))
    line = faulty(model, ledger, Loaded(), lose=1.0)
    line.exchange([], Claim("s.1", 1, 2))
    assert line.settle([done(IDS[0])]) == [Answer.OK]
    assert line.settle([done(IDS[0]), done(IDS[1], run=7)]) == [Answer.ALREADY, Answer.STALE]
    assert [(e.kind, unpacked(e.job), e.run) for e in read(ledger.path)] == [
        (Kind.RECORDED, IDS[0], 1),
        (Kind.REPLAYED, IDS[0], 1),
        (Kind.REFUSED, IDS[1], 7),
    ]


def test_a_ghost_of_an_older_run_is_sent_and_refused(model: ModelStore, ledger: Ledger) -> None:
    model.add(jobs(1))
    line = faulty(model, ledger, Loaded(True), lose=0.0, forge=1.0)
    _, (job,) = line.exchange([], Claim("s.1", 1, 1))
    assert [(e.kind, e.run) for e in read(ledger.path)] == [(Kind.FORGED_STALE, 0)]
    assert model.get([job.id])[0].state is State.RUNNING


def test_a_ghost_of_a_recorded_run_is_sent_later(model: ModelStore, ledger: Ledger) -> None:
    model.add(jobs(4))
    throws = (False, True, True, False, True)  # no ghost; two are kept; then the older of them is sent
    line = faulty(model, ledger, Loaded(*throws), lose=0.0, forge=1.0)
    line.exchange([], Claim("s.1", 1, 3))
    line.settle([done(IDS[0])])
    line.settle([done(IDS[1])])
    before = model.get(IDS)
    line.exchange([], Claim("s.1", 2, 1))
    assert kinds(ledger) == {Kind.RECORDED: 2, Kind.FORGED_ALREADY: 1}
    assert model.get(IDS)[:2] == before[:2]


def test_an_accepted_ghost_is_written_down(model: ModelStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "settle", lambda settlements: [Answer.OK for _ in settlements])
    model.add(jobs(1))
    faulty(model, ledger, Loaded(True), lose=0.0, forge=1.0).exchange([], Claim("s.1", 1, 1))
    assert kinds(ledger)[Kind.FORGED_OK] == 1


def test_a_hint_cannot_be_lost(model: ModelStore, ledger: Ledger) -> None:
    line = faulty(model, ledger, Loaded(True), lose=1.0)
    assert line.wait(0.0) in (True, False)
    assert line.url == model.url
