"""What a job is known by outside: its identity, its tags, and what it says of itself, as text that any store keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from piecework.arrival import compare, culprit, refuse_nan
from piecework.codec import MAX_PAYLOAD, Signature, too_large
from piecework.errors import BadArguments, BadOption, NotSerializable, TooLarge
from piecework.errortext import clean, storable
from piecework.jsontypes import ENCODE_ERRORS, encode

MAX_IDENTITY = 300  # characters: it is part of a unique key, and of an index
_plain = msgspec.json.Decoder().decode
_sorted = msgspec.json.Encoder(order="deterministic").encode


# ── identities ───────────────────────────────────────────────────────────────────────────────────


class Identity:
    """How the identity of a call follows from its arguments: by a function of them, or by the names of some."""

    def __init__(self, given: Callable[..., Any] | tuple[str, ...], signature: Signature) -> None:
        self._given = given
        self._signature = signature
        _check_given(given, signature)

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """The identity of a call; None where it has none. Raises `BadArguments`."""
        bound = self._signature.bound(args, kwargs)
        where = f"{self._signature.task}: identity"
        if isinstance(self._given, tuple):
            return identity_text([bound.arguments[name] for name in self._given], where)
        try:
            value = self._given(*bound.args, **bound.kwargs)
        except Exception as error:
            raise BadArguments(
                f"{where}= raised {type(error).__name__}: {clean(str(error), 200)}; to ask by the identity's own value, say "
                "using(identity=…)"
            ) from error
        return identity_text(value, where)

    def asked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """The identity that somebody asks for: of what fits the task's parameters as of a call, else the value itself.

        Raises `BadArguments`.
        """
        if kwargs or not args or self._signature.fits(args, kwargs):
            return self.of(args, kwargs)
        return identity_text(list(args), f"{self._signature.task}: identity")


def _check_given(given: Callable[..., Any] | tuple[str, ...], signature: Signature) -> None:
    """Raises `BadOption` for what could not be asked of any call."""
    task = signature.task
    if isinstance(given, tuple):
        for name in given:
            if name not in signature.names:
                raise BadOption(f"the task {task}: identity={name!r} is none of its arguments {signature}")
        return
    try:
        shape = inspect.signature(given)
        shape.bind(*signature.placeholders[0], **signature.placeholders[1])
    except ValueError:  # a builtin without a signature
        return
    except TypeError:
        raise BadOption(
            f"the task {task}: identity= is called with its arguments {signature}, and takes {shape}"
        ) from None


def identity_text(value: Any, where: str) -> str | None:
    """An identity as it is stored: text as it is, of several values a JSON array, of one in a list that one.

    7 and "7" are one identity. None is none. Raises `BadArguments`.
    """
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    text = value if type(value) is str else _as_json(value, where)
    if len(text) > MAX_IDENTITY or not storable(text):
        raise BadArguments(
            f"{where} must be text of up to {MAX_IDENTITY} characters, without NUL, or what is as short as JSON, not "
            f"{value!r:.100}"
        )
    return text


def _as_json(value: Any, where: str) -> str:
    try:
        refuse_nan(value, where)
        plain = _plain(encode(value))
        return plain if isinstance(plain, str) else _sorted(plain).decode()
    except NotSerializable as error:
        raise BadArguments(str(error)) from None
    except ENCODE_ERRORS as error:
        raise BadArguments(f"{where} cannot be {value!r:.100}: {error}") from None


def key_for(task: str, identity: str) -> str:
    """The unique key by which a task has at most one unfinished job of an identity."""
    return f"{task}({identity})"


# ── status ───────────────────────────────────────────────────────────────────────────────────────


def status_text(status: Any, limit: int = MAX_PAYLOAD) -> str:
    """What a job says of itself, as JSON text. Raises `BadArguments`, `NotSerializable` or `TooLarge`."""
    if not isinstance(status, Mapping):
        raise BadArguments(f"set_status: the status must be a dict, not {status!r:.100}")
    for name in status:
        if type(name) is not str:
            raise BadArguments(f"set_status: the keys of a status are text, not {name!r:.100}")
    try:
        text = encode(dict(status))
    except ENCODE_ERRORS as error:
        path, what = culprit(status, "the status", error)
        raise NotSerializable(f"set_status: {path} cannot be stored: {what}") from error
    if len(text) > limit:
        raise TooLarge(too_large("the status", len(text), limit))
    compare(dict(status), _plain(text), "set_status: the status")
    return text.decode()
