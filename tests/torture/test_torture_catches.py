"""Defects that are planted in a store, and the words with which the verdict must tell them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from torturekit import Small, words

from piecework.job import Answer, NewJob, PieceResult, Record, State
from piecework.outcome import Settlement
from piecework.testing import ModelStore
from piecework.torture.ledger import Kind
from piecework.torture.verdict import Word

Make = Callable[..., Small]


def test_a_sound_store_is_found_sound_behind_a_bad_line(small: Make) -> None:
    torture = small(ModelStore(), lose=0.1, forge=0.5)
    torture.mix()
    torture.run()
    verdict = torture.verdict()
    assert verdict.told == {word: [] for word in Word}
    assert verdict.jobs == {State.COMPLETED: 65 + 2 + 15, State.FAILED: 2 + 1, State.CANCELLED: 1}
    assert (verdict.steps, verdict.undone) == (8 + 6 + 7, 5)
    assert verdict.composes == 3 * 2 + 1
    tried = {Kind.LOST_REQUEST, Kind.LOST_REPLY, Kind.FORGED_STALE, Kind.FORGED_ALREADY}
    assert {kind for kind in tried if not torture.kinds[kind]} == set()
    assert torture.kinds[Kind.FORGED_OK] == 0


class NoFence(ModelStore):
    """Takes the settlement of any run of a job that runs."""

    def _settle(self, s: Settlement) -> Answer:
        return super()._settle(replace(s, run=self._t.jobs[s.id].run))


def test_a_store_without_a_fence(small: Make) -> None:
    torture = small(NoFence(), forge=0.5)
    torture.enqueue(*[torture.jobs.flaky.piece(1)] * 20)
    torture.run()
    assert Word.ACCEPTED in words(torture.verdict())


class LosesAnEnqueue(ModelStore):
    """Acknowledges a job that it does not store."""

    def add(self, jobs: Sequence[NewJob], **more: Any) -> list[str]:
        super().add(jobs[1:], **more)
        return [job.id for job in jobs]


def test_a_lost_enqueue(small: Make) -> None:
    torture = small(LosesAnEnqueue())
    lost, *_ = torture.enqueue(*[torture.jobs.noop.piece()] * 5)
    torture.run()
    verdict = torture.verdict()
    assert words(verdict) == {Word.LOST}
    assert [lost in sentence for sentence in verdict.told[Word.LOST]] == [True]


class GivesOutAgain(ModelStore):
    """Returns the first job of a task to its queue once it has completed."""

    task = "torture.noop"

    def _settle(self, s: Settlement) -> Answer:
        answer = super()._settle(s)
        job = self._t.jobs[s.id]
        if answer is Answer.OK and s.state is State.COMPLETED and job.task == self.task:
            self.task = "none any more"
            self._set_job(s.id, state=State.AVAILABLE, finished_at=None)
        return answer


def test_a_job_that_returns_after_its_completion(small: Make) -> None:
    torture = small(GivesOutAgain())
    torture.enqueue(*[torture.jobs.noop.piece()] * 5)
    torture.run()
    verdict = torture.verdict()
    assert words(verdict) == {Word.AGAIN, Word.TWICE}
    assert verdict.found[Word.AGAIN] == 1
    named = {sentence.split()[1] for told in verdict.told.values() for sentence in told}
    assert len(named) == 1


class ComposesAgain(GivesOutAgain):
    task = "torture.mixed"


def test_a_compose_that_is_released_twice(small: Make) -> None:
    torture = small(ComposesAgain())
    torture.mix()
    torture.run()
    assert words(torture.verdict()) == {Word.COMPOSE, Word.AGAIN}


class ComposesEarly(ModelStore):
    """Releases the compose with the seal, whatever pieces are open."""

    def _seal(self, batch: str) -> None:
        super()._seal(batch)
        self._set_job(batch, state=State.AVAILABLE)


def test_a_compose_that_begins_before_the_last_piece_ended(small: Make) -> None:
    torture = small(ComposesEarly())
    torture.enqueue(torture.jobs.nest.piece(1, 6))
    torture.run()
    verdict = torture.verdict()
    assert Word.COMPOSE in words(verdict)
    assert any("before its last piece" in sentence for sentence in verdict.told[Word.COMPOSE])


class NeverComposes(ModelStore):
    """Forgets that a batch is sealed."""

    def _seal(self, batch: str) -> None:
        pass


def test_a_compose_that_is_never_released(small: Make) -> None:
    torture = small(NeverComposes())
    (split,) = torture.enqueue(torture.jobs.mixed.piece(2))
    torture.run(until_state=lambda: torture.store.counts().get(("torture-test", "completed"), 0) == 2)
    verdict = torture.verdict()
    assert words(verdict) == {Word.STUCK}
    assert f"torture.mixed {split} " in verdict.told[Word.STUCK][0]


class Invents(ModelStore):
    """Records a job that nobody ran."""

    def add(self, jobs: Sequence[NewJob], **more: Any) -> list[str]:
        ids = super().add(jobs, **more)
        self._set_job(ids[0], state=State.COMPLETED, run=1, finished_at=1.0)
        return ids


def test_a_completion_without_a_body(small: Make) -> None:
    torture = small(Invents())
    torture.enqueue(*[torture.jobs.noop.piece()] * 3)
    torture.run()
    assert words(torture.verdict()) == {Word.LOST}


class Miscounts(ModelStore):
    def counts(self) -> dict[tuple[str, str], int]:
        return {line: n + 1 for line, n in super().counts().items()}


def test_counters_that_differ_from_the_rows(small: Make) -> None:
    torture = small(Miscounts())
    torture.enqueue(torture.jobs.noop.piece())
    torture.run()
    assert words(torture.verdict()) == {Word.COUNTS}


class DropsAPiece(ModelStore):
    """Shows a compose all pieces but the last."""

    def pieces(self, batch: str, **more: Any) -> list[PieceResult]:
        return super().pieces(batch, **more)[:-1]


def test_a_compose_that_does_not_see_every_piece(small: Make) -> None:
    torture = small(DropsAPiece())
    torture.enqueue(torture.jobs.nest.piece(1, 4))
    torture.run()
    verdict = torture.verdict()
    assert words(verdict) == {Word.WRONG}
    assert "its compose returned 3" in verdict.told[Word.WRONG][0]


class RecordsWithoutMoving(ModelStore):
    """Keeps the line of a step that has completed, and forgets to move the operation on."""

    left = 1

    def _record(self, job: Record, s: Settlement) -> None:
        super()._record(job, s)
        if s.history == "completed" and self.left:
            self.left -= 1
            self._set_job(s.id, cursor=job.cursor)


def test_a_step_that_runs_again_after_its_completion(small: Make) -> None:
    torture = small(RecordsWithoutMoving())
    torture.enqueue(torture.jobs.steps.piece(1))
    torture.run()
    assert {Word.STEP_AGAIN, Word.FORKED} <= words(torture.verdict())


class StopsUndoing(ModelStore):
    """Says after the first undo that nothing is left to be undone."""

    def _settle(self, s: Settlement) -> Answer:
        if s.history != "undone":
            return super()._settle(s)
        answer = super()._settle(replace(s, cursor="undo/1", state=State.AVAILABLE))
        return Answer.LET_GO if answer is Answer.OK else answer


def test_an_undoing_that_is_not_whole(small: Make) -> None:
    torture = small(StopsUndoing())
    torture.enqueue(torture.jobs.steps.piece(1, doomed=True))
    torture.run()
    verdict = torture.verdict()
    assert words(verdict) == {Word.UNDO}
    assert "the visits [1, 2] were not" in verdict.told[Word.UNDO][0]


@pytest.mark.parametrize(("reason", "expected"), [(None, {Word.LOST}), ("its worker died 3 times", set())])
def test_a_parked_job_needs_a_reason(small: Make, reason: str | None, expected: set[Word]) -> None:
    torture = small(ModelStore())
    (id,) = torture.enqueue(torture.jobs.noop.piece())
    torture.store._set_job(id, state=State.PARKED, reason=reason)
    assert words(torture.verdict()) == expected
