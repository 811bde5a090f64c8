"""The Redis shelf does what the model does also where everything goes in bites, a few jobs in each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_model import StoreMachine
from test_operations import OperationMachine
from tests.redis_bites import small_bites
from twins import Twins, examples_on, walk_randomly

from piecework.store import Store
from piecework.testing import FrozenClock


@pytest.fixture
def shelf() -> str:
    return "redis"


@pytest.mark.parametrize("machine", [StoreMachine, OperationMachine])
def test_in_bites_the_store_does_what_the_model_does(
    machine: type[Twins], fresh_store: Callable[[FrozenClock], Store], shelf: str
) -> None:
    # Whole: a call of `cancel` in bites does not count what ended with an earlier one; what a dead batch leaves to fetches
    # and sweeps is cancelled only then.
    with small_bites(whole=["cancel", "lib_0_keys"]):
        walk_randomly(machine, fresh_store, examples=max(1, examples_on(shelf) // 8))
