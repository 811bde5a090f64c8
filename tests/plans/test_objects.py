"""An object's arguments, whatever its constructor looks like, arrive as they were bound."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import BadArguments
from piecework.objects import Blueprint, ObjectRegistry, TaskClass
from piecework.options import TaskOptions
from piecework.recording import watch
from piecework.rows import Rows

KINDS = {
    "/": inspect.Parameter.POSITIONAL_ONLY,
    "": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "*": inspect.Parameter.VAR_POSITIONAL,
    "=": inspect.Parameter.KEYWORD_ONLY,
    "**": inspect.Parameter.VAR_KEYWORD,
}
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    str: st.text(),
    list[int]: st.lists(st.integers(-9, 9)),
    tuple[int, ...]: st.lists(st.integers(-9, 9)).map(tuple),
    dict[str, bool]: st.dictionaries(st.text(), st.booleans()),
    Any: st.none() | st.booleans() | st.text() | st.lists(st.integers(-9, 9)),
}


@st.composite
def signatures(draw: Any) -> tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]]:
    """A constructor's parameters, and arguments that fit them."""
    parameters: list[inspect.Parameter] = []
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    defaulted = by_name = False
    for number, (kind, _) in enumerate((kind, n) for kind in KINDS for n in range(draw(st.integers(0, 2)))):
        if kind in ("*", "**") and any(p.kind is KINDS[kind] for p in parameters):
            continue
        hint = draw(st.sampled_from(list(VALUES)))
        name = f"p{number}"
        one = VALUES[hint]
        default = inspect.Parameter.empty
        if kind not in ("*", "**") and (draw(st.booleans()) or (defaulted and kind in ("/", ""))):
            default = draw(one)
            defaulted = defaulted or kind in ("/", "")
        parameters.append(inspect.Parameter(name, KINDS[kind], default=default, annotation=hint))
        left_out = default is not inspect.Parameter.empty and draw(st.booleans())
        if kind == "*":
            args.extend(draw(st.lists(one, max_size=3)) if not by_name else [])
        elif kind == "**":
            kwargs.update({f"more_{n}": draw(one) for n in range(draw(st.integers(0, 2)))})
        elif kind == "=" or (kind == "" and (by_name or draw(st.booleans()))):
            by_name = by_name or kind == ""
            kwargs.update({} if left_out else {name: draw(one)})
        elif left_out:
            by_name = True  # what follows cannot be positional
        elif not by_name:
            args.append(draw(one))
        elif default is inspect.Parameter.empty:
            kwargs[name] = draw(one)
    return inspect.Signature(parameters), tuple(args), kwargs


def class_of(signature: inspect.Signature) -> Any:
    """A class whose constructor has these parameters, and keeps what they were bound to."""
    names = [f"d{n}" for n in range(len(signature.parameters))]
    parameters = [
        p if p.default is p.empty else p.replace(default=_Name(name))
        for name, p in zip(names, signature.parameters.values(), strict=True)
    ]
    text = str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))
    space: dict[str, Any] = {name: p.default for name, p in zip(names, signature.parameters.values(), strict=True)}
    listed = ", ".join(f"{name!r}: {name}" for name in signature.parameters)
    exec(f"def __init__(self, {text[1:]}:\n    self.bound = {{{listed}}}\n", space)
    init = space["__init__"]
    init.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    return type("Made", (), {"__init__": init, "call": lambda self: self.bound})


class _Name:
    """Prints as a name of the namespace, so that defaults of any type can stand in the text of a signature."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


@given(signatures())
def test_what_a_constructor_was_given_arrives_bound_as_it_was(
    made: tuple[inspect.Signature, tuple[Any, ...], dict[str, Any]],
) -> None:
    signature, args, kwargs = made
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return  # a call that Python itself refuses
    kind = class_of(signature)
    watch(kind)
    spec = TaskClass(kind, "Made", TaskOptions(), Rows()).method("call")
    assert spec is not None
    sent = kind(*args, **kwargs)
    (blueprint,), named = spec.signature.decode(spec.signature.encode((sent,), {}))
    assert named == {}
    assert isinstance(blueprint, Blueprint)
    answer = spec.function(blueprint)
    assert answer == sent.bound
    assert repr(answer) == repr(sent.bound)
    assert spec.function(sent) is sent.bound  # an object that is there is taken as it is


class Process:
    def __init__(self, x: int) -> None: ...

    def call(self, y: int) -> None: ...


@pytest.fixture
def registry() -> ObjectRegistry:
    registry = ObjectRegistry(Rows())
    watch(Process)
    registry.add_class(Process, "Process", TaskOptions(), ["Old", "Older"])
    return registry


def test_the_same_specification_is_found_by_every_name(registry: ObjectRegistry) -> None:
    spec = registry["Process.call"]
    assert spec.name == "Process.call"
    assert registry["Old.call"] is registry["Older.call"] is spec
    assert "Older.call" in registry
    assert "Oldest.call" not in registry


def test_an_unknown_name_is_told_what_is_near(registry: ObjectRegistry) -> None:
    from piecework.errors import UnknownTask

    with pytest.raises(UnknownTask, match=r"'Proces\.call'; did you mean 'Process\.call'\?"):
        registry["Proces.call"]


@pytest.mark.parametrize("text", ["", "null", "[]", '{"object":{"x":1}}', '{"object":{"x":1},"call":[]}', '{"object":{"x":"1"},"call":{"y":1}}'])  # fmt: skip
def test_a_text_that_is_no_call_of_a_method_is_refused(registry: ObjectRegistry, text: str) -> None:
    with pytest.raises(BadArguments, match="Process"):
        registry["Process.call"].signature.decode(text)


def test_whether_stored_arguments_can_be_read_is_told(registry: ObjectRegistry) -> None:
    signature = registry["Process.call"].signature
    assert signature.reads('{"object":{"x":1},"call":{"y":2}}')
    for text in ("", "[]", '{"object":{"x":"1"},"call":{"y":2}}', '{"object":{"x":1},"call":{}}'):
        assert not signature.reads(text)


class Mixed:
    """One method for a process, one for the loop."""

    def compute(self) -> int:
        return 1

    async def wait(self) -> int:
        return 2


def test_a_coroutine_method_runs_on_the_loop_whatever_its_class_says(registry: ObjectRegistry) -> None:
    watch(Mixed)
    registry.add_class(Mixed, "Mixed", TaskOptions(pool="process", queue="heavy"))
    assert registry["Mixed.compute"].options == TaskOptions(pool="process", queue="heavy")
    assert registry["Mixed.wait"].options == TaskOptions(queue="heavy")
    assert registry["Mixed.wait"].is_async
