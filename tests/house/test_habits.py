"""What is done in one room only, and what is done nowhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from sources import ROOT, imports, modules, nodes

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
    "handle.py",
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


def everywhere(wanted: Callable[[ast.AST], bool], *, but: Callable[[str], bool] = lambda place: False) -> list[str]:
    """Where such a piece of code is, over all modules but those of some rooms: file, line and code."""
    return [
        f"{module.place}:{getattr(node, 'lineno', 0)} {ast.unparse(node)[:60]}"
        for module in modules()
        if not but(module.place)
        for node in nodes(module)
        if wanted(node)
    ]


def test_the_engine_names_no_concrete_store() -> None:
    rooms = [module for module in modules() if module.place.startswith("engine/")]
    assert rooms
    named = [
        f"{module.place}:{n} {line}"
        for module in rooms
        for n, line in enumerate(module.text.splitlines(), 1)
        if CONCRETE.search(line)
    ]
    assert named == []
    imported = [found.module for module in rooms for found in imports(module)]
    assert [name for name in imported if name.startswith("piecework.store.sqlite")] == []


def test_nothing_is_run_that_was_read() -> None:
    """No pickle, no marshal, no eval, no exec: what is in the store is data."""
    assert everywhere(lambda node: not CODE_FROM_DATA.isdisjoint(_imported_roots(node))) == []
    assert everywhere(lambda node: isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__")) == []


def _imported_roots(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    return [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) else []


def test_time_and_chance_are_handed_in() -> None:
    """Wall time comes from a clock and chance from a draw that the caller hands in; a default value may name the source."""
    defaults = {
        id(inner) for module in modules() for default in _defaults(nodes(module)) for inner in ast.walk(default)
    }
    found = everywhere(
        lambda node: isinstance(node, ast.Attribute) and id(node) not in defaults and _is_time_or_chance(node),
        but=lambda place: place in CLOCK_ROOMS | CHANCE_ROOMS,
    )
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


def _defaults(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.args.defaults
            yield from (default for default in node.args.kw_defaults if default is not None)


def test_no_function_of_time_or_chance_is_imported_by_its_bare_name() -> None:
    """Else the test above would not see it."""
    bare = everywhere(
        lambda node: isinstance(node, ast.ImportFrom) and node.module in ("time", "random", "uuid", "secrets"),
        but=lambda place: place in CLOCK_ROOMS,
    )
    assert bare == []


def test_sql_is_written_in_the_shelves_only() -> None:
    """And sent as data by the suite, to see it kept as data."""
    found = everywhere(
        lambda node: isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_statement(node.value),
        but=lambda place: place.startswith(("store/", "testing/conformance/")),
    )
    assert found == []


def _is_statement(text: str) -> bool:
    return STATEMENT.search(text) is not None


@pytest.mark.parametrize("kind", ["sql", "lua"])
def test_files_of_statements_and_scripts_are_kept_in_the_shelves_only(kind: str) -> None:
    places = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob(f"*.{kind}")]
    assert places
    assert [place for place in places if not place.startswith("store/")] == []


def test_the_shelves_are_seen_to_write_sql() -> None:
    """The test's own eyes: were the pattern blind, the tests above could not fail."""
    written = [m.place for m in modules() if m.place.startswith("store/sqlite/") and _is_statement(m.text)]
    assert "store/sqlite/database.py" in written
    assert "store/sqlite/schema.py" in written


def test_coroutines_live_in_few_rooms() -> None:
    colours = (ast.AsyncFunctionDef, ast.Await, ast.AsyncWith, ast.AsyncFor)
    found = everywhere(lambda node: isinstance(node, colours), but=lambda place: place in ASYNC_ROOMS)
    assert found == []


# ── words for readers ────────────────────────────────────────────────────────────────────────────


def test_every_module_says_what_it_is_for() -> None:
    assert [module.place for module in modules() if not ast.get_docstring(module.tree)] == []


def test_every_exported_name_is_explained() -> None:
    assert [name for name in piecework.__all__ if not _is_explained(name)] == []


def _is_explained(name: str) -> bool:
    value = getattr(piecework, name)
    told = inspect.getdoc(value if inspect.isclass(value) or inspect.isfunction(value) else type(value))
    return bool(told) and not told.startswith(f"{name}(")  # a dataclass's signature is no explanation


def test_every_public_method_of_an_exported_class_is_explained() -> None:
    values = [getattr(piecework, name) for name in piecework.__all__]
    kinds = {value if inspect.isclass(value) else type(value) for value in values}
    silent = [
        f"{kind.__name__}.{attribute}"
        for kind in kinds
        if kind.__module__.startswith("piecework")
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
