"""Arguments and results to JSON and back, typed by the function's own annotations.

What arrives in the worker equals what was sent, or the call is refused: a value that its annotation would turn into
something else (a tuple into a list, a datetime into text, NaN into null) is an error where it was given.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from piecework.errors import BadArguments, NotSerializable, TooLarge

MAX_PAYLOAD = 1024 * 1024

_SELF_EVIDENT = {int, str, bool}
_IMMUTABLE = (type(None), bool, int, float, str, bytes, frozenset, tuple)


# ── types beyond msgspec's own ───────────────────────────────────────────────────────────────────


def _is_pydantic(kind: Any) -> bool:
    """Whether a type is a pydantic model; a program that uses none never imports pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _enc_hook(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a {_name(type(value))} cannot travel")


def _dec_hook(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return origin(value)
    if _is_pydantic(origin):
        try:
            return kind.model_validate(value)
        except ValueError as error:  # pydantic's own error is one
            raise ValueError(str(error)) from None
    raise NotImplementedError(f"a {_name(kind)} cannot travel")


_astuple = msgspec.structs.astuple
_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", None) or str(kind)


def _encode(value: Any) -> bytes:
    return _encoder.encode(value)


_ENCODE_ERRORS = (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


class Signature:
    """A function's parameters, as the type of its stored arguments: a JSON object by parameter name."""

    def __init__(self, function: Callable[..., Any], task: str, *, bound: bool = False) -> None:
        self.task = task
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        self._parameters = parameters[1:] if bound else parameters
        self._signature = inspect.Signature(self._parameters)
        self._names = tuple(p.name for p in self._parameters)
        self._simple = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in self._parameters)
        self._exact: tuple[Any, ...] = ()
        self._decoder: msgspec.json.Decoder[Any] | None = None

    def _resolve(self) -> msgspec.json.Decoder[Any]:
        """Built at first use, when every name that the annotations mention exists."""
        if self._decoder is None:
            hints = resolve_hints(self._function)
            self._exact = tuple(hints.get(p.name) for p in self._parameters)
            if not set(self._exact) <= _SELF_EVIDENT:
                self._exact = (None,)
            fields = [(p.name, _field_type(p, hints.get(p.name, Any)), *_default(p)) for p in self._parameters]
            try:
                kind = msgspec.defstruct("Arguments", fields, frozen=True, forbid_unknown_fields=True, kw_only=True)
                self._decoder = msgspec.json.Decoder(kind, dec_hook=_dec_hook)
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
        try:
            text = _encode(given)
            if len(text) > limit:
                raise TooLarge(_too_large(f"the arguments of {self.task}", len(text), limit))
            if whole and tuple(map(type, args)) == self._exact:
                return text.decode()  # these types cannot but arrive as they are
            arrived = decoder.decode(text)
        except TooLarge:
            raise
        except _ENCODE_ERRORS as error:
            raise self._explain(given, error) from error
        if b"null" in text or not (whole and _equal(_astuple(arrived), tuple(args))):
            for name, value in given.items():
                compare(value, getattr(arrived, name), f"{self.task}: argument {name}")
        return text.decode()

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
            compare(value, value, f"{self.task}: argument {name}")
            try:
                _encode(value)
            except _ENCODE_ERRORS as cause:
                path, what = _culprit(value, name, cause)
                return NotSerializable(f"{self.task}: argument {path} cannot travel: {what}")
        if isinstance(error, msgspec.ValidationError):
            return BadArguments(f"{self.task}: {str(error).replace('$.', 'argument ')}")
        return NotSerializable(f"{self.task}: the arguments cannot travel: {error}")

    def reads(self, text: str) -> bool:
        """Whether stored arguments fit the function as it is now."""
        try:
            (self._decoder or self._resolve()).decode(text)
        except (*_ENCODE_ERRORS, BadArguments):
            return False
        return True

    def decode(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to call the function with. Raises `BadArguments` where they do not fit the function any more."""
        try:
            values = (self._decoder or self._resolve()).decode(text)
        except _ENCODE_ERRORS as error:
            raise BadArguments(f"{self.task}: the stored arguments do not fit {self._signature}: {error}") from error
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


def _too_large(what: str, size: int, limit: int) -> str:
    return (
        f"{what} take {size:,} bytes, and the limit is {limit:,}; store the data elsewhere and pass a reference, "
        "or raise max_payload"
    )


# ── does it arrive as it was sent? ───────────────────────────────────────────────────────────────


def compare(sent: Any, arrived: Any, path: str) -> None:
    """Raises `NotSerializable` at the first place where what arrives is not what was sent."""
    try:
        refuse_nan(sent, path)
        _compare(sent, arrived, path)
    except RecursionError:
        raise NotSerializable(f"{path} is nested too deeply to travel") from None


def _compare(sent: Any, arrived: Any, path: str) -> None:
    if isinstance(sent, Mapping) and isinstance(arrived, Mapping):
        if list(sent) != list(arrived):
            raise NotSerializable(
                f"{path} has keys that would arrive as {list(arrived)[:3]!r} instead of {list(sent)[:3]!r}; "
                "annotate it as dict[…, …]"
            )
        for key, value in sent.items():
            _compare(value, arrived[key], f"{path}[{key!r}]")
    elif type(sent) is type(arrived) and (parts := _parts(sent, path)) is not None:
        others = _parts(arrived, path) or []
        if len(parts) != len(others):
            raise NotSerializable(f"{path} would arrive with {len(others)} items instead of {len(parts)}")
        for (inner, one), (_, other) in zip(parts, others, strict=True):
            _compare(one, other, inner)
    elif not _equal(sent, arrived) and not _uncomparable(sent, arrived):
        if type(sent) is type(arrived):
            raise NotSerializable(f"{path} is {sent!r:.100} and would arrive as {arrived!r:.100}")
        raise NotSerializable(
            f"{path} is a {_name(type(sent))} and would arrive as a {_name(type(arrived))}; annotate it with its type"
        )


def _parts(value: Any, path: str) -> list[tuple[str, Any]] | None:
    """What an ordered compound value is made of; None for a value that is compared as a whole."""
    if isinstance(value, list | tuple):
        return [(f"{path}[{n}]", item) for n, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f"{path}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, msgspec.Struct):
        return [(f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__]
    if _is_pydantic(type(value)):
        return [(f"{path}.{name}", item) for name, item in vars(value).items()]
    return None


def _uncomparable(sent: Any, arrived: Any) -> bool:
    """Whether two values are of one class that knows no equality but identity; their class must be taken at its word."""
    kind = type(sent)
    return kind is type(arrived) and "__eq__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}


def _equal(sent: Any, arrived: Any) -> bool:
    """Whether two values are equal, an int and a float or an enum and its value too; what cannot be compared is not."""
    try:
        if isinstance(sent, Decimal) and isinstance(arrived, Decimal):
            return not sent.is_snan() and (sent.compare_total(arrived) == 0 or sent == arrived)
        return bool(sent == arrived)
    except Exception:
        return False


def refuse_nan(value: Any, path: str) -> None:
    """Raises `NotSerializable` for a float that JSON does not know, however deep; the encoder would make it null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotSerializable(f"{path} is {value}, which JSON does not know; pass None, or a string")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            refuse_nan(key, f"{path}: the key {key!r}")
            refuse_nan(item, f"{path}[{key!r}]")
    elif isinstance(value, set | frozenset):
        for item in value:
            refuse_nan(item, f"{path}: the item {item!r}")
    else:
        for inner, item in _parts(value, path) or ():
            refuse_nan(item, inner)


def _culprit(value: Any, path: str, error: BaseException) -> tuple[str, str]:
    """The innermost part of a value that cannot be encoded."""
    if isinstance(value, Mapping):
        parts = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, set | frozenset):
        parts = [(f"{path}: the item {item!r:.50}", item) for item in value]
    else:
        parts = _parts(value, path) or []
    for inner, item in parts:
        try:
            _encode(item)
        except RecursionError:
            return path, "it is nested too deeply"
        except _ENCODE_ERRORS as cause:
            return _culprit(item, inner, cause)
    return path, str(error) or type(error).__name__


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
            text = _encode(value)
        except _ENCODE_ERRORS as error:
            path, what = _culprit(value, "the result", error)
            raise NotSerializable(f"{self._task}: {path} cannot be stored: {what}") from error
        if len(text) > limit:
            raise TooLarge(_too_large(f"the result of {self._task}", len(text), limit))
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
        except _ENCODE_ERRORS as error:
            raise NotSerializable(
                f"{self._task}: the result does not fit the return annotation: {str(error).replace(' - at `$`', '')}"
            ) from error
        if not _equal(arrived, value):
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
            self._decoder = msgspec.json.Decoder(kind, dec_hook=_dec_hook)
        except BadArguments:
            kind, self._decoder = Any, msgspec.json.Decoder()
        except TypeError:  # a type that cannot be read back from JSON; what is plain JSON by itself may still pass
            self._decoder = msgspec.json.Decoder()
        self._plain = kind is Any
        return self._decoder
