"""Ordinary classes of every shape, at the top level of a module, as a worker finds them. No line of them knows of piecework."""

from __future__ import annotations

import abc
import asyncio
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from piecework import current

T = TypeVar("T")

SAID: list[Any] = []  # what the methods were called with; a test empties it


class SomeProcess:
    """Keeps the argument that it was built with."""

    def __init__(self, some_id: str) -> None:
        self.some_id = some_id

    def call(self, n: int = 0, *, flag: bool = False) -> list[Any]:
        SAID.append((type(self).__name__, self.some_id, n, flag))
        return [self.some_id, n, flag]

    def told(self, queue: str, delay: int, key: str, within: str, target: str) -> list[Any]:
        return [queue, delay, key, within, target]

    async def wait(self, n: int) -> list[Any]:
        await asyncio.sleep(0)
        return [self.some_id, n]

    def where(self) -> bool:
        return current.inside

    def fails(self) -> None:
        raise ValueError(f"bad {self.some_id}")

    @classmethod
    def named(cls, n: int) -> str:
        return f"{cls.__name__} {n}"

    @staticmethod
    def double(n: int) -> int:
        return 2 * n

    @staticmethod
    async def triple(n: int) -> int:
        await asyncio.sleep(0)
        return 3 * n

    @property
    def prop(self) -> str:
        return self.some_id

    def _secret(self) -> None:
        raise AssertionError("a private method ran")

    def numbers(self) -> Any:
        yield 1

    async def stream(self) -> Any:
        yield 1

    def soon(self, app: Any) -> Any:
        return app.later(self.call)

    lent = len


class Child(SomeProcess):
    """Not decorated: it runs as itself, by the options of its base."""

    def call(self, n: int = 0, *, flag: bool = False) -> list[Any]:
        return ["child", *super().call(n, flag=flag)]


class OtherArguments(SomeProcess):
    """A child with a constructor of its own."""

    def __init__(self, first: int, *, second: int = 2) -> None:
        super().__init__(f"{first}-{second}")


class Everything:
    """Every kind of parameter."""

    def __init__(self, a: Any, /, b: int, *rest: int, c: Any, d: Any = 4, **kw: Any) -> None:
        self.bound = [a, b, list(rest), c, d, kw]

    def call(self) -> list[Any]:
        return self.bound


class Typed:
    """Arguments that are text in JSON."""

    def __init__(self, id: UUID, at: datetime, pairs: tuple[tuple[int, str], ...] = ()) -> None:
        self.all = (id, at, pairs)

    def call(self) -> str:
        return repr(self.all)


class Nothing:
    """Neither `__init__` nor `__new__`."""

    def call(self) -> str:
        return "nothing"


@dataclass
class Data:
    x: int
    tags: list[str] = field(default_factory=list)
    scale: InitVar[int] = 1
    y: int = field(init=False, default=0)

    def __post_init__(self, scale: int) -> None:
        self.y = self.x * scale

    def call(self) -> list[Any]:
        return [self.x, self.tags, self.y]


@dataclass
class MoreData(Data):
    """A dataclass below one that is registered; its `__init__` is made after the class."""

    z: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def call(self) -> list[Any]:
        return [*super().call(), self.z.year]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    x: int
    at: datetime

    def call(self) -> list[Any]:
        return [self.x, self.at.year]


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: int) -> None:
        self.x = x

    def call(self) -> int:
        return self.x


class SlottedChild(Slotted):
    __slots__ = ("y",)

    def __init__(self, x: int, y: int) -> None:
        super().__init__(x)
        self.y = y

    def call(self) -> int:
        return self.x * 10 + self.y


class MadeByNew:
    """An immutable class, made by `__new__` alone."""

    x: int

    def __new__(cls, x: int) -> MadeByNew:
        made = super().__new__(cls)
        made.x = x
        return made

    def call(self) -> int:
        return self.x


class Pair(NamedTuple):
    left: int
    right: str = "r"

    def call(self) -> list[Any]:
        return [self.left, self.right]


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def call(self) -> Any:
        return self.content


class Abstract(abc.ABC):
    def __init__(self, x: int) -> None:
        self.x = x

    @abc.abstractmethod
    def call(self) -> int: ...


class Concrete(Abstract):
    def call(self) -> int:
        return self.x


class Mixin:
    def __init__(self, *args: Any, mixed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mixed = mixed


class Mixed(Mixin, SomeProcess):
    """Two bases, of which the second is registered."""

    def __init__(self, some_id: str, mixed: int) -> None:
        super().__init__(some_id, mixed=mixed)

    def call(self, n: int = 0, *, flag: bool = False) -> list[Any]:
        return [self.some_id, self.mixed]


class Outer:
    class Inner:
        def __init__(self, x: int) -> None:
            self.x = x

        def call(self) -> int:
            return self.x


class Holder:
    """Takes what cannot travel."""

    def __init__(self, thing: Any, other: Any = None) -> None:
        self.thing = thing

    def call(self) -> None: ...


class NewProcess(SomeProcess):
    """What SomeProcess is called after a renaming."""


class CallsItselfLater:
    """Decides in its own constructor."""

    def __init__(self, app: Any = None) -> None:
        self.job = None if app is None else "later"

    def call(self) -> str:
        return "called"


def make_local() -> type:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

        def call(self) -> int:
            return self.x

    return Local
