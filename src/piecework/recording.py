"""What objects were constructed with, kept beside them: for any class, without a change to its source.

Two functions of a watched class are put in place. `__new__`, which every subclass inherits, sees to it that the class
which is being constructed has an `__init__` that records; that `__init__` keeps the arguments and calls the one that
was there. Copied and unpickled objects do not pass through `__init__`, so that nothing is known of them.
"""

from __future__ import annotations

import enum
import functools
import inspect
import os
import threading
import typing
import weakref
from collections.abc import Callable
from types import MethodWrapperType
from typing import Any, NamedTuple

import msgspec

from piecework.errors import BadOption
from piecework.snapshots import PLAIN, held, released

_RECORDER = "__piecework_recorder__"  # on an __init__ that records
_OWNER = "__piecework_owner__"  # on a __new__ that was put in place
_changing = threading.RLock()
if hasattr(os, "register_at_fork"):  # no child begins with a class that is half changed
    os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_changing.release)


class Given(NamedTuple):
    """The arguments that an object was constructed with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


# ── records ──────────────────────────────────────────────────────────────────────────────────────


class _Kept(weakref.ref[Any]):
    """One record, which goes when its object goes."""

    __slots__ = ("args", "key", "kwargs")
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: int


class _Pinned:
    """One record of an object that knows no weak references: `__del__` lets it go."""

    __slots__ = ("args", "kwargs")
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recorder:
    """What the objects of one class were constructed with. Knows the class's own objects only, none of a subclass."""

    def __init__(self, owner: type) -> None:
        self.owner = owner
        self.bare = _written(owner, "__init__") is None
        self.made_by_new = _written(owner, "__new__") is not None
        self._kept: dict[int, _Kept | _Pinned] = {}
        self._given_again: set[int] = set()
        self._weakly = bool(owner.__weakrefoffset__)
        self._let_go = self._gone

    def keep(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Keeps what an object is constructed with, once: whatever calls its `__init__` again does not construct it.

        Returns whether it did so.
        """
        kept: _Kept | _Pinned
        key = id(made)
        if key in self._kept and not self._begins_again(key, made):
            return False
        if self._weakly:
            kept = _Kept(made, self._let_go)
            kept.key = key
        else:
            kept = _Pinned()
        kept.args = args if PLAIN.issuperset(map(id, map(type, args))) else tuple(map(held, args))
        plain = not kwargs or PLAIN.issuperset(map(id, map(type, kwargs.values())))
        kept.kwargs = kwargs if plain else {name: held(value) for name, value in kwargs.items()}
        self._kept[key] = kept
        return True

    def renewed(self, made: Any) -> Any:
        """What a `__new__` has given out: an object that was there already is about to be constructed again."""
        if id(made) in self._kept:
            self._given_again.add(id(made))
        return made

    def _begins_again(self, key: int, made: Any) -> bool:
        known = self._kept[key]
        again = key in self._given_again or (type(known) is _Kept and known() is not made)
        self._given_again.discard(key)
        return again

    def forget(self, made: Any) -> None:
        self._kept.pop(id(made), None)
        self._given_again.discard(id(made))

    def given(self, made: Any) -> Given | None:
        """The arguments that an object was constructed with; None if its `__init__` was not seen."""
        kept = self._kept.get(id(made))
        if kept is None or (isinstance(kept, _Kept) and kept() is not made):
            return None
        return Given(tuple(map(released, kept.args)), {name: released(v) for name, v in kept.kwargs.items()})

    def _gone(self, kept: _Kept) -> None:
        if self._kept.get(kept.key) is kept:
            del self._kept[kept.key]
            self._given_again.discard(kept.key)


def given_to(made: Any) -> Given | None:
    """What an object was constructed with; None if that was not seen: it is a copy, was unpickled, or is not watched."""
    recorder = _recorder_of(type(made))
    return None if recorder is None else recorder.given(made)


def _recorder_of(kind: type) -> Recorder | None:
    recorder = getattr(kind.__init__, _RECORDER, None)  # type: ignore[misc]
    return recorder if isinstance(recorder, Recorder) and recorder.owner is kind else None


# ── putting in place ─────────────────────────────────────────────────────────────────────────────


def watch(kind: type) -> None:
    """Records from now on what a class's objects, and those of its subclasses, are constructed with.

    Raises `BadOption` for a class whose construction cannot be watched.
    """
    why_not = _unwatchable(kind)
    if why_not is not None:
        raise BadOption(f"{kind.__module__}.{kind.__qualname__} {why_not}")
    with _changing:
        if not hasattr(kind.__new__, _OWNER):
            try:
                _put_new(kind)
            except (TypeError, AttributeError) as error:
                raise BadOption(
                    f"{kind.__module__}.{kind.__qualname__} cannot be a task: its constructor cannot be watched ({error}); "
                    "register a plain class that uses it"
                ) from error


def _unwatchable(kind: type) -> str | None:
    """Why the objects of a class cannot be rebuilt from their arguments, if they cannot."""
    if isinstance(kind, enum.EnumMeta):
        return "is an enum, whose members are not constructed; register a plain class that takes one as an argument"
    if isinstance(kind, msgspec.StructMeta):
        return (
            "is a msgspec.Struct, which calls no __init__; register a dataclass, or a plain class that takes the struct"
        )
    if hasattr(kind, "__pydantic_fields__") and not hasattr(kind, "__dataclass_fields__"):
        return "is a pydantic model, which can be made without __init__; register a plain class that takes the model"
    if getattr(kind, "_is_protocol", False) or typing.is_typeddict(kind):
        return "describes objects and has none of its own; register the class that does the work"
    return constructed_otherwise(kind)


def constructed_otherwise(kind: type) -> str | None:
    """Why it cannot be known what a class is constructed with, where a metaclass stands before its constructor."""
    if type(kind).__call__ is type.__call__:
        return None
    return (
        f"has a metaclass ({type(kind).__qualname__}) with a __call__ of its own, which may construct it with other "
        "arguments than it was given; register a plain class that makes and uses it"
    )


def _put_new(owner: type) -> None:
    kind: Any = owner
    own = vars(owner).get("__new__")
    make = own.__func__ if isinstance(own, staticmethod) else own

    @functools.wraps(make or owner.__new__)
    def __new__(cls: type, /, *args: Any, **kwargs: Any) -> Any:
        recorder = getattr(cls.__init__, _RECORDER, None)  # type: ignore[misc]
        if recorder is None or recorder.owner is not cls:
            recorder = _recording(cls)
        if make is not None:
            return recorder.renewed(make(cls, *args, **kwargs))
        following = super(kind, cls).__new__
        if following is not object.__new__:
            return recorder.renewed(following(cls, *args, **kwargs))
        if args or kwargs:  # object.__new__ would look for an __init__ and a __new__, and find these two
            if recorder.made_by_new:
                raise TypeError("object.__new__() takes exactly one argument (the type to instantiate)")
            if recorder.bare:
                raise TypeError(f"{cls.__name__}() takes no arguments")
        return following(cls)

    setattr(__new__, _OWNER, owner)
    if "__signature__" not in vars(owner):
        kind.__signature__ = _Signature()
    kind.__new__ = staticmethod(__new__)


def _recording(kind: type) -> Recorder:
    """The recorder of a class that is about to be constructed; it is put in place at the first time."""
    with _changing:
        known = _recorder_of(kind)
        if known is not None:
            return known
        own = vars(kind).get("__init__")
        recorder = Recorder(kind)
        kind.__init__ = _put_init(kind, own, recorder)  # type: ignore[misc]
        if not kind.__weakrefoffset__:
            _put_del(kind)
        return recorder


def _put_init(owner: type, own: Any, recorder: Recorder) -> Callable[..., None]:
    call = _inherited(owner) if own is None else own if inspect.isfunction(own) else _bound(own)

    @functools.wraps(owner.__init__)  # type: ignore[misc]
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        if type(self) is not owner:
            call(self, *args, **kwargs)
            return
        first = recorder.keep(self, args, kwargs)
        try:
            call(self, *args, **kwargs)
        except BaseException:
            if first:
                recorder.forget(self)
            raise

    setattr(__init__, _RECORDER, recorder)
    return __init__


def _inherited(owner: type) -> Callable[..., None]:
    """An `__init__` that does what a class does which has none."""
    kind: Any = owner

    def call(self: Any, /, *args: Any, **kwargs: Any) -> None:
        following = super(kind, self).__init__
        if not (args or kwargs) or not _is_objects(following):
            following(*args, **kwargs)
        elif _written(type(self), "__new__") is None:
            raise TypeError(f"{type(self).__name__}.__init__() takes exactly one argument (the instance to initialize)")

    return call


def _is_objects(method: Any) -> bool:
    return type(method) is MethodWrapperType and method.__objclass__ is object


def _bound(own: Any) -> Callable[..., None]:
    """An `__init__` that is no function but some other descriptor."""

    def call(self: Any, /, *args: Any, **kwargs: Any) -> None:
        own.__get__(self, type(self))(*args, **kwargs)

    return call


def _put_del(owner: type) -> None:
    kind: Any = owner
    own = vars(owner).get("__del__")

    def __del__(self: Any, /) -> None:
        recorder = _recorder_of(type(self))
        if recorder is not None:
            recorder.forget(self)
        following = own.__get__(self) if own is not None else getattr(super(kind, self), "__del__", None)
        if following is not None:
            following()

    kind.__del__ = __del__


# ── the constructor, as it was written ───────────────────────────────────────────────────────────


def _written(kind: type, name: str) -> Any:
    """The `__init__` or `__new__` that somebody wrote for a class or a base of it; None where it is object's."""
    for base in kind.__mro__[:-1]:
        found: Any = vars(base).get(name)
        found = found.__func__ if isinstance(found, staticmethod) else found
        if _put_there(found, base):
            found = found.__wrapped__
            if found in (object.__init__, object.__new__) or hasattr(found, _RECORDER) or hasattr(found, _OWNER):
                continue  # put in place where nothing was written
        if found is not None:
            return found
    return None


def _put_there(function: Any, owner: type) -> bool:
    """Whether a function was put in place for this very class."""
    recorder = getattr(function, _RECORDER, None)
    return getattr(function, _OWNER, None) is owner or (recorder is not None and recorder.owner is owner)


def constructor(kind: type) -> Callable[..., Any]:
    """The function that says which arguments a class takes, the object itself being the first."""
    return _written(kind, "__init__") or _written(kind, "__new__") or _takes_nothing


def _takes_nothing(self: Any, /) -> None: ...


class _Signature:
    """`__signature__` of a watched class and its subclasses: what was written, for `inspect` and `help`."""

    def __get__(self, made: Any, owner: type) -> inspect.Signature:
        if made is not None:
            raise AttributeError("__signature__")
        try:
            whole = inspect.signature(constructor(owner))
        except ValueError as error:
            raise AttributeError("__signature__") from error
        return whole.replace(parameters=list(whole.parameters.values())[1:], return_annotation=inspect.Signature.empty)
