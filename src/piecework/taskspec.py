"""Turns a function that was declared as a task or a split into its specification; what cannot be right is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from piecework.codec import ResultCodec, Signature
from piecework.errors import BadOption
from piecework.job import OnFailure
from piecework.labels import Identity
from piecework.options import refuse_identity, refuse_transaction, task_options
from piecework.registry import TaskSpec, kind_of, task_name
from piecework.rows import Rows


def task_spec(function: Any, name: str | None, options: Mapping[str, Any], rows: Rows) -> TaskSpec:
    """The specification of a task. Raises `BadOption` for what is no task, and for options that it cannot have."""
    kind = kind_of(function) if callable(function) else "value"
    if kind not in ("plain", "async"):
        raise BadOption(
            f"@app.task takes a def, an async def or a class, not {kind}: {function!r}"
            + ("; a generator that yields pieces is registered with @app.split" if kind == "generator" else "")
        )
    if kind == "async" or options.get("pool") == "process":
        refuse_transaction(options, f"@app.task on {function.__qualname__}")
    if kind == "async" and options.get("pool") == "process":
        raise BadOption(
            f"@app.task: {function.__qualname__} is an async def, which runs on the event loop; pool='process' takes a def"
        )
    return _spec(function, name, options, rows)


def check_split(options: Mapping[str, Any], on_failure: str) -> None:
    """Raises `BadOption` for what a split cannot have."""
    if on_failure not in list(OnFailure):
        raise BadOption(f"on_failure must be one of {', '.join(OnFailure)}, not {on_failure!r}")
    task_options(options, "@app.split")
    refuse_transaction(options, "@app.split")
    if "pool" in options:
        raise BadOption(
            "@app.split: pool= does not apply to a split, which talks to the store; give it to the tasks of its pieces"
        )


def split_spec(splitter: Any, name: str | None, options: Mapping[str, Any], on_failure: str, rows: Rows) -> TaskSpec:
    """The specification of a split, whose options were checked.

    Raises `BadOption` for what is no generator function.
    """
    if kind_of(splitter) != "generator":
        raise BadOption(
            f"{getattr(splitter, '__qualname__', splitter)!s} is not a generator function; a splitter is a def that "
            "yields task.piece(…)"
        )
    spec = _spec(splitter, name, options, rows)
    spec.is_split = True
    spec.on_failure = OnFailure(on_failure)
    return spec


def check_class(kind: type, options: Mapping[str, Any]) -> None:
    """Raises `BadOption` for what a class cannot have, whose methods are the tasks."""
    where = f"@app.task on the class {kind.__qualname__}"
    refuse_transaction(options, where)
    refuse_identity(options, where, "of a call of a method say app.using(identity=…)")


def _spec(function: Callable[..., Any], name: str | None, options: Mapping[str, Any], rows: Rows) -> TaskSpec:
    stable = task_name(function, name)
    signature = Signature(function, stable, rows=rows)
    checked = task_options(options, f"the task {stable}")
    if checked.one_per_identity and checked.identity is None:
        raise BadOption(f"the task {stable}: one_per_identity needs identity=, which says what there is one for")
    return TaskSpec(
        name=stable,
        function=function,
        options=checked,
        signature=signature,
        result=ResultCodec(function, stable),
        is_async=kind_of(function) == "async",
        identity=None if checked.identity is None else Identity(checked.identity, signature),
    )
