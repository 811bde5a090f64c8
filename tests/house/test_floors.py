"""Imports go down only: no room knows of the rooms above it."""

from __future__ import annotations

import pytest
from sources import Module, imports, modules

FLOORS = {
    0: ("errors", "clock", "codec", "ids", "job", "outcome", "retry", "errortext", "failpoints"),
    1: ("registry", "settle", "split", "options", "config", "verdicts"),
    2: ("store",),
    3: ("engine",),
    4: ("app", "aio", "jobs", "task", "batch", "health", "appref", "testing"),
    5: ("cli", "asgi", "torture", "__main__"),
}
FLOOR_OF = {f"piecework.{room}": floor for floor, rooms in FLOORS.items() for room in rooms}
DOOR = 4


def floor_of(name: str) -> int:
    """The floor of a module, which is that of the room it is in."""
    return FLOOR_OF[".".join(name.split(".")[:2])]


def rooms() -> list[Module]:
    """Every module but the package's root, which only forwards names, at their first use."""
    return [module for module in modules() if module.name != "piecework"]


def test_every_module_has_a_floor() -> None:
    homeless = [module.place for module in rooms() if ".".join(module.name.split(".")[:2]) not in FLOOR_OF]
    assert homeless == []


def test_every_room_of_the_list_exists() -> None:
    there = {".".join(module.name.split(".")[:2]) for module in rooms()}
    assert set(FLOOR_OF) - there == set()


@pytest.mark.parametrize("module", rooms(), ids=lambda module: module.place)
def test_imports_go_down_only(module: Module) -> None:
    upward = [
        f"{module.place}:{found.line} (floor {floor_of(module.name)}) imports {found.module} (floor {floor_of(found.module)})"
        for found in imports(module)
        if found.module != "piecework" and floor_of(found.module) > floor_of(module.name)
    ]
    assert upward == []


def test_only_the_door_and_the_faces_import_the_package_itself() -> None:
    """The root forwards to every floor, so a room below the door that imports it could reach anything."""
    found = [
        f"{module.place}:{found.line}"
        for module in rooms()
        for found in imports(module)
        if found.module == "piecework" and floor_of(module.name) < DOOR
    ]
    assert found == []


def test_the_package_itself_imports_nothing_of_its_own_until_a_name_is_used() -> None:
    (root,) = [module for module in modules() if module.name == "piecework"]
    assert [found for found in imports(root) if not found.for_types] == []


def test_the_walk_sees_every_way_of_importing() -> None:
    """The test's own eyes: plain, from, nested in a function, relative, and for types only."""
    import ast
    from pathlib import Path

    text = (
        "import piecework.app\n"
        "from piecework.store import sqlite\n"
        "from piecework import jobs\n"
        "from ..cli import common\n"
        "if TYPE_CHECKING:\n"
        "    from piecework.engine.worker import Worker\n"
        "else:\n"
        "    import piecework.task\n"
        "def f():\n"
        "    from piecework import Piecework\n"
    )
    module = Module(Path("pool.py"), "piecework.engine.pool", text, ast.parse(text))
    assert [(found.module, found.for_types) for found in imports(module)] == [
        ("piecework.app", False),
        ("piecework.store.sqlite", False),
        ("piecework.jobs", False),
        ("piecework.cli.common", False),
        ("piecework.engine.worker", True),
        ("piecework.task", False),
        ("piecework", False),
    ]
