"""The source files of piecework, read as text and as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import piecework

ROOT = Path(piecework.__file__).parent


class Module(NamedTuple):
    """One source file: where it is, what it is called, and what is in it."""

    path: Path
    name: str  # "piecework.store.sqlite.store"; a package is called as it is imported
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path below the package, such as engine/pool.py."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of the package."""
    return tuple(_read(path) for path in sorted(ROOT.rglob("*.py")))


@cache
def nodes(module: Module) -> tuple[ast.AST, ...]:
    """Every piece of a module's code; walked once for all who look at it."""
    return tuple(ast.walk(module.tree))


def _read(path: Path) -> Module:
    parts = ["piecework", *path.relative_to(ROOT).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    text = path.read_text("utf-8")
    return Module(path, ".".join(parts), text, ast.parse(text, str(path)))


class Import(NamedTuple):
    """One imported module, and the line that does it."""

    module: str
    line: int
    for_types: bool  # under `if TYPE_CHECKING:`


def imports(module: Module) -> Iterator[Import]:
    """What a module imports of piecework, wherever in the file: at the top, in a function, for types only."""
    names = _names()
    for node, for_types in _walk(module.tree, False):
        for name in _named(node, module, names):
            if name == "piecework" or name.startswith("piecework."):
                yield Import(name, getattr(node, "lineno", 0), for_types)


@cache
def _names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def _walk(node: ast.AST, for_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, for_types
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        inside = guarded and isinstance(node, ast.If) and child in node.body
        yield from _walk(child, for_types or inside)


def _named(node: ast.AST, module: Module, known: Collection[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
        package = package[: len(package) - (node.level - 1)]
        base = ".".join([*package, *([node.module] if node.module else [])])
    below = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in known else base for name in below]
