"""Measures a folder of Python sources in pieces: forest → package → module.

The forest is split into packages (every folder that holds Python files), each package into modules, and each module is
parsed by a piece of its own. Two composes join what they found. The same call runs now, or later on any number of
workers, and the report is the same to the byte:

    measure_forest("/usr/lib/python3.11")                    # now, in this thread
    measure_forest.later("/usr/lib/python3.11").result()     # later, in pieces

A module that does not parse is a piece that failed; the report names it.
"""

from __future__ import annotations

import ast
import heapq
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piecework import ErrorInfo, Piece, Pieces, Piecework

app = Piecework(os.environ.get("PIECEWORK_URL", "sqlite:///forest.db"))

LONGEST = 20  # functions that the report names
IMPORTED = 25  # modules that the report names

# What the compiler thinks of other people's escape sequences is not news here, and would be printed among the bars.
warnings.simplefilter("ignore", SyntaxWarning)
warnings.simplefilter("ignore", DeprecationWarning)


# ── what the pieces find ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Function:
    """A function, by where it stands and how many lines it takes."""

    path: str
    line: int
    name: str
    length: int

    @property
    def rank(self) -> tuple[int, str, int]:
        """Longest first; where they are equally long, by place."""
        return -self.length, self.path, self.line


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What one file holds."""

    path: str
    lines: int
    functions: int
    classes: int
    longest: list[Function]
    imports: dict[str, int]


@dataclass(frozen=True, slots=True)
class Failure:
    """A piece that could not be measured, and why."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class Sum:
    """The counts of a package, or of everything."""

    modules: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    failed: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            self.modules + other.modules,
            self.lines + other.lines,
            self.functions + other.functions,
            self.classes + other.classes,
            self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What one folder holds."""

    name: str
    sum: Sum
    longest: list[Function]
    imports: dict[str, int]
    failures: list[Failure]


@dataclass(frozen=True, slots=True)
class Report:
    """What the whole forest holds. Every list is in an order that depends on the sources alone."""

    root: str
    sum: Sum
    longest: list[Function]
    imported: list[tuple[str, int]]
    packages: list[tuple[str, Sum]]
    failures: list[Failure]


# ── the splits ───────────────────────────────────────────────────────────────────────────────────


@app.split(on_failure="compose")
def measure_forest(root: str) -> Iterator[Piece[PackageFacts]]:
    """One piece for each package below `root`."""
    for package in packages(root):
        yield measure_package.using(key=package).piece(root, package)


@measure_forest.compose
def join_forest(pieces: Pieces[PackageFacts], root: str) -> Report:
    """Joins what the packages found into the report."""
    whole = _Joined()
    table = []
    for package in pieces.results():
        table.append((package.name, package.sum))
        whole.add(package.sum, package.longest, package.imports, package.failures)
    whole.fail(pieces)
    imported = sorted(whole.imports.items(), key=lambda item: (-item[1], item[0]))
    failures = sorted(whole.failures, key=lambda failure: failure.path)
    return Report(root, whole.sum, whole.longest, imported[:IMPORTED], table, failures)


@app.split(on_failure="compose")
def measure_package(root: str, package: str) -> Iterator[Piece[ModuleFacts]]:
    """One piece for each module of a package."""
    for path in modules(root, package):
        yield measure_module.using(key=path).piece(root, path)


@measure_package.compose(priority=-1)  # before further modules, so that packages are done one after the other
def join_package(pieces: Pieces[ModuleFacts], root: str, package: str) -> PackageFacts:
    """Joins what the modules of one package hold."""
    whole = _Joined()
    for module in pieces.results():
        counts = Sum(1, module.lines, module.functions, module.classes)
        whole.add(counts, module.longest, module.imports, ())
    whole.fail(pieces)
    return PackageFacts(package, whole.sum, whole.longest, dict(sorted(whole.imports.items())), whole.failures)


@app.task(attempts=1)  # a file that does not parse will not parse later either
def measure_module(root: str, path: str) -> ModuleFacts:
    """Parses one file and counts what it holds."""
    source = Path(root, path).read_bytes()
    tree = ast.parse(source, filename=path)  # from bytes: the file says its encoding by itself
    functions: list[Function] = []
    imports: Counter[str] = Counter()
    classes = 0
    # A stack of our own instead of recursion: a tree may be deeper than Python's.
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, prefix = stack.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append(Function(path, node.lineno, prefix + name, length))
                prefix += f"{name}."
            case ast.ClassDef(name=name):
                classes += 1
                prefix += f"{name}."
            case ast.Import(names=names):
                imports.update(_top(alias.name) for alias in names)
            case ast.ImportFrom(module=str(name), level=0):  # a relative import names the package itself
                imports[_top(name)] += 1
        stack.extend((child, prefix) for child in ast.iter_child_nodes(node))
    return ModuleFacts(
        path, len(source.splitlines()), len(functions), classes, _longest(functions), dict(sorted(imports.items()))
    )


@dataclass(slots=True)
class _Joined:
    """What a compose has joined so far."""

    sum: Sum = field(default_factory=Sum)
    longest: list[Function] = field(default_factory=list)
    imports: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, counts: Sum, longest: list[Function], imports: dict[str, int], failures: Iterable[Failure]) -> None:
        self.sum += counts
        self.longest = _longest([*self.longest, *longest])
        self.imports.update(imports)
        self.failures.extend(failures)

    def fail(self, pieces: Pieces[Any]) -> None:
        for piece in pieces.failures():
            self.failures.append(Failure(piece.key, _why(piece.error)))
            self.sum += Sum(failed=1)


def _why(error: ErrorInfo | None) -> str:
    return "cancelled" if error is None else ": ".join(filter(None, (error.type, error.message)))


def _longest(functions: list[Function]) -> list[Function]:
    return heapq.nsmallest(LONGEST, functions, key=lambda function: function.rank)


def _top(name: str) -> str:
    return name.partition(".")[0]


# ── the folders ──────────────────────────────────────────────────────────────────────────────────


def packages(root: str) -> Iterator[str]:
    """Every folder below `root` that holds Python files, in order, by its path from there; `.` is `root` itself.

    Passed over: links, folders that cannot be read, hidden ones, caches and what was installed.
    """
    for folder, below, _ in os.walk(root):
        below[:] = sorted(name for name in below if _wanted(name) and not os.path.islink(os.path.join(folder, name)))
        package = os.path.relpath(folder, root)
        if any(modules(root, package)):
            yield package


def modules(root: str, package: str) -> list[str]:
    """The Python files of one package, in order, by their paths from `root`."""
    try:
        with os.scandir(os.path.join(root, package)) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(".py") and entry.is_file(follow_symlinks=False) and _can_travel(entry.name)
            ]
    except OSError:  # not ours to read, or gone since it was listed
        return []
    return [os.path.normpath(os.path.join(package, name)) for name in sorted(names)]


def _wanted(name: str) -> bool:
    return (
        not name.startswith(".") and name not in {"__pycache__", "site-packages", "dist-packages"} and _can_travel(name)
    )


def _can_travel(name: str) -> bool:
    """Whether a file name is text: one in no known encoding cannot be written as JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# ── the report as text ───────────────────────────────────────────────────────────────────────────


