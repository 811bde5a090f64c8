"""JSON both ways: msgspec's types, and those that it does not know (paths, pydantic models, references to rows)."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import PurePath
from typing import Any, get_origin

import msgspec

from piecework.rows import Reference, is_row

ENCODE_ERRORS = (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def is_pydantic(kind: Any) -> bool:
    """Whether a type is a pydantic model; a program that uses none never imports pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _enc_hook(value: Any) -> Any:
    if issubclass(type(value), PurePath):  # a proxy's `__class__` may do, and raise, anything
        return str(value)
    if issubclass(type(value), Reference):
        return value.plain()
    if is_pydantic(type(value)):
        return value.model_dump(mode="json")
    if is_row(type(value)):
        raise NotImplementedError(
            f"a {kind_name(type(value))} is a row of a database; it travels as an argument that is annotated with its "
            "class, or in a list, tuple or dict of such; elsewhere pass its key"
        )
    raise NotImplementedError(f"a {kind_name(type(value))} cannot travel")


def _dec_hook(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    origin = get_origin(kind) or kind
    if isinstance(origin, type):
        if issubclass(origin, PurePath):
            return origin(value)
        if issubclass(origin, Reference):
            return origin.read(value)
    if is_pydantic(origin):
        try:
            return kind.model_validate(value)
        except ValueError as error:  # pydantic's own error is one
            raise ValueError(str(error)) from None
    raise NotImplementedError(f"a {kind_name(kind)} cannot travel")


def field_names(kind: Any) -> frozenset[str]:
    """The names under which the fields of a dataclass, Struct or pydantic model are stored."""
    if is_pydantic(kind):
        return frozenset(kind.model_fields)
    if issubclass(kind, msgspec.Struct):
        return frozenset(kind.__struct_encode_fields__)
    return frozenset(field.name for field in dataclasses.fields(kind))


def forbids_others(kind: Any) -> bool:
    """Whether a document with any other field than its own is none of this type."""
    if is_pydantic(kind):
        return bool(kind.model_config.get("extra") == "forbid")
    return issubclass(kind, msgspec.Struct) and kind.__struct_config__.forbid_unknown_fields


def kind_name(kind: Any) -> str:
    """What a type is called in messages."""
    return getattr(kind, "__qualname__", None) or str(kind)


encode = msgspec.json.Encoder(enc_hook=_enc_hook).encode


def encode_whole(value: Any) -> bytes:
    """A value as JSON. Of a Struct also the fields that are as by default, where it would leave those out."""
    text = encode(value)
    if not isinstance(value, msgspec.Struct) or not value.__struct_config__.omit_defaults:
        return text
    said = _raw.decode(text)
    left_out = {name: getattr(value, name) for name in value.__struct_fields__ if name not in said}
    return encode(said | {name: field for name, field in left_out.items() if field is not msgspec.UNSET})


_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    """A decoder to a type. Raises `TypeError` for a type that cannot be read back from JSON."""
    return msgspec.json.Decoder(kind, dec_hook=_dec_hook)
