"""Imports go down only: no room knows of the rooms above it."""

from __future__ import annotations

import re
from pathlib import Path

from sources import Module, imports, modules

FLOORS = {
    0: (
        "errors",
        "clock",
        "codec",
        "jsontypes",
        "arrival",
        "rows",
        "snapshots",
        "names",
        "ids",
        "job",
        "parts",
        "outcome",
        "retry",
        "errortext",
        "failpoints",
        "aside",
    ),
    1: (
        "registry",
        "objects",
        "recording",
        "targets",
        "settle",
        "split",
        "options",
        "config",
        "verdicts",
        "plan",
        "terms",
        "documents",
        "stepping",
        "steps",
        "branches",
        "declare",
        "taskspec",
        "start",
        "trail",
        "overview",
        "amending",
        "ahead",
        "operation",
        "walk",
        "labels",
        "parting",
    ),
    2: ("store",),
    3: ("engine",),
    4: (
        "app",
        "aio",
        "jobs",
        "handle",
        "failures",
        "byhand",
        "patience",
        "task",
        "splittask",
        "calls",
        "batch",
        "health",
        "appref",
        "testing",
        "distributed",
        "producer",
        "operations",
        "operationtask",
        "operationquery",
        "inline",
        "forking",
        "outbox",
        "aftercommit",
        "standing",
        "changed",
        "bringback",
        "deeds",
        "alike",
        "paging",
    ),
    5: ("cli", "asgi", "integrations", "torture", "__main__"),
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


def test_the_page_on_the_internals_shows_every_room_on_its_floor() -> None:
    page = (Path(__file__).parents[2] / "docs" / "internals.md").read_text("utf-8")
    (drawing,) = re.findall(r"^```\n(5 .*?)^```", page, re.S | re.M)
    drawn = {int(floor[0]): set(re.findall(r"\w+", floor)) for floor in re.split(r"^(?=\d )", drawing, flags=re.M)[1:]}
    helpers = {
        "rows",
        "schema",
        "transaction",
        "examine",
        "url",
        "files",
        "filters",
    }  # of the shelf; they say nothing of the machine
    asked = {floor: {room for room in names if room != "__main__"} for floor, names in FLOORS.items()}
    asked[3] |= {m.path.stem for m in modules() if m.place.startswith("engine/") and not m.is_package}
    asked[2] |= {
        m.path.stem
        for m in modules()
        if m.place.startswith(("store/sql/", "store/sqlite/", "store/postgres/")) and not m.is_package
    } - helpers
    assert {floor: names - drawn[floor] for floor, names in asked.items()} == {floor: set() for floor in FLOORS}


def test_imports_go_down_only() -> None:
    upward = [
        f"{module.place}:{found.line} (floor {floor_of(module.name)}) imports {found.module} (floor {floor_of(found.module)})"
        for module in rooms()
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
