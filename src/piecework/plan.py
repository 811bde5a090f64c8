"""The plan of an operation, and where an operation stands on it. Pure: names and their order, no functions."""

from __future__ import annotations

import difflib
import hashlib
from functools import cached_property

import msgspec

from piecework.errors import BadArguments, OtherPlan
from piecework.job import Record

MAIN = "main"
OTHER_PLAN = "it began with another plan"  # so the reason begins for which an operation is parked that cannot jump
UNDO, UNDONE, COMPOSING, SKIPPING = "undo", "undone", "compose", "skip"


class Place(msgspec.Struct, frozen=True):
    """A step of a branch, and which visit of any step it is, from 1: a loop comes to a step again as another visit.

    `composing` when the pieces that it was split into have settled; `skipping` when somebody said to go on behind it;
    `undoing` when it is the undo of this visit; what is undone after that is found in the lines of the runs before `run`.
    """

    branch: str
    step: str
    visit: int
    composing: bool = False
    undoing: bool = False
    skipping: bool = False
    run: int | None = None

    @property
    def cursor(self) -> str:
        """The place as stores keep it."""
        text = f"{self.branch}/{self.step}/{self.visit}"
        if self.undoing:
            return f"{UNDO}/{text}{_before(self.run)}"
        if self.skipping:
            return f"{text}/{SKIPPING}"
        return f"{text}/{COMPOSING}" if self.composing else text

    @property
    def name(self) -> str:
        """Branch and step, for people to read."""
        return f"{self.branch}/{self.step}"


class Undoing(msgspec.Struct, frozen=True):
    """An operation that undoes what it did before a visit; `over` when nothing is left of that.

    The lines of the runs before `run` say all that is to be known of those visits; None: every line may.
    """

    before: int
    over: bool = False
    run: int | None = None

    @property
    def cursor(self) -> str:
        """The place as stores keep it."""
        return f"{UNDONE if self.over else UNDO}/{self.before}{_before(self.run)}"


def _before(run: int | None) -> str:
    return "" if run is None else f"/{run}"


def walks(record: Record) -> bool:
    """Whether a job is an operation: its cursor is a place on a plan, and never a single word."""
    return record.cursor is not None and "/" in record.cursor


def read_cursor(text: str) -> Place | Undoing:
    """Where a cursor points. Raises `BadArguments` for text that is none."""
    parts = text.split("/")
    try:
        if parts[0] in (UNDO, UNDONE) and len(parts) < 4:
            before, *run = map(int, parts[1:])
            return Undoing(before, parts[0] == UNDONE, *run)
        if parts[0] == UNDO:
            _, branch, step, *numbers = parts
            if len(numbers) > 2:
                raise ValueError(numbers)
            visit, *run = map(int, numbers)
            return Place(branch, step, visit, undoing=True, run=run[0] if run else None)
        branch, step, number, *rest = parts
        if rest not in ([], [COMPOSING], [SKIPPING]):
            raise ValueError(rest)
        return Place(branch, step, int(number), composing=rest == [COMPOSING], skipping=rest == [SKIPPING])
    except ValueError:
        raise BadArguments(f"{text!r} is not the cursor of an operation") from None


class Plan(msgspec.Struct, frozen=True, dict=True):
    """Branches and the names of their steps, in order; `then` says where a branch goes on, as "branch/step".

    `undoes` are the steps that have an undo, whatever later code says of them; None where the plan does not tell.
    No question about one place or name reads through all steps: of ten thousand the last must cost what the first does.
    """

    branches: dict[str, tuple[str, ...]]
    then: dict[str, str] = {}
    undoes: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """The plan as stores keep it."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @property
    def digest(self) -> str:
        """A short name of this very plan."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()

    @property
    def first(self) -> Place:
        """Where an operation begins."""
        return Place(MAIN, self.branches[MAIN][0], 1)

    def after(self, place: Place) -> Place | None:
        """The step behind this one: the next of its branch, or where the branch goes on; None at the end.

        Raises `BadArguments` where the place is not on the plan.
        """
        if not self.has_place(place):
            raise BadArguments(f"the plan has no step {place.step!r} in {place.branch!r}")
        steps, behind = self.branches[place.branch], self._order[place.branch][place.step] + 1
        if behind < len(steps):
            return Place(place.branch, steps[behind], place.visit + 1)
        goes_on = self.then.get(place.branch)
        return None if goes_on is None else self.at(goes_on, place.visit + 1)

    def has_place(self, place: Place) -> bool:
        """Whether the branch has the step."""
        return place.step in self._order.get(place.branch, ())

    def has_step(self, name: str) -> bool:
        """Whether any branch has a step of this name."""
        return any(name in order for order in self._order.values())

    @cached_property
    def _order(self) -> dict[str, dict[str, int]]:
        """Where each step stands in its branch."""
        return {branch: {step: n for n, step in enumerate(steps)} for branch, steps in self.branches.items()}

    def at(self, target: str, visit: int) -> Place:
        """The place that "branch/step" names."""
        branch, _, step = target.partition("/")
        return Place(branch, step, visit)

    def target(self, where: str, step: str | None = None) -> str:
        """What a jump means, as "branch/step": a branch (its first step), a step that one branch has, or both together.

        Raises `BadArguments` for what is not on the plan, or could be two places.
        """
        if step is not None:
            if where not in self.branches:
                raise BadArguments(f"no branch {where!r}; {self._known(where, self.branches)}")
            if step not in self._order[where]:
                raise BadArguments(
                    f"the branch {where!r} has no step {step!r}; it has {', '.join(self.branches[where])}"
                )
            return f"{where}/{step}"
        homes = [branch for branch, order in self._order.items() if where in order]
        if where in self.branches:
            if homes and homes != [where]:
                raise BadArguments(f"{where!r} is a branch and a step; say jump_to(branch, step)")
            return f"{where}/{self.branches[where][0]}"
        if not homes:
            raise BadArguments(f"no branch or step {where!r}; {self._known(where, [*self.branches, *self.steps()])}")
        if len(homes) > 1:
            raise BadArguments(f"the step {where!r} is in {' and '.join(homes)}; say jump_to(branch, step)")
        return f"{homes[0]}/{where}"

    def target_beside(self, present: Plan | None, where: str, step: str | None, said: tuple[str, str | None]) -> str:
        """The same for code with another plan, `present`, in whose own words it was `said`.

        Raises `OtherPlan` for what is on that one alone: the operation is not wrong, but older than the code.
        """
        try:
            return self.target(where, step)
        except BadArguments as error:
            if present is None or not present.has(*said):
                raise
            told = "/".join(part for part in said if part is not None)
            raise OtherPlan(f"{OTHER_PLAN}, which has no {told!r}, and the code jumps there: {error}") from None

    def has(self, where: str, step: str | None = None) -> bool:
        """Whether a jump to it can be meant."""
        try:
            return bool(self.target(where, step))
        except BadArguments:
            return False

    def steps(self) -> list[str]:
        """The names of all steps, each once."""
        return list(dict.fromkeys(step for steps in self.branches.values() for step in steps))

    def _known(self, name: str, known: object) -> str:
        names = [str(n) for n in known]  # type: ignore[attr-defined]
        near = difflib.get_close_matches(name, names, n=1)
        return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}"


_plan = msgspec.json.Decoder(Plan)


def read_plan(text: str) -> Plan:
    """A stored plan."""
    return _plan.decode(text)
