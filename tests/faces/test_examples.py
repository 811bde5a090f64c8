"""The examples run, end well, say what they show, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN = {
    "export_topic.py": ["now:    Ruby: A: 1;B: 2;C: 3", "later:  Ruby: A: 1;B: 2;C: 3", "nested: 'Ruby: A: 1;B: 2;C: 3\\nAn empty topic: '"],
    "now_or_later_objects.py": ["good morning ee6f1d66, right here", "good morning ee6f1d66, in the background", "now_or_later_objects.SomeProcess.call with", "the child says: hello 1/3, in the background", "waited for ee6f1d66", "_secret cannot run later: it is private"],
    "now_or_later.py": ["right here", "in the background, attempt 2", "ConnectionError", "hello Ada, hello Grace", "hello asyncio", "argument since"],
    "web_app.py": ["lifespan.startup.complete", "hello ada", "web polled", "lifespan.shutdown.complete"],
}  # fmt: skip


def test_every_example_is_run_here() -> None:
    assert sorted(SHOWN) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=here,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TMPDIR": str(scratch),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for said in SHOWN[name]:
        assert said in done.stdout
    assert list(scratch.iterdir()) == []
    assert list(here.iterdir()) == []
