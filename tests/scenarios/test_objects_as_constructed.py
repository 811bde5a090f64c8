"""What a worker builds is what was constructed, whatever happened to the object since; and what a decorator leaves of it."""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from piecework import Piecework
from piecework.errors import BadArguments, JobFailed, NotSerializable
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it, and after


def unwrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(self: Any, *args: Any) -> Any:
        return method(self, *args)

    return wrapper


def not_awaiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, *args: Any) -> Any:
        return method(self, *args)

    return wrapper


class Cart:
    def __init__(self, items: list[int], owner: str = "nobody") -> None:
        self.items, self.owner = items, owner

    def reset(self) -> None:
        self.__init__([])  # type: ignore[misc]

    def told(self) -> list[Any]:
        return [self.items, self.owner]

    @unwrapped
    def count(self, more: int) -> int:
        return len(self.items) + more

    @not_awaiting
    async def fetched(self) -> int:
        return 1


class BigCart(Cart):
    @unwrapped
    def count(self, more: int) -> int:
        return 0


class Wants:
    def __init__(self, dependency: Any, n: int = 0) -> None:
        self.n = n

    def told(self) -> int:
        return self.n


class Outside:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("working outside of context")


class Comparing(type):
    def __eq__(cls, other: object) -> bool:
        return cls is other


class Compared(metaclass=Comparing): ...


@pytest.fixture
def app(app: Piecework) -> Piecework:
    app.task(attempts=1)(Cart)
    app.task(attempts=1)(Wants)
    return app


def ended(app: Piecework, job: Any) -> Any:
    drain(app)
    return job.result(timeout=0)


def test_what_was_put_into_a_list_afterwards_does_not_travel(app: Piecework) -> None:
    items = [1]
    cart = Cart(items, owner="Ada")
    items.append(2)
    assert cart.told() == [[1, 2], "Ada"]
    assert ended(app, app.later(cart.told)) == [[1], "Ada"]


def test_an_object_that_was_reset_travels_as_it_was_constructed(app: Piecework) -> None:
    cart = Cart([1], owner="Ada")
    cart.reset()
    assert cart.told() == [[], "nobody"]
    assert ended(app, app.later(cart.told)) == [[1], "Ada"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Outside, "a Outside that raises RuntimeError.*outside of context"),
        (Compared, "a Compared that raises TypeError"),
    ],
)
def test_an_argument_that_cannot_be_looked_at_is_refused_at_the_call_and_not_before(
    app: Piecework, kind: Any, said: str
) -> None:
    dependency = kind()
    wants = Wants(dependency, n=2)
    assert wants.told() == 2
    with pytest.raises(NotSerializable, match=f"Wants: argument dependency cannot travel: {said}"):
        app.later(wants.told)
    assert app.jobs.where().count() == 0


def test_a_method_whose_decorator_hides_its_name_runs(app: Piecework) -> None:
    assert ended(app, app.later(Cart([1]).count, 2)) == 3


def test_a_method_whose_decorator_hides_its_name_is_told_by_the_name_in_the_class(app: Piecework) -> None:
    with pytest.raises(BadArguments, match=r"Cart\.count is bound to no object; .* app\.later\(Cart\(…\)\.count, …\)"):
        app.later(Cart.count, 2)
    with pytest.raises(BadArguments, match=r"is overridden in BigCart, .* would run BigCart\.count; give the method"):
        app.later(super(BigCart, BigCart([])).count, 2)


def test_a_coroutine_that_a_decorator_handed_on_fails_with_the_fix_and_is_closed(app: Piecework) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(
            JobFailed, match="returned a coroutine, which nobody awaits: .*make the decorator's .* async def"
        ):
            ended(app, app.later(Cart([]).fetched))
        gc.collect()
    assert [str(one.message) for one in warned if "never awaited" in str(one.message)] == []
