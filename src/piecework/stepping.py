"""What a step of an operation is given: the globals, and what it may say of the way on.

A step changes nothing by itself. What it sets and where it jumps is kept here until it has ended well, and is stored with
that; a step that raises has said nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from piecework.arrival import compare, culprit
from piecework.codec import too_large
from piecework.documents import check_name, check_plain, plain, raws, size_of
from piecework.errors import BadArguments, NotSerializable, OtherState, TooLarge, UsageError
from piecework.job import Change, ErrorInfo, Wait
from piecework.jsontypes import ENCODE_ERRORS, decoder_of, encode, encode_whole, field_names
from piecework.options import check_coming, check_seconds
from piecework.plan import Place, Plan
from piecework.terms import term

if TYPE_CHECKING:  # a bare `Step` is one of plain globals; type checkers have the name, whatever is installed
    from typing_extensions import TypeVar

    S = TypeVar("S", default=dict[str, Any])
else:
    from typing import TypeVar

    S = TypeVar("S")

OTHER_STATE = "it has the globals of another state"  # so the reason begins for which it is parked

_MUTABLE = (list, dict)
_NO_NAMES: Mapping[str, str] = {}


class Step(Generic[S]):
    """A step that runs: the operation's globals, read and set like a dict's items, and the way on.

    `S` is the operation's declared state, read and changed as `step.state`. What was set is stored when the step has ended
    well, in one transaction with its end; after a step that raised nothing of it is left.

    Example::

        def charge(step: Step) -> None:
            step["charge_id"] = gateway.charge(step["subscription_id"])
            if subscription(step["subscription_id"]).is_red:
                step.jump_to("red")
    """

    def __init__(
        self,
        operation: str,
        place: Place,
        plan: Plan,
        globals: str,
        *,
        attempt: int = 1,
        state: type | None = None,
        names: Callable[[Any], str | None] = lambda target: None,
        limit: int = 1024 * 1024,
        error: ErrorInfo | None = None,
        renamed: Mapping[str, str] = _NO_NAMES,
        bound: str | None = None,
        sealed: str | None = None,
        present: Plan | None = None,
    ) -> None:
        self._present = present  # the plan of the code, where that is another
        self._renamed = renamed  # today's names of steps to those that an older plan has
        self._bound = bound  # why it has no say in the way on …
        self._sealed = sealed  # … and why it sets nothing
        self._operation = operation
        self._place = place
        self._plan = plan
        self._text = globals
        self._attempt = attempt
        self._kind = state
        self._names = names
        self._limit = limit
        self._error = error
        self._stored: dict[str, msgspec.Raw] | None = None
        self._values: dict[str, Any] = {}  # what was handed out or set; encoded again at the end
        self._gone: set[str] = set()
        self._received: dict[str, bytes] = {}  # what came with the signal, not stored yet
        self._state: S | None = None
        self._seen: tuple[dict[str, msgspec.Raw], dict[str, msgspec.Raw]] = (
            {},
            {},
        )  # the globals that it was made of; itself
        self.jump: str | None = None  # "branch/step", once `jump_to` was called
        self.pause: float | datetime | None = None
        self.wait: Wait | None = None

    def __repr__(self) -> str:
        return f"<step {self._place.branch}/{self._place.step} of operation {self._operation}>"

    # ── where it is ──────────────────────────────────────────────────────────────────────────────

    @property
    def operation_id(self) -> str:
        """The operation's id; of one that runs now, an id of that walk alone."""
        return self._operation

    @property
    def name(self) -> str:
        """The step's name."""
        return self._place.step

    @property
    def branch(self) -> str:
        """The branch that the operation is in."""
        return self._place.branch

    @property
    def visit(self) -> int:
        """How many steps the operation has come to, this one included; it only grows, so it can fence outside effects."""
        return self._place.visit

    @property
    def attempt(self) -> int:
        """Which attempt of this step it is, from 1."""
        return self._attempt

    @property
    def error(self) -> ErrorInfo | None:
        """In an undo: why the operation failed; None where it was cancelled."""
        return self._error

    # ── globals ──────────────────────────────────────────────────────────────────────────────────

    @property
    def globals(self) -> dict[str, Any]:
        """All globals as they are now, as a new dict."""
        return {key: self[key] for key in self}

    @property
    def state(self) -> S:
        """The globals as the operation's declared state; what is changed in it is stored with the step's end.

        It has what was set by name before its first use. What is set by name after that is not seen in it; one field that is
        changed in both ways, to different values, fails the step. Raises `UsageError` for an operation without one. Where the
        globals came to the step under an older state, and do not fit this one, `OtherState`: the operation is parked, until
        code comes that they fit, or they are edited.
        """
        if self._kind is None:
            raise UsageError(
                'the operation declares no state; say app.operation(…, state=YourClass), or use step["name"]'
            )
        if self._state is None:
            text = self._encoded()
            self._state = self._read_state(text)
            self._seen = raws(text), raws(self._of_state())
        return self._state

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        if key in self._gone or key not in self._documents():
            raise KeyError(key)
        value = plain(self._documents()[key])
        if isinstance(value, _MUTABLE):
            self._values[str.__str__(key)] = value  # it may be changed in place
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """A global, or the default where there is none of this name."""
        try:
            return self[key]
        except KeyError:
            return default

    def set(self, key: str, value: Any) -> None:
        """Sets a global: None, a bool, a number, text, a list or a dict of such.

        Raises `BadArguments` for a name that is no text of 1 to 200 characters, `NotSerializable` for what would not
        arrive as it was set.
        """
        self._check_open()
        key = check_name(key)
        check_plain(value, f"step[{key!r}]")
        self._gone.discard(key)
        self._values[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def update(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Sets several globals."""
        for key, value in {**(values or {}), **more}.items():
            self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self._check_open()
        if key not in self:
            raise KeyError(key)
        key = str.__str__(key)
        self._values.pop(key, None)
        self._gone.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._values or (key not in self._gone and key in self._documents())

    def __iter__(self) -> Iterator[str]:
        stored = [key for key in self._documents() if key not in self._gone]
        return iter(dict.fromkeys([*stored, *self._values]))

    def _documents(self) -> dict[str, msgspec.Raw]:
        if self._stored is None:
            self._stored = raws(self._text)
        return self._stored

    def _check_open(self) -> None:
        if self._sealed is not None:
            raise UsageError(self._sealed)

    # ── the way on ───────────────────────────────────────────────────────────────────────────────

    def jump_to(self, target: Any, step: Any = None) -> None:
        """Says where the operation goes on when this step has ended; it does not end the step. Of two, the last counts.

        `target` is a branch (its first step), or a step: its name, function or class. A step that several branches have
        is named together with its branch: ``jump_to("main", email)``, or ``jump_to({"main": email})``.
        Raises `BadArguments` for what is not on the plan.
        """
        self._check_free("jump_to")
        target, step = branch_and_step(target, step)
        said = self._name_of(target), None if step is None else self._name_of(step)
        where, there = (None if name is None else self._renamed.get(name, name) for name in said)
        assert where is not None
        self.jump = self._plan.target_beside(self._present, where, there, said)

    def _name_of(self, target: Any) -> str:
        name = target if isinstance(target, str) else self._names(target)
        if name is None:
            raise BadArguments(
                f"jump_to: {target!r:.100} is neither a branch nor a step of this operation; give a branch's name, or a "
                "step's function, class or name"
            )
        return str.__str__(name)

    def _check_free(self, call: str) -> None:
        if self._bound is not None:
            raise UsageError(f"{call}: {self._bound}")

    def sleep(self, until: float | timedelta | datetime) -> None:
        """Says that the next step begins after so many seconds, or at an aware datetime; it does not end this step.

        Nothing is held meanwhile. Behind the last step comes none, and the operation ends without a pause.
        Raises `BadOption` for a time that cannot be.
        """
        self._check_free("sleep")
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise BadArguments(
                    f"sleep: until must be an aware datetime, such as datetime.now(UTC) + …, not {until!r}"
                )
            check_coming(until, "sleep: until")
            self.pause = until.astimezone(UTC)
        else:
            self.pause = check_seconds(until, "sleep")

    def wait_for(
        self,
        signal: str,
        *,
        timeout: float | timedelta | None = None,
        otherwise: str | None = None,
        into: str | None = None,
    ) -> None:
        """Says that the next step begins when a signal has come; it does not end this step.

        The signal's payload becomes the global `into` (the signal's name). After `timeout` seconds without it the operation
        goes to the branch or step `otherwise`, or fails. Nothing is held meanwhile; a signal that came before is taken.
        A `delay` of the next step counts from the signal; a `sleep` of this step from its end.
        Said in the last step, from which nothing was jumped to, it fails the operation there, without another attempt.
        Raises `BadArguments` for what is not on the plan.
        """
        self._check_free("wait_for")
        self.wait = make_wait(signal, timeout, otherwise, into, self._way)

    def _way(self, otherwise: str) -> str:
        """Where a wait leads, as "branch/step" of the operation's own plan. Raises `BadArguments`."""
        where, _, step = otherwise.partition("/")
        if not step:
            return self._plan.target_beside(self._present, self._renamed.get(where, where), None, (where, None))
        return self._plan.target_beside(self._present, where, self._renamed.get(step, step), (where, step))

    @property
    def waits_in_vain(self) -> bool:
        """Whether it waits for a signal, and no step comes that could begin with it."""
        return self.wait is not None and self.jump is None and self._plan.after(self._place) is None

    # ── for the runner ───────────────────────────────────────────────────────────────────────────

    def preset(self, key: str, text: str) -> None:
        """Sets a global from JSON text: what a task, or the pieces, came to."""
        self._gone.discard(key)
        self._values[key] = plain(text)

    def receive(self, key: str, text: str) -> None:
        """Takes in the payload of a signal: it is there from the beginning, and stored with the step's end."""
        raw = encode(plain(text))
        if key not in self._documents() or bytes(self._documents()[key]) != raw:
            self._received[key] = raw
            self._documents()[key] = msgspec.Raw(raw)

    def restrict(self, why: str | None) -> None:
        """From now on it sets nothing and has no say in the way on, for this reason; with None it may again."""
        self._bound = self._sealed = why

    def excerpt(self, keys: Iterable[str]) -> str:
        """Those of the globals that there are, as JSON text."""
        return encode({key: self._raw(key) for key in keys if key in self}).decode()

    def _raw(self, key: str) -> Any:
        return self._values[key] if key in self._values else self._documents()[key]

    def changes(self) -> tuple[Change, ...]:
        """What is to be stored with the step's end.

        Raises `NotSerializable` or `TooLarge`, and `BadArguments` for what does not fit the declared state.
        """
        by_name = bool(self._values or self._gone or self._received)
        made = self.own_changes()
        if not made and not self._received:
            return made
        own = {change.key for change in made}
        received = [self._change(key, text) for key, text in self._received.items() if key not in own]
        self._check_size([*received, *made])
        if by_name:
            self.check_fit()
        return *received, *made

    def check_received(self) -> None:
        """Raises `BadArguments` and `TooLarge` where what came with the signal cannot be kept beside the other globals."""
        self._check_size([])
        self.check_fit()

    def check_fit(self) -> None:
        """Raises `BadArguments` where what was set by name, or came with a signal, does not fit the declared state.

        Globals that did not fit before, such as those of an older state, are nobody's fault here.
        """
        if self._kind is None:
            return
        try:
            self._as_state(self._encoded())
        except BadArguments:
            if self._fitted():
                raise

    def _fitted(self) -> bool:
        """Whether the globals fitted the state when they came to the step."""
        try:
            self._as_state(self._text.encode())
        except BadArguments:
            return False
        return True

    def _read_state(self, text: bytes) -> S:
        try:
            return self._as_state(text)
        except BadArguments as error:
            if self._fitted():
                raise
            raise OtherState(f"{OTHER_STATE}: {error}") from error

    def own_changes(self) -> tuple[Change, ...]:
        """What the step itself changed: without what was received, but for what it made of that."""
        if self._state is not None:
            self._take_state()
        if not self._values and not self._gone:
            return ()
        stored = self._documents()
        made = [Change(key, None) for key in sorted(self._gone) if key in stored]
        for key, value in self._values.items():
            text = self._text_of(key, value)
            if key not in stored or bytes(stored[key]) != text:
                made.append(self._change(key, text))
        return tuple(made)

    def _change(self, key: str, text: bytes) -> Change:
        return Change(key, text.decode(), (term(key, plain(text)),))

    def _take_state(self) -> None:
        """Every field of the state that is not as it was stored; also those that it has no more, which may be unset.

        Raises `BadArguments` for one that was also set by name, to something else, since the state was made.
        """
        assert self._kind is not None
        text = self._of_state()
        compare(self._state, self._as_state(text), "step.state")
        now = raws(text)
        for key in now.keys() | field_names(self._kind):
            self._take_field(key, now.get(key))

    def _take_field(self, key: str, raw: msgspec.Raw | None) -> None:
        """One field as the state has it now; None where it has it no more."""
        changed = _differ(raw, self._seen[1].get(key))
        named = self._named(key)
        if _differ(named, self._seen[0].get(key)):  # by name, since the state was made
            if changed and _differ(named, raw):
                raise BadArguments(
                    f"this step has set step.state.{key} and step[{key!r}], to different values; set it in one of the two ways"
                )
        elif raw is None:
            self._values.pop(key, None)
            self._gone.add(key)
        elif changed or (self._sealed is None and key not in self):  # a new field is stored as it is by default
            self._gone.discard(key)
            self._values[key] = plain(raw)

    def _named(self, key: str) -> msgspec.Raw | None:
        """A global as it is by its name, as JSON text; None where there is none."""
        if key in self._values:
            return msgspec.Raw(self._text_of(key, self._values[key]))
        return None if key in self._gone else self._documents().get(key)

    def _of_state(self) -> bytes:
        try:
            return encode_whole(self._state)
        except ENCODE_ERRORS as error:
            path, what = culprit(self._state, "step.state", error)
            raise NotSerializable(f"{path} cannot be stored: {what}") from error

    def _as_state(self, text: bytes) -> S:
        assert self._kind is not None
        try:
            return cast(S, decoder_of(self._kind).decode(text))
        except ENCODE_ERRORS as error:
            raise BadArguments(f"the globals do not fit the state {self._kind.__qualname__}: {error}") from error

    def _text_of(self, key: str, value: Any) -> bytes:
        if isinstance(value, _MUTABLE):
            check_plain(value, f"step[{key!r}]")  # it may have been changed since it was set
        return encode(value)

    def _check_size(self, made: list[Change]) -> None:
        """What makes the globals grow beyond the bound fails; what keeps them there, or makes them smaller, does not.

        They may have come there by an edit while another step ran, each of which was small enough for what it had read.
        """
        after = {key: len(bytes(raw)) for key, raw in self._documents().items()}
        for change in made:
            after.pop(change.key, None)
            if change.value is not None:
                after[change.key] = len(change.value.encode())
        size = size_of(after)
        if size > self._limit and size > size_of({key: len(bytes(raw)) for key, raw in raws(self._text).items()}):
            raise TooLarge(too_large("the operation's globals", size, self._limit))

    def _encoded(self) -> bytes:
        return encode({key: self._raw(key) for key in self})


def branch_and_step(target: Any, step: Any) -> tuple[Any, Any]:
    """What a jump names, also where that was said as a dict, ``{"main": email}``. Raises `BadArguments`."""
    if not isinstance(target, Mapping):
        return target, step
    if len(target) != 1:
        raise BadArguments(f"jump_to: a dict must name one branch and its step, not {len(target)} of them")
    ((branch, inner),) = target.items()
    if step is not None or inner is None:
        raise BadArguments("jump_to: a dict names one branch and its step, and nothing stands beside it")
    return branch, inner


def _differ(one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    return (one is None) is not (other is None) or (one is not None and bytes(one) != bytes(other or b""))


def make_wait(
    signal: Any,
    timeout: Any,
    otherwise: Any,
    into: Any,
    way: Callable[[str], str] | None,
    what: str = "wait_for",
) -> Wait:
    """A checked wait; `otherwise` becomes "branch/step" by `way`, where the plan is known. Raises `BadArguments`, `BadOption`."""
    signal = check_name(signal, f"{what}: the signal")
    into = signal if into is None else check_name(into, f"{what}: into")
    if otherwise is not None and not isinstance(otherwise, str):
        raise BadArguments(f"{what}: otherwise must be the name of a branch or step, not {otherwise!r:.100}")
    if otherwise is not None and timeout is None:
        raise BadArguments(f"{what}: otherwise is where it goes without a signal in time; say timeout=, too")
    seconds = None if timeout is None else check_seconds(timeout, f"{what}: timeout")
    if otherwise is not None:
        otherwise = str.__str__(otherwise)
        otherwise = otherwise if way is None else way(otherwise)
    return Wait(signal, seconds, into, otherwise)
