"""How a call that adds jobs is cut into steps, before any shelf sees it."""

from __future__ import annotations

import pytest

from piecework.store.sql import adding
from piecework.testing.conformance.kit import a_job


def test_neighbours_that_are_alike_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "BITE", 3)
    jobs = [a_job(queue=queue) for queue in "aaaaabba"]
    bites = list(adding.bites(jobs))
    assert [[job.queue for job in bite] for bite in bites] == [["a", "a", "a"], ["a", "a"], ["b", "b"], ["a"]]
    assert [job for bite in bites for job in bite] == jobs


def test_no_step_has_more_arguments_than_a_database_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "BYTES", 100)
    sizes = [40, 40, 20, 1, 500, 99, 1, 1]
    jobs = [a_job(args="x" * size) for size in sizes]
    bites = list(adding.bites(jobs))
    assert [[len(job.args) for job in bite] for bite in bites] == [[40, 40, 20], [1], [500], [99, 1], [1]]
    assert [job for bite in bites for job in bite] == jobs
