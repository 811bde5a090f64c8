"""Operations declared and started by hand, as the engine and the store see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from piecework import Job, Piecework, fixed
from piecework.codec import ResultCodec, Signature
from piecework.documents import start_globals
from piecework.ids import new_id
from piecework.job import (
    Amendment,
    Answer,
    AttemptRecord,
    Claim,
    Fetched,
    NewJob,
    NewOperation,
    NewSignal,
    Record,
    State,
    Wait,
)
from piecework.operation import OperationSpec, StepSpec
from piecework.options import TaskOptions
from piecework.outcome import Settlement
from piecework.plan import Plan, read_cursor
from piecework.registry import TaskSpec, kind_of
from piecework.split import Piece
from piecework.task import Task
from piecework.testing.conformance.kit import a_session

Given = Callable[..., Any] | StepSpec
SOON = {"retry": fixed(0)}


def a_step(given: Given, **said: Any) -> StepSpec:
    """A step of a function, a task, or of what was said already; options of tasks may be among what is said."""
    fields = {name: said.pop(name) for name in list(said) if name in StepSpec.__struct_fields__}
    undo = fields.pop("undo", None)
    if undo is not None:
        fields["undo"] = a_step(undo) if callable(undo) else undo
    if isinstance(given, Task):
        name = fields.pop("name", given.name.rpartition(".")[2])
        return StepSpec(name, "task", task=given._spec, options=said, **fields)
    assert callable(given)
    kind = {"generator": "pieces"}.get(kind_of(given), kind_of(given))
    return StepSpec(fields.pop("name", given.__name__), kind, given, options=said, **fields)


def a_wait(name: str, **said: Any) -> StepSpec:
    """A step that waits for the signal of its name."""
    return StepSpec(
        name, "wait", wait=Wait(name, said.pop("timeout", None), said.pop("into", None) or name, is_step=True, **said)
    )


class Declared:
    """An operation of an app."""

    def __init__(
        self,
        app: Piecework,
        name: str,
        branches: Mapping[str, Sequence[Given]],
        *,
        then: Mapping[str, str] = {},
        retired: Sequence[Given] = (),
        aliases: Mapping[str, str] = {},
        state: type | None = None,
        max_steps: int = 1000,
        **options: Any,
    ) -> None:
        self.app = app
        self.name = name
        steps: dict[str, StepSpec] = {}
        plan: dict[str, tuple[str, ...]] = {}
        for branch, given in branches.items():
            specs = [one if isinstance(one, StepSpec) else a_step(one) for one in given]
            plan[branch] = tuple(spec.name for spec in specs)
            steps |= {spec.name: spec for spec in specs}
        steps |= {spec.name: spec for spec in (s if isinstance(s, StepSpec) else a_step(s) for s in retired)}
        self.spec = OperationSpec(
            name,
            Plan(plan, dict(then)),
            steps,
            TaskOptions(**options),
            dict(aliases),
            state,
            max_steps,
            lambda target: next(
                (s.name for s in steps.values() if target is not None and target in (s.function, s.task)), None
            ),
        )

        def run() -> dict[str, Any]:
            raise AssertionError("the engine calls the steps of an operation, never the operation")

        app.registry._tasks.pop(name, None)  # declared anew, as another version of the code would
        task = TaskSpec(name, run, self.spec.options, Signature(run, name), ResultCodec(run, name))
        task.operation = self.spec
        app.registry.add(task)

    def new(self, globals: Mapping[str, Any], options: Mapping[str, Any], **said: Any) -> NewJob:
        text, changes = start_globals(globals, self.name, 1 << 20)
        plan = self.spec.plan
        first = self.spec.steps[plan.branches["main"][0]]
        said.setdefault("queue", first.options.get("queue", self.spec.options.queue))
        return NewJob(
            id=new_id(),
            task=self.name,
            args=text,
            options=msgspec.json.encode(options).decode() if options else None,
            operation=NewOperation(plan.first.cursor, plan.digest, plan.text, changes),
            **said,
        )

    def start(self, options: Mapping[str, Any] = {}, **globals: Any) -> Running:
        job = self.new(globals, options)
        self.app.store.add([job])
        return Running(self.app, job.id)

    def piece(self, **globals: Any) -> Piece[Any]:
        """Without its plan: a piece of a split is stored as a plain job would be, until the door says otherwise."""
        job = self.new(globals, {})
        return Piece(job.task, job.args, job.queue, job.priority)


class Running:
    """A started operation."""

    def __init__(self, app: Piecework, id: str) -> None:
        self.app = app
        self.id = id

    @property
    def job(self) -> Job[Any]:
        return Job(self.app, self.id)

    @property
    def record(self) -> Record:
        (record,) = self.app.store.get([self.id])
        return record

    @property
    def state(self) -> str:
        return self.record.state.value

    @property
    def globals(self) -> dict[str, Any]:
        (kept,) = self.app.store.operations([self.id])
        found: dict[str, Any] = json.loads(kept.globals)
        return found

    @property
    def lines(self) -> list[AttemptRecord]:
        return self.app.store.attempts(self.id)

    @property
    def story(self) -> list[str]:
        """Every line: which step, which visit, and what it came to."""
        return [f"{line.cursor} {line.outcome}" for line in self.lines]

    @property
    def walked(self) -> list[str]:
        """The steps that were completed, in order."""
        found = [read_cursor(line.cursor or "") for line in self.lines if line.outcome == "completed"]
        return [f"{place.branch}/{place.step}" for place in found]  # type: ignore[union-attr]

    def signal(self, name: str, payload: Any = None) -> bool:
        return self.app.store.signal(self.id, NewSignal(id=new_id(), name=name, payload=json.dumps(payload)))

    def amend(self, what: str, **said: Any) -> Answer:
        cursor = self.record.cursor or ""
        return self.app.store.amend(self.id, cursor, Amendment(id=new_id(), what=what, by="a test", **said))


def take_away(app: Piecework, id: str) -> None:
    """Another worker gets a job that runs, and hands it back: the run that goes on does not own it any more."""
    store = app.store
    (job,) = store.get([id])
    store.enlist(a_session("other"))
    _, (run,) = store.exchange([_released(job)], Claim("other.1", 1, 1))
    assert (run.id, run.run) == (id, job.run + 1)
    assert store.settle([_released(run)]) == [Answer.OK]
    store.bury("other")


def _released(job: Record | Fetched) -> Settlement:
    return Settlement(job.id, job.run, State.AVAILABLE, job.attempt, job.queue, batch=job.batch)
