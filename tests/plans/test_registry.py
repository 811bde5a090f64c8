"""The declared tasks of an app: their names, and what is refused."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework import Piecework
from piecework.errors import BadOption, DuplicateTask, UnknownTask, UsageError


@pytest.fixture
def app() -> Piecework:
    return Piecework("sqlite://:memory:")


def module_level(n: int) -> int:
    """Adds one."""
    return n + 1


class Holder:
    @staticmethod
    def method() -> None: ...


def test_a_task_is_named_after_its_module_and_function(app: Piecework) -> None:
    assert app.task(module_level).name == f"{__name__}.module_level"
    assert app.task(Holder.method).name == f"{__name__}.Holder.method"


def test_a_function_in_a_function_is_named_without_the_brackets(app: Piecework) -> None:
    @app.task
    def inner() -> None: ...

    assert inner.name == f"{__name__}.test_a_function_in_a_function_is_named_without_the_brackets.inner"


def test_a_given_name_is_the_name(app: Piecework) -> None:
    @app.task(name="reports.send:v2")
    def inner() -> None: ...

    assert inner.name == "reports.send:v2"
    assert app.registry["reports.send:v2"].function is inner.__wrapped__


def test_a_task_looks_like_its_function(app: Piecework) -> None:
    task = app.task(module_level)
    assert (task.__name__, task.__doc__, task.__module__) == ("module_level", "Adds one.", __name__)
    assert task(1) == 2
    assert "module_level" in repr(task)


@pytest.mark.parametrize("bad", ["", "a b", "x" * 201, "a\n", "ü", "\x1b[0m", 7, b"x", "a/b"])
def test_a_bad_name_is_refused(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadOption, match="name"):
        app.task(name=bad)(module_level)


def test_a_lambda_needs_a_name(app: Piecework) -> None:
    with pytest.raises(BadOption, match="lambda.*name="):
        app.task(lambda: None)
    assert app.task(name="seven")(lambda: 7)() == 7


def test_two_functions_under_one_name_are_refused(app: Piecework) -> None:
    app.task(name="x")(module_level)
    with pytest.raises(DuplicateTask, match="'x'.*name="):
        app.task(name="x")(Holder.method)
    assert app.registry["x"].function is module_level


def test_a_task_and_a_split_under_one_name_are_refused(app: Piecework) -> None:
    def pieces() -> Iterator[Any]:
        yield from ()

    app.task(name="x")(module_level)
    with pytest.raises(DuplicateTask):
        app.split(name="x")(pieces)


def test_two_lambdas_on_one_line_under_one_name_are_refused(app: Piecework) -> None:
    one, two = (lambda: 1), (lambda: 2)
    app.task(name="x")(one)
    with pytest.raises(DuplicateTask):
        app.task(name="x")(two)


def test_two_functions_that_one_factory_made_are_two_functions(app: Piecework) -> None:
    """They share their source, and not what they close over."""

    def factory(n: int) -> Callable[[], int]:
        def made() -> int:
            return n

        return made

    app.task(name="x")(factory(1))
    with pytest.raises(DuplicateTask):
        app.task(name="x")(factory(2))


def test_a_module_that_is_loaded_again_registers_its_tasks_again(app: Piecework, tmp_path: Path) -> None:
    source = "import builtins\napp = builtins.piecework_app\n@app.task\ndef job(n: int) -> int:\n    return n\n"
    (tmp_path / "loaded_again.py").write_text(source)
    sys.path.insert(0, str(tmp_path))
    import builtins

    builtins.piecework_app = app  # type: ignore[attr-defined]
    try:
        module = importlib.import_module("loaded_again")
        first = app.registry["loaded_again.job"].function
        importlib.reload(module)
        assert app.registry["loaded_again.job"].function is not first
        assert len(app.registry) == 1
    finally:
        del builtins.piecework_app  # type: ignore[attr-defined]
        sys.path.remove(str(tmp_path))
        sys.modules.pop("loaded_again", None)


def test_an_unknown_name_is_told_with_a_suggestion(app: Piecework) -> None:
    app.task(name="reports.send")(module_level)
    with pytest.raises(UnknownTask, match="'reports.sent'; did you mean 'reports.send'"):
        app.registry["reports.sent"]
    with pytest.raises(UnknownTask, match="'xyzzy'$"):
        app.registry["xyzzy"]


def test_two_apps_live_side_by_side() -> None:
    one, two = Piecework("sqlite://:memory:"), Piecework("sqlite://:memory:")
    one.task(name="x")(module_level)
    two.task(name="x")(Holder.method)
    assert one.registry["x"].function is not two.registry["x"].function


# ── what is no task ──────────────────────────────────────────────────────────────────────────────


async def async_generator() -> Any:
    yield 1


def generator() -> Iterator[Any]:
    yield 1


@pytest.mark.parametrize("bad", [generator, async_generator, 7, "text"])
def test_what_is_no_def_is_no_task(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadOption, match="def"):
        app.task(bad)
    with pytest.raises(BadOption, match="def"):
        app.task()(bad)


def test_a_class_that_cannot_be_watched_is_no_task(app: Piecework) -> None:
    with pytest.raises(BadOption, match="constructor cannot be watched"):
        app.task(None.__class__)


def test_a_generator_as_a_task_is_pointed_to_split(app: Piecework) -> None:
    with pytest.raises(BadOption, match=r"@app\.split"):
        app.task(generator)


async def coroutine() -> None: ...


@pytest.mark.parametrize("bad", [module_level, coroutine, async_generator, Holder, 7])
def test_what_is_no_generator_function_is_no_splitter(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadOption, match="generator function"):
        app.split(bad)


@pytest.mark.parametrize("bad", [coroutine, generator, async_generator, 7])
def test_a_compose_is_a_plain_function(app: Piecework, bad: Any) -> None:
    split = app.split(generator)
    with pytest.raises(BadOption, match="plain function"):
        split.compose(bad)


def test_a_split_has_one_compose(app: Piecework) -> None:
    split = app.split(generator)
    split.compose(module_level)
    with pytest.raises(UsageError, match="compose already"):
        split.compose(Holder.method)


# ── __main__ ─────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
from piecework import Piecework
app = Piecework("sqlite://:memory:")
@app.task
def job() -> None: ...
if __name__ == "__main__":
    print(job.name)
"""


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["nightly.py"], "nightly.job"),
        (["-m", "nightly"], "nightly.job"),
        (["-m", "package"], "package.job"),
        (["-m", "package.inner"], "package.inner.job"),
    ],
)
def test_a_task_of_a_script_is_named_as_the_worker_will_import_it(
    arguments: list[str], name: str, tmp_path: Path
) -> None:
    (tmp_path / "package").mkdir()
    for file in ("nightly.py", "package/__main__.py", "package/inner.py"):
        (tmp_path / file).write_text(SCRIPT)
    (tmp_path / "package" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == name
