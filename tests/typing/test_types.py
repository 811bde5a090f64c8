"""mypy and pyright flag the wrong lines of the samples, and no other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
SAMPLES = sorted(path.name for path in HERE.glob("sample_*.py"))


def expected(sample: Path) -> set[int]:
    """The lines that are marked; `# error-above` marks the decorator over a definition."""
    found = set()
    for number, line in enumerate(sample.read_text().splitlines(), 1):
        if line.endswith("# error"):
            found.add(number)
        elif line.endswith("# error-above"):
            found.add(number - 1)
    return found


def by_mypy(scratch: Path) -> list[tuple[str, int, str]]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={scratch}",
            "--no-error-summary",
            *(str(HERE / sample) for sample in SAMPLES),
        ],
        env={**os.environ, "MYPYPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found = re.findall(r"(sample_\w+\.py):(\d+): error: (.*)", done.stdout)
    assert len(found) == done.stdout.count(": error: "), done.stdout  # nothing is wrong in piecework itself
    return [(sample, int(number), text) for sample, number, text in found]


def by_pyright(scratch: Path) -> list[tuple[str, int, str]]:
    settings = {"include": ["."], "extraPaths": [str(SRC)], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (scratch / "pyrightconfig.json").write_text(json.dumps(settings))
    for sample in SAMPLES:
        shutil.copy(HERE / sample, scratch)
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(scratch)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(SAMPLES), done.stdout
    told = said["generalDiagnostics"]
    errors = [finding for finding in told if finding["severity"] == "error"]
    return [(Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"]) for one in errors]


@pytest.mark.parametrize("checker", [by_mypy, by_pyright], ids=["mypy", "pyright"])
def test_exactly_the_wrong_lines_are_flagged(
    checker: Callable[[Path], list[tuple[str, int, str]]], tmp_path: Path
) -> None:
    """All samples at once: what takes long is to read piecework."""
    flagged = {(sample, number): text for sample, number, text in checker(tmp_path)}
    for sample in SAMPLES:
        wanted = expected(HERE / sample)
        assert len(wanted) > 5
        lines = (HERE / sample).read_text().splitlines()
        found = {number: text for (where, number), text in flagged.items() if where == sample}
        missed = [f"{sample}:{n}: {lines[n - 1]}" for n in sorted(wanted - set(found))]
        surplus = [f"{sample}:{n}: {lines[n - 1]}  ({found[n]})" for n in sorted(set(found) - wanted)]
        assert (missed, surplus) == ([], [])
