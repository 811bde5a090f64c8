"""The command line, called in this process and as a process of its own, on an app in a folder of its own."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from piecework import Piecework
from piecework.cli import main

SOURCE = '''
"""A small app."""
from piecework import Piecework, Pieces, current

app = Piecework("sqlite:///jobs.db")
text = "no app"


@app.task(attempts=1)
def add(a: int, b: int = 0) -> int:
    return a + b


@app.task(attempts=1)
def bad(message: str) -> None:
    raise ValueError(message)


@app.task
async def slowly(n: int) -> int:
    current.progress(1, 2, "half way")
    return n


@app.task
def report(n: int) -> None:
    current.set_status({"done": n})


@app.split(attempts=1)
def whole(n: int, broken: int = -1):
    for m in range(n):
        yield (bad.using(key=f"piece-{m}").piece("bad body") if m == broken else add.piece(m, 1))


@whole.compose
def join(pieces: Pieces[int], n: int, broken: int = -1) -> int:
    return sum(pieces.results())
'''

_names = itertools.count(1)


class Said(NamedTuple):
    """What a call of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one; nothing in the environment names an app or a store."""
    for name in list(os.environ):
        if name.startswith("PIECEWORK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


@pytest.fixture
def source() -> str:
    """What the module of the app says."""
    return SOURCE


@pytest.fixture
def name(folder: Path, source: str) -> Iterator[str]:
    """The module of an app, which no other test has imported."""
    name = f"shop{os.getpid()}_{next(_names)}"
    (folder / f"{name}.py").write_text(source)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def shop(name: str, folder: Path) -> Iterator[Any]:
    """The module itself."""
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    module = importlib.import_module(name)
    assert isinstance(module.app, Piecework)
    yield module
    module.app.close()


@pytest.fixture
def call(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls a command in this process, with the app named."""

    def call(*arguments: str, app: bool = True) -> Said:
        capsys.readouterr()
        named = ["--app", f"{name}:app"] if app and arguments and arguments[0] != "work" else []
        code = main([*arguments, *named])
        return Said(int(code), *capsys.readouterr())

    return call


@pytest.fixture
def spawn(folder: Path) -> Callable[..., Said]:
    """Runs `piecework` as a process of its own, in the folder."""

    def spawn(*arguments: str, **environ: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "piecework", *arguments],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": python_path(), **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return spawn


def python_path() -> str:
    """Where a process that was started from another folder finds what this one has imported."""
    return os.pathsep.join(path for path in sys.path if path)