def render(report: Report) -> str:
    """The report for reading."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    total = report.sum
    yield f"The forest below {_plain(report.root)}"
    yield ""
    yield f"  {len(report.packages):>9,}  packages"
    yield f"  {total.modules:>9,}  modules"
    yield f"  {total.failed:>9,}  pieces that failed"
    yield f"  {total.lines:>9,}  lines"
    yield f"  {total.functions:>9,}  functions"
    yield f"  {total.classes:>9,}  classes"
    yield from _section("Longest functions, in lines")
    for function in report.longest:
        yield f"  {function.length:>9,}  {_plain(function.path)}:{function.line} {function.name}"
    yield from _section("Most imported modules")
    for name, times in report.imported:
        yield f"  {times:>9,}  {name}"
    yield from _section("Packages")
    yield f"  {'modules':>9}  {'lines':>9}  {'functions':>9}  {'classes':>9}  {'failed':>9}"
    for name, row in report.packages:
        counts = (row.modules, row.lines, row.functions, row.classes, row.failed)
        yield "".join(f"  {count:>9,}" for count in counts) + f"  {_plain(name)}"
    if report.failures:
        yield from _section("Pieces that failed")
        for failure in report.failures:
            yield f"  {_plain(failure.path)}"
            yield f"      {_plain(failure.error)}"


def _section(title: str) -> Iterator[str]:
    yield from ("", title, "")


def _plain(text: str) -> str:
    """Text on one line: names of files and messages of errors may hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
