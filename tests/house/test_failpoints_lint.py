"""Nothing is written to a store but through a place at which a test can kill, raise and wait."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from sources import Module, modules

from piecework.failpoints import NAMES

READS = {
    *("examine", "sessions", "get", "find", "count", "counts", "batch", "pieces", "attempts", "paused"),
    *("operations", "plan", "amendments", "signals"),
    *("now", "is_set_up", "oldest_due", "wait", "next_due", "close"),
}


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
    assert used == dict.fromkeys(NAMES, 1)


def test_every_verb_that_changes_something_goes_through_the_place_that_has_the_points() -> None:
    """In the shelf: each verb of the seam but the reads opens a write transaction, and no read does."""
    seam = {name for name in methods(named("store/protocol.py"), "Store") if not name.startswith("_")}
    shelf = methods(named("store/sqlite/store.py"), "SqliteStore")

    def writes(name: str, seen: frozenset[str] = frozenset()) -> bool:
        said = {name for name, _ in calls(shelf[name])}
        inner = {s.removeprefix("self.") for s in said if s.startswith("self.")} & set(shelf) - seen - {name}
        # The pruner is given `_write` when the store is made.
        return bool(said & {"self._write", "self.db.write", "schema.migrate", "self._pruner.bite"}) or any(
            writes(other, seen | {name}) for other in inner - {"_set_up"}
        )

    assert seam - READS == {verb for verb in seam if writes(verb)}


def test_a_transaction_is_committed_in_one_place_between_two_points() -> None:
    """On a caller's own connection (`within=`) the commit is the caller's."""
    commits = [
        f"{module.place}:{node.lineno}"
        for module in modules()
        if module.place.startswith("store/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in ("COMMIT", "END")
    ]
    assert [place.partition(":")[0] for place in commits] == ["store/sqlite/database.py"]
    write = methods(named("store/sqlite/database.py"), "Database")["write"]
    said = [ast.unparse(node) for node in ast.walk(write) if isinstance(node, ast.Expr)]
    order = [line for line in said if "failpoint" in line or "COMMIT" in line]
    assert sorted(order) == sorted(
        ["failpoint('store.before_commit')", "con.execute('COMMIT')", "failpoint('store.after_commit')"]
    )
    lines = {ast.unparse(node): node.lineno for node in ast.walk(write) if isinstance(node, ast.Expr)}
    assert lines["failpoint('store.before_commit')"] < lines["con.execute('COMMIT')"]
    assert lines["con.execute('COMMIT')"] < lines["failpoint('store.after_commit')"]
