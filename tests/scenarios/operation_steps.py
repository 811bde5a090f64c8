"""Steps that note that they ran, and what the tests of operations ask of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from piecework import Operation, Step


def told(op: Operation[Any]) -> list[tuple[str, int, str, int]]:
    """The attempts of its steps: name, visit, outcome, attempt."""
    return [(run.name, run.visit, run.outcome, run.attempt) for run in op.runs()]


def names(op: Operation[Any]) -> list[str]:
    """The steps that have completed, in order."""
    return [run.name for run in op.runs() if run.outcome == "completed"]


class Steps:
    """Steps that note that they ran, and do what a test wants of them."""

    def __init__(self, *names: str) -> None:
        self.ran: list[str] = []
        self.acts: dict[str, Callable[[Step[Any]], object]] = {}
        self.made = {name: self._make(name) for name in names}

    def _make(self, name: str) -> Callable[[Step[Any]], None]:
        def function(step: Step[Any]) -> None:
            self.ran.append(name)
            self.acts.get(name, lambda step: None)(step)

        function.__name__ = name
        return function

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["made"][name]
        except KeyError:
            raise AttributeError(name) from None
