"""mypy and pyright flag the wrong lines of the samples, and no other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
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


def by_mypy(sample: Path, scratch: Path) -> dict[int, str]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={scratch}",
            "--no-error-summary",
            str(sample),
        ],
        env={**os.environ, "MYPYPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found = re.findall(rf"{sample.name}:(\d+): error: (.*)", done.stdout)
    assert len(found) == done.stdout.count(": error: "), done.stdout  # nothing is wrong in piecework itself
    return {int(number): text for number, text in found}


def by_pyright(sample: Path, scratch: Path) -> dict[int, str]:
    settings = {"include": ["."], "extraPaths": [str(SRC)], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (scratch / "pyrightconfig.json").write_text(json.dumps(settings))
    shutil.copy(sample, scratch)
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(scratch)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == 1, done.stdout
    told = said["generalDiagnostics"]
    errors = [finding for finding in told if finding["severity"] == "error"]
    return {finding["range"]["start"]["line"] + 1: finding["message"] for finding in errors}


@pytest.mark.parametrize("checker", [by_mypy, by_pyright], ids=["mypy", "pyright"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_exactly_the_wrong_lines_are_flagged(checker: object, sample: str, tmp_path: Path) -> None:
    assert callable(checker)
    path = HERE / sample
    flagged = checker(path, tmp_path)
    wanted = expected(path)
    assert len(wanted) > 5
    lines = path.read_text().splitlines()
    missed = [f"{n}: {lines[n - 1]}" for n in sorted(wanted - set(flagged))]
    surplus = [f"{n}: {lines[n - 1]}  ({flagged[n]})" for n in sorted(set(flagged) - wanted)]
    assert (missed, surplus) == ([], [])
