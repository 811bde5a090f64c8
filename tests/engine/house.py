"""Real workers on an app of this folder, with the same app in the test's own process."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import Tree
from support import books, until

import piecework

HERE = Path(__file__).parent
SOURCE = Path(piecework.__file__).parent.parent


class House:
    """An app's module, its store's file, and the workers that were started on it."""

    def __init__(self, module: str, folder: Path, lease: float) -> None:
        self.folder = folder
        self.path = folder / "jobs.db"
        self.trees: list[Tree] = []
        self._module = module
        self._names = {"HOUSE_URL": f"sqlite:///{self.path}", "HOUSE_LEASE": str(lease), "HOUSE_FOLDER": str(folder)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._names.items():
                patch.setenv(name, value)
            patch.syspath_prepend(str(HERE))
            patch.delitem(sys.modules, module, raising=False)
            self.jobs: Any = importlib.import_module(module)
            sys.modules.pop(module)
        self.app = self.jobs.app

    def work(self, *options: str, **environ: str) -> Tree:
        """Starts `piecework work`, and waits until it has enlisted."""
        path = os.pathsep.join([str(HERE), str(SOURCE)])
        command = [sys.executable, "-m", "piecework", "work", f"{self._module}:app", *options]
        env = {**os.environ, **self._names, "PYTHONPATH": path, **environ}
        tree = Tree(command, env, self.folder / f"worker-{len(self.trees)}.log")
        self.trees.append(tree)
        return tree.ready()

    def wait(self, job: Any, *states: str, within: float = 20.0) -> None:
        """Waits until a job is in one of some states; in any in which it has ended, unless they are named."""
        until(
            lambda: job.state in states if states else job.state.finished,
            lambda: f"{job.record()}\n{self.logs()}",
            within=within,
        )

    def logs(self) -> str:
        return "\n".join(tree.log() for tree in self.trees)

    def close(self) -> None:
        for copy in self.folder.glob("copy *"):
            os.kill(int(copy.name.split()[1]), signal.SIGKILL)
        for tree in self.trees:
            tree.destroy()
        self.app.close()


@contextmanager
def a_house(module: str, folder: Path, lease: float = 20.0) -> Iterator[House]:
    """In the end every worker that still runs is asked to stop, and leaves the store in order."""
    house = House(module, folder, lease)
    try:
        yield house
        for tree in house.trees:
            if tree.process.poll() is None:
                assert tree.stop() == 0
        assert books(house.path) == []
        assert house.app.store.sessions() == []
    finally:
        house.close()
