"""Arguments and results to JSON and back, typed by the function's own annotations.

What arrives in the worker equals what was sent, or the call is refused: a value that its annotation would turn into
something else (a tuple into a list, a datetime into text, NaN into null) is an error where it was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from piecework.arrival import compare, culprit, equal, refuse_nan
from piecework.errors import BadArguments, NotSerializable, TooLarge, UsageError
from piecework.jsontypes import ENCODE_ERRORS, decoder_of, encode, kind_name
from piecework.rows import Rows, Unit, refuse_row, rows_in_use

MAX_PAYLOAD = 1024 * 1024

_SELF_EVIDENT = {int, str, bool}
_astuple = msgspec.structs.astuple
_IMMUTABLE = (type(None), bool, int, float, str, bytes, frozenset, tuple)


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


class Signature:
    """A function's parameters, as the type of its stored arguments: a JSON object by parameter name.

    `bound` leaves out the first parameter. `rows` makes models into references; `hints` tells the annotations, where
    the function alone does not know them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        task: str,
        *,
        bound: bool = False,
        rows: Rows | None = None,
        hints: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.task = task
        self._rows = rows
        self._takes_rows = False
        self._hints = hints or partial(resolve_hints, function)
        parameters = list(inspect.signature(function).parameters.values())
        self._parameters = parameters[1:] if bound else parameters
        self._signature = inspect.Signature(self._parameters)
        self._names = tuple(p.name for p in self._parameters)
        self._simple = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in self._parameters)
        self._exact: tuple[Any, ...] = ()
        self._decoder: msgspec.json.Decoder[Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are given by name; ``*args`` and ``**kwargs`` are not."""
        return tuple(p.name for p in self._parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))

    def __str__(self) -> str:
        return str(self._signature.replace(return_annotation=inspect.Signature.empty))

    @property
    def placeholders(self) -> tuple[tuple[None, ...], dict[str, None]]:
        """A call of this shape, without values: what is given by place, and what by name only."""
        by_place = [p for p in self._parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return (None,) * len(by_place), {p.name: None for p in self._parameters if p.kind is p.KEYWORD_ONLY}

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """A call's arguments by the names of the parameters, defaults included. Raises `BadArguments`."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"{self.task}{self._signature}: {error}") from None
        bound.apply_defaults()
        return bound

    def fits(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the function could be called so."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def missing(self, given: Container[str]) -> list[str]:
        """The parameters without a default that are not among the given ones."""
        required = {p.name for p in self._parameters if p.default is p.empty}
        return [name for name in self.names if name in required and name not in given]

    def _resolve(self) -> msgspec.json.Decoder[Any]:
        """Built at first use, when every name that the annotations mention exists."""
        if self._decoder is None:
            hints = self._hints()
            self._exact = tuple(hints.get(p.name) for p in self._parameters)
            if not set(self._exact) <= _SELF_EVIDENT:
                self._exact = (None,)
            if self._rows is not None:
                plain = {name: self._rows.rewritten(hint) for name, hint in hints.items()}
                self._takes_rows = any(plain[p.name] is not hints[p.name] for p in self._parameters if p.name in hints)
                hints = plain
            fields = [(p.name, _field_type(p, hints.get(p.name, Any)), *_default(p)) for p in self._parameters]
            try:
                kind = msgspec.defstruct("Arguments", fields, frozen=True, forbid_unknown_fields=True, kw_only=True)
                self._decoder = decoder_of(kind)
            except TypeError as error:
                raise BadArguments(f"the annotations of {self.task} cannot be read back from JSON: {error}") from error
        return self._decoder

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = MAX_PAYLOAD) -> str:
        """The JSON text of a call's arguments.

        Raises `BadArguments` where they do not fit the signature, `NotSerializable` where they cannot travel unchanged,
        `TooLarge` above `limit` bytes.
        """
        decoder = self._decoder or self._resolve()
        whole = self._simple and not kwargs and len(args) == len(self._names)
        given = dict(zip(self._names, args, strict=True)) if whole else self._bind(args, kwargs)
        exact = whole and tuple(map(type, args)) == self._exact
        if not exact and rows_in_use():
            given = {name: self._referred(name, value) for name, value in given.items()}
            whole = whole and not self._takes_rows
        try:
            text = encode(given)
            if len(text) > limit:
                raise TooLarge(too_large(f"the arguments of {self.task}", len(text), limit))
            if exact:
                return text.decode()  # these types cannot but arrive as they are
            arrived = decoder.decode(text)
        except TooLarge:
            raise
        except ENCODE_ERRORS as error:
            raise self._explain(given, error) from error
        if b"null" in text or not (whole and equal(_astuple(arrived), tuple(args))):
            for name, value in given.items():
                compare(value, getattr(arrived, name), f"{self.task}: argument {name}")
        return text.decode()

    def _referred(self, name: str, value: Any) -> Any:
        """A value with references in place of rows, where its parameter is annotated with their model."""
        try:
            if self._takes_rows and self._rows is not None:
                return self._rows.reduced(value)
            refuse_row(value)
        except BadArguments as error:
            raise BadArguments(f"{self.task}: argument {name}: {error}") from None
        return value

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"{self.task}{self._signature}: {error}") from None
        return {
            p.name: list(bound.arguments[p.name]) if p.kind is p.VAR_POSITIONAL else bound.arguments[p.name]
            for p in self._parameters
            if p.name in bound.arguments
        }

    def _explain(self, given: dict[str, Any], error: BaseException) -> BadArguments:
        """Finds the argument that is to blame."""
        for name, value in given.items():
            try:
                said = self._cannot_travel(name, value)
            except UsageError:
                raise
            except Exception as cause:  # of a proxy, or of a class that compares in its own way
                said = f"argument {name} cannot travel: a {kind_name(type(value))} that raises {cause!r} when looked at"
            if said is not None:
                return NotSerializable(f"{self.task}: {said}")
        if isinstance(error, msgspec.ValidationError):
            return BadArguments(f"{self.task}: {str(error).replace('$.', 'argument ')}")
        return NotSerializable(f"{self.task}: the arguments cannot travel: {error}")

    def _cannot_travel(self, name: str, value: Any) -> str | None:
        """Why one argument cannot be encoded, if it cannot."""
        compare(value, value, f"{self.task}: argument {name}")
        try:
            encode(value)
        except ENCODE_ERRORS as cause:
            path, what = culprit(value, name, cause)
            return f"argument {path} cannot travel: {what}"
        return None

    def reads(self, text: str | bytes) -> bool:
        """Whether stored arguments fit the function as it is now."""
        try:
            (self._decoder or self._resolve()).decode(text)
        except (*ENCODE_ERRORS, BadArguments):
            return False
        return True

    def unit(self) -> Unit | None:
        """A new unit of rows for one run; None for a task that takes none. Raises `BadArguments` as `encode` does."""
        if self._decoder is None:
            self._resolve()
        return Unit() if self._takes_rows else None

    def decode(self, text: str | bytes, unit: Unit | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to call the function with; the rows among them are loaded by `unit`.

        Raises `BadArguments` where they do not fit the function any more, `RowGone` where a row is not there.
        """
        try:
            values = (self._decoder or self._resolve()).decode(text)
        except ENCODE_ERRORS as error:
            raise BadArguments(f"{self.task}: the stored arguments do not fit {self._signature}: {error}") from error
        if unit is None and self._simple:
            return _astuple(values), {}
        args, kwargs = self._arguments(values)
        return (args, kwargs) if unit is None else unit.restored((args, kwargs))

    def _arguments(self, values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The parts of the decoded struct as a function takes them."""
        if self._simple:
            return _astuple(values), {}
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for p in self._parameters:
            value = getattr(values, p.name)
            if p.kind is p.VAR_POSITIONAL:
                positional.extend(value)
            elif p.kind is p.VAR_KEYWORD:
                named.update(value)
            elif p.kind is p.KEYWORD_ONLY:
                named[p.name] = value
            else:
                positional.append(value)
        return tuple(positional), named


def resolve_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations as types. Raises `BadArguments` where one names something that cannot be found."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise BadArguments(
            f"an annotation of {function.__module__}.{function.__qualname__} cannot be resolved ({error}); "
            "import the name where the function is defined, outside of TYPE_CHECKING"
        ) from error


