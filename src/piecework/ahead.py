"""What a running operation still has before it, seen from the code of a release: would that know all its steps?"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from piecework.operation import OperationSpec
from piecework.plan import Place, Plan, read_cursor


class Ahead(msgspec.Struct, frozen=True):
    """The steps before an operation that some code does not know.

    It is parked when it comes to one of the `missing`; to one of the `jumps` it comes only if a step jumps there. With
    `changed`, the code has another plan: this operation finishes on the one with which it began.
    """

    missing: tuple[str, ...]
    jumps: tuple[str, ...]
    changed: bool

    @property
    def breaks(self) -> bool:
        """Whether the operation cannot go to its end with that code."""
        return bool(self.missing)


def ahead(code: OperationSpec | None, plan: Plan, cursor: str) -> Ahead:
    """What code knows of the way that is before an operation; with None, it knows no operation of that name.

    Raises `BadArguments` for text that is no cursor.
    """
    place = read_cursor(cursor)
    coming = list(dict.fromkeys(_coming(plan, place))) if isinstance(place, Place) else []
    known = [] if code is None else [name for name in plan.steps() if code.step(name) is not None]
    if isinstance(place, Place) and place.undoing:
        step = None if code is None else code.step(place.step)
        missing: tuple[str, ...] = () if step is not None and step.undo is not None else (place.step,)
    else:
        missing = tuple(name for name in coming if name not in known)
    jumps = tuple(name for name in plan.steps() if name not in known and name not in missing)
    return Ahead(missing, jumps, code is None or plan.digest != code.digest)


def lost_undos(code: OperationSpec | None, plan: Plan) -> frozenset[str]:
    """The steps of a plan that had an undo when it was stored, and have none in the code."""
    if code is None or not plan.undoes:
        return frozenset()
    return frozenset(name for name in plan.undoes if (step := code.step(name)) is None or step.undo is None)


def _coming(plan: Plan, place: Place) -> Iterator[str]:
    """The steps that an operation comes to if no step jumps: the rest of its branch, and where that goes on."""
    if not place.skipping:
        yield place.step
    seen = {(place.branch, place.step)}
    following = plan.after(place)
    while following is not None and (following.branch, following.step) not in seen:
        seen.add((following.branch, following.step))
        yield following.step
        following = plan.after(following)
