"""The globals of an operation as a whole: what a start brings, how a run's changes fold into them, and how they are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from piecework.arrival import compare, culprit, refuse_nan
from piecework.codec import MAX_PAYLOAD, too_large
from piecework.documents import check_name, start_globals, with_changes
from piecework.errors import BadArguments, NotSerializable, TooLarge
from piecework.job import Change
from piecework.jsontypes import ENCODE_ERRORS, decoder_of, encode, encode_whole, field_names, forbids_others
from piecework.rows import Unit
from piecework.terms import term

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_plain = msgspec.json.Decoder().decode


class Globals:
    """How the globals of one operation travel: as those of its declared state, or as plain values by name."""

    def __init__(self, operation: str, state: type | None = None) -> None:
        self.operation = operation
        self.state = state
        self._decoder: msgspec.json.Decoder[Any] | None = None if state is None else decoder_of(state)

    def begin(self, args: Sequence[Any], given: Mapping[str, Any], limit: int) -> tuple[str, tuple[Change, ...]]:
        """What a start brings, as JSON text and as changes. Raises `BadArguments` and its kinds."""
        if self.state is not None:
            return self._of_state(self._made(args, given), limit)
        return start_globals(self._named(args, given), self.operation, limit)

    def value(self, text: str) -> Any:
        """Stored globals as the declared state, or as a dict. Raises `BadArguments` where they do not fit the state."""
        if self._decoder is None:
            return _plain(text)
        try:
            return self._decoder.decode(text)
        except ENCODE_ERRORS as error:
            raise BadArguments(f"the globals of {self.operation} do not fit its state: {error}") from error

    def _named(self, args: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        if not args:
            return dict(given)
        if len(args) > 1 or not isinstance(args[0], Mapping):
            raise BadArguments(
                f"{self.operation}: globals are given by name, subscription_id=1, or as one dict; not as {args[0]!r:.100}"
            )
        twice = [key for key in args[0] if key in given]
        if twice:
            raise BadArguments(f"{self.operation}: the global {twice[0]!r} is given twice")
        return {**args[0], **given}

    def _made(self, args: Sequence[Any], given: Mapping[str, Any]) -> Any:
        assert self.state is not None
        if len(args) == 1 and not given and isinstance(args[0], self.state):
            return args[0]
        try:
            return self.state(*args, **given)
        except (TypeError, ValueError) as error:
            raise BadArguments(
                f"{self.operation}: the globals do not make a {self.state.__qualname__}: {error}"
            ) from error

    def _of_state(self, state: Any, limit: int) -> tuple[str, tuple[Change, ...]]:
        where = f"{self.operation}: {type(state).__qualname__}"
        try:
            text = encode_whole(state)
        except ENCODE_ERRORS as error:
            path, what = culprit(state, where, error)
            raise NotSerializable(f"{path} cannot be stored: {what}") from error
        compare(state, self.value(text.decode()), where)
        if len(text) > limit:
            raise TooLarge(too_large(f"the globals of {self.operation}", len(text), limit))
        return text.decode(), as_changes(text.decode())

    def edits(self, stored: str, values: Mapping[str, Any], limit: int) -> tuple[Change, ...]:
        """What setting some globals by hand changes. Raises `BadArguments` and its kinds, also where they do not fit the state."""
        where = self.operation
        if self.state is None:
            changes = start_globals(values, where, limit)[1]
        else:
            self._refuse_unknown(stored, values)
            changes = tuple(self._edit(key, value) for key, value in values.items())
        after = with_changes(stored, changes)
        if len(after.encode()) > max(limit, len(stored.encode())):  # what takes something away is always right
            raise TooLarge(too_large(f"the globals of {where}", len(after.encode()), limit))
        state = self.value(after)
        for key, value in values.items() if self.state is not None else ():
            self._must_arrive(key, value, _plain(after)[key], state)
        return changes

    def part(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked for, as it is stored: of a declared state also what is no plain value. Raises `NotSerializable`.

        Raises `BadArguments` for a name that no operation can have: one that is no field, of a state that forbids others.
        """
        if self.state is None:
            return dict(values)
        if forbids_others(self.state):
            self._refuse_others(values)
        return {key: _plain((self._edit(key, value).value or "null").encode()) for key, value in values.items()}

    def without(self, stored: str, names: Sequence[str]) -> tuple[Change, ...]:
        """What taking some globals away changes. Raises `BadArguments` where the state cannot be without them."""
        there = _raw.decode(stored)
        for name in names:
            if name not in there:
                raise BadArguments(
                    f"{self.operation}: there is no global {name!r}; there are {', '.join(there) or 'none'}"
                )
        changes = tuple(Change(str.__str__(name), None) for name in names)
        self.value(with_changes(stored, changes))
        return changes

    def _refuse_unknown(self, stored: str, names: Iterable[str]) -> None:
        """Raises `BadArguments` for a name that neither the state has, nor what steps have set beside it."""
        assert self.state is not None
        fields = field_names(self.state)
        if getattr(self.state, "model_config", {}).get("extra") == "allow":  # a pydantic model that has any field
            return
        for name in names:
            if name not in fields and name not in _raw.decode(stored):
                raise BadArguments(
                    f"{self.operation}: its state {self.state.__qualname__} has no field {name!r}; it has "
                    + ", ".join(sorted(fields))
                )

    def _must_arrive(self, key: str, value: Any, stored: Any, state: Any) -> None:
        """Raises `NotSerializable` for what is read back neither as it is stored, in plain values, nor as in the state."""
        where = f"{self.operation}: {key}"
        try:
            compare(value, stored, where)
        except NotSerializable:
            compare(value, getattr(state, key, stored), where)

    def _refuse_others(self, names: Iterable[str]) -> None:
        assert self.state is not None
        fields = field_names(self.state)
        for name in names:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                raise BadArguments(
                    f"where: {self.operation} has the state {self.state.__qualname__}, which has no field {name!r}; "
                    + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(fields))}")
                    + f" (what an older state had is found by app.operations.where({name}=…))"
                )

    def _edit(self, key: str, value: Any) -> Change:
        key = check_name(key, f"{self.operation}: a global's name")
        refuse_nan(value, f"{self.operation}: {key}")
        try:
            text = encode(value).decode()
        except ENCODE_ERRORS as error:
            raise NotSerializable(f"{self.operation}: {key} cannot be stored: {error}") from error
        return Change(key, text, (term(key, _plain(text)),))

    # ── as the arguments of its job ──────────────────────────────────────────────────────────────

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = MAX_PAYLOAD) -> str:
        """The JSON text of what a start brings."""
        return self.begin(args, kwargs, limit)[0]

    def reads(self, text: str) -> bool:
        """Whether stored globals fit the operation as it is declared now."""
        try:
            self.decode(text)
        except (*ENCODE_ERRORS, BadArguments):
            return False
        return True

    def unit(self) -> Unit | None:
        """None: globals hold no rows."""
        return None

    def decode(self, text: str, unit: Unit | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The globals to begin with, by name."""
        self.value(text)
        return (), _plain(text)


def as_changes(text: str) -> tuple[Change, ...]:
    """A whole document of globals, as the changes that make it."""
    parts = {key: bytes(raw).decode() for key, raw in _raw.decode(text).items()}
    return tuple(Change(key, value, (term(key, _plain(value)),)) for key, value in parts.items())


def asked(globals: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    """The globals that `where` was given, as one dict and by name. Raises `BadArguments`."""
    if globals is not None and not isinstance(globals, Mapping):
        raise BadArguments(
            f"where: globals are given by name, subscription_id=7, or as one dict; not as {globals!r:.100}"
        )
    return {**(globals or {}), **more}


def plain_part(values: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """What globals are asked for, as they are stored. Raises `BadArguments` for what cannot be a global."""
    found: dict[str, Any] = _plain(start_globals(values, "where", limit)[0])
    return found
