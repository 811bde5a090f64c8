"""Operations as they are declared: the plan, and for each of its steps what to call and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from piecework.job import OnFailure, Wait
from piecework.options import TaskOptions
from piecework.plan import Plan
from piecework.registry import Compose, TaskSpec

MIN_LIMIT, LIMIT_FACTOR = 1000, 10  # how many visits an operation has, unless it says so: ten for each of its steps


class StepSpec(msgspec.Struct):
    """One step: what is called, and how.

    `kind` is "plain" (a def that takes the step), "async", "pieces" (a generator of pieces that takes the step; `compose`
    joins them), "task" (a registered task or split; its arguments are the globals of its parameters' names, its result
    becomes the global `into`), or "wait" (nothing is called: it ends when its signal has come).
    """

    name: str
    kind: str
    function: Callable[..., Any] | None = None
    options: Mapping[str, Any] = {}  # what it says other than its operation
    undo: StepSpec | None = None
    delay: float | None = None  # seconds after the step before it
    at: float | None = None  # or the moment itself
    wait: Wait | None = None
    task: TaskSpec | None = None
    compose: Compose | None = None
    on_failure: OnFailure = OnFailure.FINISH
    into: str | None = None


class OperationSpec(msgspec.Struct):
    """A declared operation. `steps` has every step by its name, those too that only older plans have; `aliases` leads
    from the names that steps had before to those that they have.
    """

    name: str
    plan: Plan
    steps: dict[str, StepSpec]
    options: TaskOptions
    aliases: dict[str, str] = {}
    state: type | None = None
    max_steps: int = MIN_LIMIT
    names: Callable[[Any], str | None] = lambda target: None  # the name of a step's function or class
    digest: str = ""
    undoes: bool = False  # whether any step has an undo

    def __post_init__(self) -> None:
        self.digest = self.plan.digest
        self.undoes = any(step.undo is not None for step in self.steps.values())

    def step(self, name: str) -> StepSpec | None:
        """The step of a name, or of one that it had before."""
        return self.steps.get(name) or self.steps.get(self.aliases.get(name, ""))
