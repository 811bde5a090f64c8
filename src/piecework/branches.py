"""The branches of an operation as they are written down: lists of steps, and `branch(…)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from piecework.errors import BadArguments, BadOption
from piecework.steps import DeclaredStep, check_not_undoing, declared


class DeclaredBranch(msgspec.Struct, frozen=True):
    """Steps in their order, and where it goes on behind the last of them: what `branch(…)` returns."""

    steps: tuple[Any, ...]
    then: str | None = None


def branch(*steps: Any, then: str | None = None) -> DeclaredBranch:
    """A branch that does not end the operation, but goes on at `then`: a branch, a step, or "branch/step".

    Raises `BadOption`.

    Example: ``app.operation("fulfilment", main=[charge, email], red=branch(set_up_red, then="email"))``
    """
    if len(steps) == 1 and isinstance(steps[0], list | tuple):
        raise BadOption("branch: it takes the steps themselves, and no list of them: branch(first, second, then=…)")
    if then is not None and not isinstance(then, str):
        raise BadOption(f'branch: then must be the name of a branch or step, or "branch/step", not {then!r:.100}')
    return DeclaredBranch(steps, None if then is None else str.__str__(then))


def steps_of(given: Any, name: str, where: str) -> tuple[list[DeclaredStep], str | None]:
    """The steps of a branch, and where it goes on. Raises `BadOption`."""
    said = given if isinstance(given, DeclaredBranch) else None
    if said is None and not isinstance(given, list | tuple):
        raise BadOption(f"{where}: the branch {name!r} must be a list of steps, or branch(…), not {given!r:.100}")
    found = list(_each(given if said is None else said.steps, name, where))
    if not found:
        raise BadOption(f"{where}: the branch {name!r} has no steps")
    seen: set[str] = set()
    for made in found:
        check_not_undoing(made.spec.name, f"{where}: the name of a step")
        if made.spec.name in seen:
            raise BadOption(
                f"{where}: the branch {name!r} has the step {made.spec.name!r} twice; a step comes again by a jump, or "
                f"under another name: step({made.spec.name}, name=…)"
            )
        seen.add(made.spec.name)
    return found, None if said is None else said.then


def _each(given: Iterable[Any], name: str, where: str) -> Iterator[DeclaredStep]:
    for n, one in enumerate(given, 1):
        try:
            yield declared(one)
        except (BadOption, BadArguments) as error:
            raise BadOption(f"{where}: step {n} of the branch {name!r}: {error}") from None
