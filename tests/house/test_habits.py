"""What is done in one room only, and what is done nowhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator

import pytest
from sources import ROOT, Module, imports, modules

import piecework

ASYNC_ROOMS = {
    "engine/pool.py",
    "engine/runner.py",
    "engine/walker.py",
    "engine/embedded.py",
    "asgi.py",
    "engine/binding.py",
    "aio.py",
    "app.py",
    "calls.py",
    "task.py",
    "standing.py",
    "jobs.py",
    "operations.py",
    "operationtask.py",
    "operationquery.py",
    "torture/jobs.py",
    # Statements on a caller's connection, which may be awaited: docs/adr/0021-in-the-callers-transaction.md.
    "store/protocol.py",
    "store/sqlite/store.py",
    "store/postgres/store.py",
    "store/postgres/asking.py",
    "store/postgres/enqueue.py",
    "store/postgres/within.py",
    "store/redis/store.py",
    "testing/model/enqueue.py",
}
CLOCK_ROOMS = {"clock.py", "ids.py", "testing/simulation/stage.py"}  # the last makes chance from a seed
CHANCE_ROOMS = {"torture/dice.py"}
CODE_FROM_DATA = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}
STATEMENT = re.compile(
    r"\b(SELECT\s+\S.*\bFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|"
    r"(ALTER|DROP)\s+TABLE|PRAGMA\s+\w|BEGIN\s+IMMEDIATE)\b",
    re.DOTALL,
)
CONCRETE = re.compile(r"sqlite|postgres|psycopg|redis", re.IGNORECASE)

every_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.place)


def lines(module: Module, wanted: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{module.place}:{node.lineno}" for node in ast.walk(module.tree) if wanted(node) and hasattr(node, "lineno")
    ]


@pytest.mark.parametrize("module", [m for m in modules() if m.place.startswith("engine/")], ids=lambda m: m.place)
def test_the_engine_names_no_concrete_store(module: Module) -> None:
    named = [n for n, line in enumerate(module.text.splitlines(), 1) if CONCRETE.search(line)]
    assert named == []
    assert [found.module for found in imports(module) if found.module.startswith("piecework.store.sqlite")] == []


@every_module
def test_nothing_is_run_that_was_read(module: Module) -> None:
    """No pickle, no marshal, no eval, no exec: what is in the store is data."""
    roots = [
        name.split(".")[0]
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    ]
    assert CODE_FROM_DATA & set(roots) == set()
    assert lines(module, lambda node: isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__")) == []


@every_module
def test_time_and_chance_are_handed_in(module: Module) -> None:
    """Wall time comes from a clock and chance from a draw that the caller hands in; a default value may name the source."""
    if module.place in CLOCK_ROOMS | CHANCE_ROOMS:
        return
    defaults = {id(inner) for default in _defaults(module.tree) for inner in ast.walk(default)}
    found = [
        f"{module.place}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and _is_time_or_chance(node) and id(node) not in defaults
    ]
    assert found == []


def _is_time_or_chance(node: ast.Attribute) -> bool:
    said = ast.unparse(node)
    return said in (
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "os.urandom",
        "uuid.uuid1",
        "uuid.uuid4",
    ) or said.startswith(("random.", "secrets."))


def _defaults(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.args.defaults
            yield from (default for default in node.args.kw_defaults if default is not None)


@every_module
def test_no_function_of_time_or_chance_is_imported_by_its_bare_name(module: Module) -> None:
    """Else the test above would not see it."""
    if module.place in CLOCK_ROOMS:
        return
    bare = [
        f"{module.place}:{node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "random", "uuid", "secrets")
    ]
    assert bare == []


@every_module
def test_sql_is_written_in_the_shelves_only(module: Module) -> None:
    if module.place.startswith(
        ("store/", "testing/conformance/")
    ):  # the suite sends SQL as data, to see it kept as data
        return
    found = [
        f"{module.place}:{node.lineno} {node.value[:60]!r}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value)
    ]
    assert found == []


@pytest.mark.parametrize("kind", ["sql", "lua"])
def test_files_of_statements_and_scripts_are_kept_in_the_shelves_only(kind: str) -> None:
    places = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob(f"*.{kind}")]
    assert places
    assert [place for place in places if not place.startswith("store/")] == []


def test_the_shelves_are_seen_to_write_sql() -> None:
    """The test's own eyes: were the pattern blind, the tests above could not fail."""
    written = [m.place for m in modules() if m.place.startswith("store/sqlite/") and STATEMENT.search(m.text)]
    assert "store/sqlite/database.py" in written
    assert "store/sqlite/schema.py" in written


@every_module
def test_coroutines_live_in_few_rooms(module: Module) -> None:
    colours = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor)
    if module.place in ASYNC_ROOMS:
        return
    assert lines(module, lambda node: isinstance(node, colours)) == []


# ── words for readers ────────────────────────────────────────────────────────────────────────────


@every_module
def test_every_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree)


@pytest.mark.parametrize("name", piecework.__all__)
def test_every_exported_name_is_explained(name: str) -> None:
    value = getattr(piecework, name)
    told = inspect.getdoc(value if inspect.isclass(value) or inspect.isfunction(value) else type(value))
    assert told
    assert not told.startswith(f"{name}(")  # a dataclass's signature is no explanation


@pytest.mark.parametrize("name", piecework.__all__)
def test_every_public_method_of_an_exported_class_is_explained(name: str) -> None:
    value = getattr(piecework, name)
    kind = value if inspect.isclass(value) else type(value)
    if not kind.__module__.startswith("piecework"):
        return
    silent = [
        f"{kind.__name__}.{attribute}"
        for attribute, member in vars(kind).items()
        if not attribute.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | staticmethod | classmethod))
        and not inspect.getdoc(member)
    ]
    assert silent == []


def test_every_verb_of_the_store_has_its_contract() -> None:
    seam = importlib.import_module("piecework.store.protocol")
    for protocol, fewest in ((seam.Store, 20), (seam.Parts, 10)):
        verbs = [name for name, member in vars(protocol).items() if inspect.isfunction(member) and name[0] != "_"]
        assert len(verbs) > fewest
        assert [verb for verb in verbs if not inspect.getdoc(getattr(protocol, verb))] == []
