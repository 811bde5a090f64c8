"""Names in the store and classes in the program: renamed ones, unknown ones, and what a name may never reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from object_shapes import SAID, Child, NewProcess, SomeProcess

from piecework import Piecework, State
from piecework.errors import BadArguments
from piecework.ids import new_id
from piecework.job import NewJob
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it, and after


OLD = "object_shapes.SomeProcess"


@pytest.fixture(autouse=True)
def nothing_said() -> Any:
    SAID.clear()
    yield
    SAID.clear()


def another(app: Piecework) -> Piecework:
    """An app on the same database: the program after a deployment."""
    return Piecework(app.settings.url, clock=app.clock)


def store(app: Piecework, task: str, args: str) -> str:
    (id,) = app.store.add([NewJob(new_id(), task, args)])
    return id


def test_a_renamed_class_with_the_old_name_as_an_alias_runs(app: Piecework) -> None:
    app.task(SomeProcess)
    job = app.later(SomeProcess("a").call, 1)
    new = another(app)
    new.task(aliases=[OLD])(NewProcess)
    drain(new)
    assert SAID == [("NewProcess", "a", 1, False)]
    assert job.result(timeout=0) == ["a", 1, False]
    new.close()


def test_a_renamed_class_without_an_alias_is_parked_and_runs_after_the_next_deployment(app: Piecework) -> None:
    app.task(SomeProcess)
    job = app.later(SomeProcess("a").call, 1)
    new = another(app)
    new.task(NewProcess)
    fine = new.later(NewProcess("b").call)
    drain(new)
    assert job.state is State.PARKED
    assert f"unknown task '{OLD}.call'" in (job.record().reason or "")
    assert fine.result(timeout=0) == ["b", 0, False]  # the worker went on
    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == ["a", 1, False]
    new.close()


def test_a_renamed_function_and_a_renamed_split_run_by_their_aliases(app: Piecework) -> None:
    @app.task(name="new", aliases=("old", "older"))
    def plain(n: int) -> int:
        return n + 1

    @app.split(name="new_split", aliases=["old_split"])
    def whole(n: int) -> Any:
        yield plain.piece(n)

    @whole.compose
    def join(pieces: Any, n: int) -> list[int]:
        return list(pieces.results())

    ids = [store(app, "old", '{"n":1}'), store(app, "older", '{"n":2}'), store(app, "old_split", '{"n":3}')]
    drain(app)
    assert [app.jobs.get(id).result(timeout=0) for id in ids] == [2, 3, [4]]
    assert len(app.registry) == 2


@pytest.mark.parametrize(
    "method",
    ["_secret", "__init__", "__class__", "__repr__", "prop", "some_id", "numbers", "stream", "lent", "nope", "call.x", "", "__dict__.x"],
)  # fmt: skip
def test_a_name_in_the_store_reaches_no_more_than_public_methods(app: Piecework, method: str) -> None:
    app.task(SomeProcess)
    assert app.registry.get(f"{OLD}.{method}") is None
    job = app.jobs.get(store(app, f"{OLD}.{method}", '{"object":{"some_id":"a"},"call":{}}'))
    drain(app)
    assert job.state is State.PARKED
    assert "unknown task" in (job.record().reason or "")


@pytest.mark.parametrize(
    "name", ["builtins.print", "os.system", "object_shapes.Slotted.call", ".call", "call", "..", "a."]
)
def test_a_name_in_the_store_reaches_registered_classes_only(app: Piecework, name: str) -> None:
    app.task(SomeProcess)
    assert app.registry.get(name) is None
    assert name not in app.registry


def test_a_child_that_is_not_decorated_is_found_by_its_name(app: Piecework) -> None:
    app.task(SomeProcess)
    new = another(app)
    new.task(SomeProcess)
    job = app.later(Child("c").call)
    drain(new)  # this app was never given a Child
    assert job.result(timeout=0) == ["child", "c", 0, False]
    new.close()


@pytest.mark.parametrize(
    "args",
    ['{"n":1}', '{"object":{},"call":{}}', '{"object":{"some_id":1},"call":{}}', '{"object":{"some_id":"a"},"call":{"n":"x"}}',
     '{"object":{"some_id":"a"},"call":{},"more":1}', "[]", '{"object":null,"call":{}}'],
)  # fmt: skip
def test_stored_arguments_that_do_not_fit_park_the_job(app: Piecework, args: str) -> None:
    app.task(SomeProcess)
    job = app.jobs.get(store(app, f"{OLD}.call", args))
    drain(app)
    assert job.state is State.PARKED
    assert "object_shapes.SomeProcess" in (job.record().reason or "")
    assert SAID == []


def test_a_constructor_that_raises_is_an_error_of_the_run(app: Piecework) -> None:
    app.task(attempts=2, retry=0)(Picky)
    Picky.refuses = False
    job = app.later(Picky(1).call)
    Picky.refuses = True
    drain(app)
    assert job.state is State.FAILED
    assert [attempt.outcome for attempt in job.attempts()] == ["retry", "failed"]
    assert job.error is not None
    assert "no more" in job.error.message


class Picky:
    refuses = False

    def __init__(self, x: int) -> None:
        if self.refuses:
            raise ValueError("no more")

    def call(self) -> None: ...


def test_an_object_whose_constructor_raised_is_not_known(app: Piecework) -> None:
    app.task(Leaky)
    with pytest.raises(ValueError, match="after it was seen"):
        Leaky(1)
    with pytest.raises(BadArguments, match="not known which arguments"):
        app.later(Leaky.seen.pop().call)


class Leaky:
    seen: list[Any] = []  # noqa: RUF012

    def __init__(self, x: int) -> None:
        self.seen.append(self)
        raise ValueError("after it was seen")

    def call(self) -> None: ...


def test_a_module_that_is_loaded_again_brings_its_class_again(app: Piecework, tmp_path: Path, monkeypatch: Any) -> None:
    import importlib
    import sys

    (tmp_path / "loaded_twice.py").write_text(
        "class Job:\n    def __init__(self, x: int): self.x = x\n    def call(self): return self.x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = importlib.import_module("loaded_twice")
    app.task(module.Job)
    job = app.later(module.Job(1).call)
    again: Any = importlib.reload(module)
    app.task(again.Job)
    assert len(app.registry) == 1
    drain(app)
    assert job.result(timeout=0) == 1
    del sys.modules["loaded_twice"]
