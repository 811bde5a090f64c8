"""What a running operation still has before it, seen from the code of a release: would that know all its steps?"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from piecework.errors import BadArguments
from piecework.job import Wait
from piecework.operation import OperationSpec
from piecework.plan import Place, Plan, read_cursor


class Ahead(msgspec.Struct, frozen=True):
    """The steps before an operation that some code does not know.

    It is parked when it comes to one of the `missing`; to one of the `jumps` it comes only if a step jumps there. Its own
    plan does not have the `astray`, to which waits of the code lead that are over. With `changed`, the code has another plan:
    this operation finishes on the one with which it began. `undoing` says that it goes back, and not on.
    """

    missing: tuple[str, ...]
    jumps: tuple[str, ...]
    changed: bool
    astray: tuple[str, ...] = ()
    undoing: bool = False

    @property
    def breaks(self) -> bool:
        """Whether the operation cannot go to its end with that code."""
        return bool(self.missing or self.astray)


def ahead(
    code: OperationSpec | None,
    plan: Plan,
    cursor: str,
    *,
    wait: Wait | None = None,
    over: bool = False,
    undoing: bool = False,
) -> Ahead:
    """What code knows of the way that is before an operation; with None, it knows no operation of that name.

    `wait` is that at which it is, whose signal has not come; `over` says that none is waited for any more, and `undoing` that
    what it did is to be undone. Raises `BadArguments` for text that is no cursor.
    """
    place = read_cursor(cursor)
    changed = code is None or plan.digest != code.digest
    if undoing or not isinstance(place, Place) or place.undoing:
        here = place.step if isinstance(place, Place) and place.undoing else None
        step = None if code is None or here is None else code.step(here)
        known = here is None or (step is not None and step.undo is not None)
        return Ahead(() if known or here is None else (here,), (), changed, undoing=True)
    way = _Way(code, plan)
    way.walk(place, wait, over)
    jumps = tuple(name for name in plan.steps() if not way.knows(name) and name not in way.steps)
    missing = tuple(name for name in way.steps if not way.knows(name))
    return Ahead(missing, jumps, changed, tuple(way.astray))


def lost_undos(code: OperationSpec | None, plan: Plan) -> frozenset[str]:
    """The steps of a plan that had an undo when it was stored, and have none in the code."""
    if code is None or not plan.undoes:
        return frozenset()
    return frozenset(name for name in plan.undoes if (step := code.step(name)) is None or step.undo is None)


class _Way:
    """The steps that an operation comes to if no step jumps: the rest of its branch, where that goes on, and where waits
    lead that are over. Each is looked at once, however many ways lead to it.
    """

    def __init__(self, code: OperationSpec | None, plan: Plan) -> None:
        self.steps: dict[str, None] = {}  # in the order in which they are come to
        self.astray: dict[str, None] = {}
        self._code = code
        self._plan = plan
        self._seen: set[tuple[str, str]] = set()

    def knows(self, name: str) -> bool:
        """Whether the code has a step of that name."""
        return self._code is not None and self._code.step(name) is not None

    def walk(self, place: Place, wait: Wait | None, over: bool) -> None:
        """Goes all ways from a place."""
        begin = []
        if wait is not None and wait.otherwise is not None:
            begin = self._where(wait.otherwise, place.step if wait.is_step else None)
        if not place.skipping:
            self.steps[place.step] = None
        if not (over and begin):
            waits = not place.skipping and (wait is None or not wait.is_step)
            begin += [*self._behind(place), *(self._wait_of(place.step) if waits else ())]
        while begin:
            there = begin.pop()
            if (there.branch, there.step) not in self._seen:
                self._seen.add((there.branch, there.step))
                self.steps[there.step] = None
                begin += [*self._wait_of(there.step), *self._behind(there)]

    def _behind(self, place: Place) -> list[Place]:
        there = self._plan.after(place)
        return [] if there is None else [there]

    def _wait_of(self, name: str) -> list[Place]:
        """Where the wait of a step leads by the code."""
        step = None if self._code is None else self._code.step(name)
        said = None if step is None or step.wait is None else step.wait.otherwise
        return [] if said is None else self._where(said, None)

    def _where(self, said: str, of: str | None) -> list[Place]:
        """The place that a wait calls "branch/step", in the words of the plan or of the code; else where the step `of` that
        waits leads by the code.
        """
        branch, _, step = said.partition("/")
        if not step:  # as a retired wait says it
            with suppress(BadArguments):
                branch, _, step = self._plan.target(branch).partition("/")
        aliases = {} if self._code is None else self._code.aliases
        for name in (step, *(old for old, new in aliases.items() if new == step)):
            if self._plan.has(branch, name):
                return [Place(branch, name, 1)]
        if of is not None and (led := self._wait_of(of)):
            return led
        self.astray[said] = None
        return []