def _field_type(p: inspect.Parameter, hint: Any) -> Any:
    if p.kind is p.VAR_POSITIONAL:
        return list[hint]
    if p.kind is p.VAR_KEYWORD:
        return dict[str, hint]
    return hint


def _default(p: inspect.Parameter) -> tuple[Any, ...]:
    if p.kind is p.VAR_POSITIONAL:
        return (msgspec.field(default_factory=list),)
    if p.kind is p.VAR_KEYWORD:
        return (msgspec.field(default_factory=dict),)
    if p.default is p.empty:
        return ()
    default = p.default
    if isinstance(default, _IMMUTABLE):
        return (default,)
    return (msgspec.field(default_factory=lambda: default),)


def too_large(what: str, size: int, limit: int) -> str:
    return (
        f"{what} would take {size:,} bytes, and the limit is {limit:,}; store the data elsewhere and pass a reference, "
        "or raise max_payload"
    )


def _without_verdicts(kind: Any) -> Any:
    """A return annotation without its exceptions: ``-> str | Retry`` stores text, and a verdict is never a result."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return Annotated[(_without_verdicts(inner), *notes)]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    left = [part for part in get_args(kind) if not (isinstance(part, type) and issubclass(part, BaseException))]
    return Union[tuple(left)] if left else None  # noqa: UP007 - made of what is left


# ── results ──────────────────────────────────────────────────────────────────────────────────────


class ResultCodec:
    """A function's return value, typed by its return annotation."""

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        self._function = function
        self._task = task
        self._plain = False
        self._decoder: msgspec.json.Decoder[Any] | None = None

    def encode(self, value: Any, limit: int = MAX_PAYLOAD) -> str | None:
        """JSON text; None for None. Raises `NotSerializable` or `TooLarge`."""
        if value is None:
            return None
        try:
            text = encode(value)
        except ENCODE_ERRORS as error:
            if inspect.iscoroutine(value):
                value.close()
                raise NotSerializable(
                    f"{self._task}: it returned a coroutine, which nobody awaits: a decorator that is no async def stands above "
                    "an async def; make the decorator's function async def too, with functools.wraps"
                ) from error
            path, what = culprit(value, "the result", error)
            raise NotSerializable(f"{self._task}: {path} cannot be stored: {what}") from error
        if len(text) > limit:
            raise TooLarge(too_large(f"the result of {self._task}", len(text), limit))
        self._check(value, text)
        return text.decode()

    def _check(self, value: Any, text: bytes) -> None:
        """Whoever waits for the result must be able to read it, and find in it what was returned."""
        decoder = self._decoder or self._resolve()
        if b"null" in text:
            refuse_nan(value, f"{self._task}: the result")
        if self._plain:
            return  # without an annotation it is read as plain JSON types, here as everywhere
        try:
            arrived = decoder.decode(text)
        except ENCODE_ERRORS as error:
            raise NotSerializable(
                f"{self._task}: the result does not fit the return annotation: {str(error).replace(' - at `$`', '')}"
            ) from error
        if not equal(arrived, value):
            compare(value, arrived, f"{self._task}: the result")

    def decode(self, text: str | None) -> Any:
        """The value, as the return annotation says; plain JSON types without one."""
        if text is None:
            return None
        return (self._decoder or self._resolve()).decode(text)

    def _resolve(self) -> msgspec.json.Decoder[Any]:
        kind: Any = Any
        try:
            kind = _without_verdicts(resolve_hints(self._function).get("return", Any))
            self._decoder = decoder_of(kind)
        except BadArguments:
            kind, self._decoder = Any, msgspec.json.Decoder()
        except TypeError:  # a type that cannot be read back from JSON; what is plain JSON by itself may still pass
            self._decoder = msgspec.json.Decoder()
        self._plain = kind is Any
        return self._decoder
