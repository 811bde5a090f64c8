"""Nothing is written to a store but through a place at which a test can kill, raise and wait."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import pytest
from sources import Module, modules

from piecework.failpoints import NAMES

SHELVES = [("store/sqlite", "SqliteStore"), ("store/postgres", "PostgresStore")]
READS = {
    *("examine", "sessions", "get", "find", "count", "counts", "batch", "pieces", "attempts", "paused"),
    *("standing", "holds"),
    *("operations", "plan", "amendments", "signals"),
    *("now", "is_set_up", "oldest_due", "wait", "next_due", "close"),
}
WAYS = {"self._plainly", "self._write", "self._alone", "self._beside"}  # of opening a transaction that writes
OF_THE_TASK = {"transaction"}  # committed with what the task wrote, whose process dies there in tests of its own


def named(place: str) -> Module:
    (module,) = [module for module in modules() if module.place == place]
    return module


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def methods(module: Module, name: str) -> dict[str, ast.FunctionDef]:
    (found,) = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}


def test_every_name_is_a_point_in_the_code_once_and_every_point_has_a_name() -> None:
    used = Counter(
        ast.literal_eval(call.args[0])
        for module in modules()
        for name, call in calls(module.tree)
        if name == "failpoint"
    )
    # Each shelf has those of its transactions; nothing of this process can die in the middle of a script on Redis.
    shelves = {"store": len(SHELVES) + 1, "settle": len(SHELVES)}
    assert used == {name: shelves.get(name.split(".")[0], 1) for name in NAMES}


@pytest.mark.parametrize(("place", "kind"), SHELVES)
def test_every_verb_that_changes_something_goes_through_the_place_that_has_the_points(place: str, kind: str) -> None:
    """In the shelf: each verb of the seam but the reads opens a write transaction, and no read does."""
    seam = {name for name in methods(named("store/protocol.py"), "Store") if name[0] != "_" and name != "parts"}
    ground = methods(named(f"{place}/ground.py"), "Ground")
    shelf = ground | methods(named("store/sql/verbs.py"), "Verbs") | methods(named(f"{place}/store.py"), kind)

    def writes(name: str, seen: frozenset[str] = frozenset()) -> bool:
        said = {name for name, _ in calls(shelf[name])}
        inner = {s.removeprefix("self.") for s in said if s.startswith("self.")} & set(shelf) - seen - {name}
        # The pruner is given `_write` when the store is made.
        doors = {"self._in", "self.db.write", "schema.migrate", "self._pruner.bite", *WAYS}
        return bool(said & doors) or any(writes(other, seen | {name}) for other in inner - {"_set_up"})

    planned = {"pieces"} if place == "store/postgres" else set()  # reads as writes do, for the sake of the plan
    assert seam - READS - OF_THE_TASK == {verb for verb in seam if writes(verb)} - planned


def test_every_verb_of_distributed_jobs_that_changes_something_writes_in_such_a_transaction() -> None:
    """On the shelves that keep rows: they are handed that way of writing when the store is made."""
    seam = {name for name in methods(named("store/protocol.py"), "Parts") if not name.startswith("_")}
    shared = methods(named("store/sql/parting.py"), "PartsOnRows")
    writing = {verb for verb in seam if "self._write" in {said for said, _ in calls(shared[verb])}}
    assert writing == {"push", "leave", "end", "stop", "resume", "forget", "prune"}
    assert seam - writing == {"read", "find", "parts", "part", "now"}
    for place in ("store/sqlite/ground.py", "store/postgres/ground.py"):
        made = [ast.unparse(call) for name, call in calls(named(place).tree) if name == "PartsOnRows"]
        assert ["write=self._write" in call for call in made] == [True]


@pytest.mark.parametrize(
    ("place", "method", "commit"),
    [("store/sqlite", "write", "con.execute('COMMIT')"), ("store/postgres", "_transaction", "con.execute(*last)")],
)
def test_a_transaction_is_committed_in_one_place_between_two_points(place: str, method: str, commit: str) -> None:
    """On a caller's own connection (`within=`) the commit is the caller's."""
    commits = [
        f"{module.place}:{node.lineno}"
        for module in modules()
        if module.place.startswith(f"{place}/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in ("COMMIT", "END", b"COMMIT", b"END")
    ]
    assert [place.partition(":")[0] for place in commits] == [f"{place}/database.py"]
    write = methods(named(f"{place}/database.py"), "Database")[method]
    said = [ast.unparse(node) for node in ast.walk(write) if isinstance(node, ast.Expr)]
    order = [line for line in said if "failpoint" in line or "COMMIT" in line or line == commit]
    assert sorted(order) == sorted(["failpoint('store.before_commit')", commit, "failpoint('store.after_commit')"])
    lines = {ast.unparse(node): node.lineno for node in ast.walk(write) if isinstance(node, ast.Expr)}
    assert lines["failpoint('store.before_commit')"] < lines[commit]
    assert lines[commit] < lines["failpoint('store.after_commit')"]
