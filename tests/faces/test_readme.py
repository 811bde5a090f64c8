"""The README and the tour are programs: their modules are written down, a worker runs them, and every snippet is run beside it.

A block of Python that begins with `# name.py` is part of that module; every other one is a script of its own. The
modules are checked by mypy as strictly as piecework is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from tests.servers import Postgres

ROOT = Path(__file__).parents[2]
PAGES = {  # with the module that holds the app
    "README.md": "jobs",
    "docs/tour.md": "shop",
    "docs/later.md": "shop",
    "docs/splits.md": "shop",
    "docs/operations.md": "shop",
    "docs/postgresql.md": "shop",
    "docs/status.md": "shop",
    "docs/distributed.md": "imports",
}
ON_POSTGRESQL = ("docs/postgresql.md",)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)
MODULE = re.compile(r"# (\w+)\.py\b")


class Page(NamedTuple):
    """The programs of a page: modules by name, and scripts by the line on which they stand."""

    modules: dict[str, str]
    scripts: dict[int, str]


def read(page: str) -> Page:
    text = (ROOT / page).read_text("utf-8")
    found = Page({}, {})
    for block in BLOCK.finditer(text):
        module, line = MODULE.match(block[1]), text.count("\n", 0, block.start()) + 1
        if module:
            found.modules[module[1]] = found.modules.get(module[1], "") + block[1]
        else:
            found.scripts[line] = block[1]
    return found


def write(page: Page, folder: Path) -> None:
    for name, text in page.modules.items():
        (folder / f"{name}.py").write_text(text, "utf-8")
    for line, text in page.scripts.items():
        (folder / f"at_line_{line}.py").write_text(text, "utf-8")


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIECEWORK_")}
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "MYPYPATH": str(ROOT / "src")}
    return {**kept, **paths, "PYTHONUNBUFFERED": "1", **settings}


@pytest.fixture
def settings(name: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What a page's reader has in the environment: for some a database of their own."""
    if name not in ON_POSTGRESQL:
        return {}
    postgres: Postgres = request.getfixturevalue("postgres")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    url = postgres.url.rpartition("/")[0] + "/shop"
    return {"PIECEWORK_URL": url, "DATABASE_URL": url}


def run(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def worker(folder: Path, app: str, **settings: str) -> Iterator[None]:
    """The worker that the page tells to start. It must end well when it is asked to."""
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "piecework", "work", app],
            cwd=folder,
            env=environment(**settings),
            stdout=log,
            stderr=log,
        )
    try:
        yield
        assert process.poll() is None, (folder / "worker.log").read_text()
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=60)
        finally:
            process.kill()
    assert code == 0, (folder / "worker.log").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_every_snippet_of_a_page_runs(name: str, tmp_path: Path, settings: dict[str, str]) -> None:
    page = read(name)
    write(page, tmp_path)
    assert len(page.scripts) > 4
    with worker(tmp_path, f"{PAGES[name]}:app", **settings):
        for line in page.scripts:
            done = run(tmp_path, f"at_line_{line}.py", **settings)
            assert done.returncode == 0, f"{name}:{line}\n{done.stderr}\n{(tmp_path / 'worker.log').read_text()}"


@pytest.mark.parametrize("name", PAGES)
def test_every_snippet_of_a_page_is_well_typed(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What mypy has learnt of piecework on one page it need not learn again on the next."""
    write(read(name), tmp_path)
    known = tmp_path_factory.getbasetemp() / "mypy"
    done = run(tmp_path, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={known}", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_programs_of_the_tour_that_need_no_other_run(tmp_path: Path) -> None:
    write(read("docs/tour.md"), tmp_path)
    assert run(tmp_path, "alone.py").stdout == "42\n"
    assert run(tmp_path, "users.py").stdout == "welcome Ada\nnobody to welcome\n"
    tested = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_double.py")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")))
def test_python_on_every_other_page_can_be_read(page: str) -> None:
    """Parts of programs are shown there; they are Python all the same."""
    text = (ROOT / page).read_text("utf-8")
    for block in BLOCK.finditer(text):
        compile(
            block[1], f"{page}:{text.count(chr(10), 0, block.start()) + 1}", "exec", flags=_PARTS, dont_inherit=True
        )


_PARTS = 0x0400 | 0x2000  # ast.PyCF_ONLY_AST, since a yield may stand alone, and PyCF_ALLOW_TOP_LEVEL_AWAIT
