"""How long a supervisor waits before it replaces a dead worker process."""

from __future__ import annotations

from piecework.engine.respite import Respite


def test_a_few_young_deaths_are_replaced_at_once() -> None:
    respite = Respite()
    assert [respite.after(0.1) for _ in range(5)] == [0.0] * 5


def test_processes_that_die_young_in_a_row_wait_longer_and_longer() -> None:
    respite = Respite()
    waits = [respite.after(0.0) for _ in range(1100)][5:]
    assert waits[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert set(waits[6:]) == {10.0}


def test_processes_that_had_worked_are_replaced_at_once_however_many_are_killed() -> None:
    """An outside killer is no reason to keep the jobs waiting."""
    respite = Respite()
    assert {respite.after(1.5) for _ in range(100)} == {0.0}


def test_one_that_worked_ends_the_row() -> None:
    respite = Respite()
    for _ in range(20):
        respite.after(0.0)
    assert respite.after(60.0) == 0.0
    assert [respite.after(0.0) for _ in range(6)] == [0.0] * 5 + [0.2]
