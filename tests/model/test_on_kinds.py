"""The Redis shelf does what the model does also on Valkey, and where its jobs are spread over a Cluster.

A few histories of each; `make redis-kinds` plays a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_model import StoreMachine
from test_operations import OperationMachine
from test_parts import walk
from twins import Twins, examples_on, walk_randomly

from piecework.store import Store
from piecework.testing import FrozenClock

pytestmark = pytest.mark.parametrize("shelf", ["valkey", "cluster"])


@pytest.mark.parametrize("machine", [StoreMachine, OperationMachine])
def test_the_store_does_what_the_model_does(
    machine: type[Twins], fresh_store: Callable[[FrozenClock], Store], shelf: str
) -> None:
    walk_randomly(machine, fresh_store, examples=max(1, examples_on(shelf) // 10))


def test_parts_do_what_the_model_does(store: Store, clock: FrozenClock) -> None:
    walk(store, clock, seed=0)
