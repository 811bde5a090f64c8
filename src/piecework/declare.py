"""Turns what a user wrote of an operation into its specification; whatever cannot be right is refused where it is said."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from piecework.branches import DeclaredBranch, steps_of
from piecework.errors import BadArguments, BadOption
from piecework.jsontypes import decoder_of, is_pydantic
from piecework.operation import LIMIT_FACTOR, MIN_LIMIT, OperationSpec, StepSpec
from piecework.options import TaskOptions, refuse_identity, refuse_transaction, task_options
from piecework.plan import MAIN, Plan
from piecework.steps import DeclaredStep, check_not_undoing, check_step_name, plain_call, step

MAX_LIMIT = 10_000_000


def declare(
    name: str,
    branches: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    state: type | None = None,
    max_steps: int | None = None,
    retired: Iterable[Any] = (),
) -> OperationSpec:
    """The specification of an operation. Raises `BadOption` for every mistake, with what to do about it."""
    where = f"the operation {name!r}"
    own = task_options(options, where)
    refuse_transaction(options, where)
    refuse_identity(options, where, "of an operation say using(identity=…), or find it by its globals")
    found, goes_on = _branches(branches, where)
    walked = [made for steps in found.values() for made in steps]
    steps = _distinct(walked + _retired(retired, where), where)
    plan = _plan(found, goes_on, where)
    names = {made.spec.name for made in walked}
    return OperationSpec(
        name,
        plan,
        {made.spec.name: _settled(made.spec, plan, own, where, retired=made.spec.name not in names) for made in steps},
        own,
        _aliases(steps, where),
        None if state is None else check_state(state, where),
        _limit(max_steps, len(steps), where),
        _names(steps),
    )


def apart(
    main: Any, branches: Mapping[str, Any] | None, more: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The branches and the options among the keywords of `app.operation`. Raises `BadOption`."""
    if branches is not None and not isinstance(branches, Mapping):
        raise BadOption(f"{where}: branches must be a dict of branches by name, not {branches!r:.100}")
    found = {} if main is None else {MAIN: main}
    options = {}
    known = TaskOptions.__struct_fields__
    for key, value in more.items():
        if key in known:
            if isinstance(value, DeclaredBranch):
                raise BadOption(
                    f"{where}: {key}= is an option; a branch of that name is said so: branches={{{key!r}: …}}"
                )
            options[key] = value
        elif isinstance(value, list | tuple | DeclaredBranch):
            found[key] = value
        else:
            near = difflib.get_close_matches(key, (*known, "state", "max_steps", "retired", "aliases"), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadOption(
                f"{where}: unknown option {key!r}{hint} (and a branch is a list of steps, not {value!r:.100})"
            )
    for key, value in (branches or {}).items():
        if key in found:
            raise BadOption(f"{where}: the branch {key!r} is given twice")
        found[key] = value
    return found, options


def _branches(given: Mapping[str, Any], where: str) -> tuple[dict[str, list[DeclaredStep]], dict[str, str]]:
    if MAIN not in given:
        raise BadOption(f"{where} has no main branch, with which it begins; say main=[first_step, …]")
    found: dict[str, list[DeclaredStep]] = {}
    goes_on: dict[str, str] = {}
    for name, steps in given.items():
        name = check_step_name(name, f"{where}: the name of a branch")
        check_not_undoing(name, f"{where}: the name of a branch")
        found[name], then = steps_of(steps, name, where)
        if then is not None:
            goes_on[name] = then
    return found, goes_on


def _retired(given: Any, where: str) -> list[DeclaredStep]:
    if not isinstance(given, list | tuple):
        raise BadOption(f"{where}: retired must be a list of steps, not {given!r:.100}")
    return [one if isinstance(one, DeclaredStep) else step(one) for one in given]


def _distinct(steps: list[DeclaredStep], where: str) -> list[DeclaredStep]:
    """Each step once. Raises `BadOption` where two of them have one name."""
    found: dict[str, DeclaredStep] = {}
    for made in steps:
        known = found.setdefault(made.spec.name, made)
        if known.same(made):
            continue
        if known.given is not None and known.given == made.given:
            raise BadOption(
                f"{where}: the step {made.spec.name!r} is declared in two ways; make it once, {made.spec.name}_step = "
                f"step({made.spec.name}, …), and name that in both branches"
            )
        raise BadOption(f"{where}: two steps are called {made.spec.name!r}; give one of them a name: step(…, name=…)")
    return list(found.values())


def _plan(found: Mapping[str, list[DeclaredStep]], goes_on: Mapping[str, str], where: str) -> Plan:
    names = {branch: tuple(made.spec.name for made in steps) for branch, steps in found.items()}
    plan = Plan(names)
    then = {branch: _target(plan, target, f"{where}: then of {branch!r}") for branch, target in goes_on.items()}
    undoes = {made.spec.name for steps in found.values() for made in steps if made.spec.undo is not None}
    return Plan(names, then, tuple(sorted(undoes)))


def _target(plan: Plan, target: str, where: str) -> str:
    try:
        return plan.target(*target.split("/", 1))
    except BadArguments as error:
        raise BadOption(f"{where}: {error}") from None


def _settled(spec: StepSpec, plan: Plan, own: TaskOptions, where: str, *, retired: bool = False) -> StepSpec:
    """A step as it is in this operation: where its wait leads, and what of the operation's options is not for it.

    Where a retired one leads may have gone with it: that is judged by the plans of the operations that come to it.
    """
    spec = msgspec.structs.replace(spec)  # it may be a step of other operations, too
    if spec.wait is not None and spec.wait.otherwise is not None and not retired:
        otherwise = _target(plan, spec.wait.otherwise, f"{where}: otherwise of {spec.name!r}")
        spec.wait = msgspec.structs.replace(spec.wait, otherwise=otherwise)
    if spec.undo is not None:
        spec.undo = _settled(spec.undo, plan, own, where)
    if own.pool == "process" and not plain_call(spec):
        spec.options = {**spec.options, "pool": "thread"}
    return spec


def _aliases(steps: list[DeclaredStep], where: str) -> dict[str, str]:
    names = {made.spec.name for made in steps}
    found: dict[str, str] = {}
    for made in steps:
        for alias in made.aliases:
            if alias in names or found.setdefault(alias, made.spec.name) != made.spec.name:
                raise BadOption(
                    f"{where}: {alias!r} cannot be an alias of {made.spec.name!r}: it is another step's name"
                )
    return found


def _limit(given: Any, steps: int, where: str) -> int:
    if given is None:
        return max(MIN_LIMIT, LIMIT_FACTOR * steps)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_LIMIT:
        raise BadOption(f"{where}: max_steps must be a whole number from 1 to {MAX_LIMIT:,}, not {given!r}")
    return given


def _names(steps: list[DeclaredStep]) -> Callable[[Any], str | None]:
    """Finds the name of a step by whatever stands for it: its function, class, task or declaration."""
    known: dict[Any, list[str]] = {}
    for made in steps:
        ways = [made] if made.given is None else [made, made.given, made.spec.function]
        for way in dict.fromkeys(ways):
            known.setdefault(way, []).append(made.spec.name)

    def name_of(target: Any) -> str | None:
        try:
            names = known.get(target, [])
        except TypeError:  # a list, a dict: nothing that stands for a step
            return None
        if len(names) > 1:
            raise BadArguments(f"{target!r:.100} is the steps {' and '.join(names)}; name the one that you mean")
        return names[0] if names else None

    return name_of


def check_state(kind: Any, where: str) -> type:
    """A class whose objects can be an operation's globals. Raises `BadOption`."""
    said = f"{where}: state must be a dataclass, a msgspec Struct or a pydantic model"
    if not isinstance(kind, type) or not (
        dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct) or is_pydantic(kind)
    ):
        raise BadOption(f"{said}, not {kind!r:.100}")
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like:
        raise BadOption(f"{said} that is stored by the names of its fields; {kind.__qualname__} is array_like")
    if issubclass(kind, msgspec.Struct) and kind.__struct_encode_fields__ != kind.__struct_fields__:
        raise BadOption(f"{said} that is stored by the names of its fields; {kind.__qualname__} renames them")
    try:
        decoder_of(kind)
    except (TypeError, NameError) as error:
        raise BadOption(f"{where}: the state {kind.__qualname__} cannot be read back from JSON: {error}") from None
    return kind
