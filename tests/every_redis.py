"""The rings that concern Redis, whole, on every kind of server that the store on Redis is for.

    python -m tests.every_redis [KIND …] [-- what pytest takes]

The kinds: redis, valkey, cluster (six nodes of Redis), valkey-cluster, sentinel. Without one: the first three. The model
ring plays a thousand histories with each of its machines. It takes some ten minutes for each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.redis_kinds import KINDS
from tests.redis_servers import KIND

ROOT = Path(__file__).parents[1]
USUAL = ("redis", "valkey", "cluster")
RINGS = ["tests/model", "tests/engine", "tests/scenarios", "tests/crash"]
ALONE = ["tests/store", *RINGS]
# What a Cluster cannot keep of the contract is said beside the test of that name; the rest of the room asks one server.
SPREAD = ["tests/store/test_redis_kinds.py", "tests/store/test_redis_spread.py", *RINGS]


def chosen(kind: str) -> list[str]:
    """Which tests: those of the shelf, and on one server those that ask that server itself."""
    if kind in ("redis", "valkey"):
        return ["-k", "(redis or in_bites) and not test_redis_kinds", *ALONE]
    # These hold or cut what goes to one server, and a Cluster's nodes tell where the others are.
    own_servers = [f"--ignore=tests/crash/test_{name}.py" for name in ("redis_cuts", "redis_faults", "late_requests")]
    if kind == "sentinel":
        return ["-k", "redis", *own_servers, "tests/store/test_conformance.py", *RINGS]
    return ["-k", "redis and not TestValkey", *own_servers, *SPREAD]


def run(kind: str, arguments: list[str]) -> int:
    """Runs the rings on servers of one kind; what pytest came to."""
    print(f"── {kind}", flush=True)
    environ = {
        **os.environ,
        KIND: kind,
        "PIECEWORK_WHOLE_RINGS": "1",
        # A tenth of them on a shelf that is no file.
        "PIECEWORK_MODEL_EXAMPLES": os.environ.get("PIECEWORK_MODEL_EXAMPLES", "10000"),
    }
    asked = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *chosen(kind), *arguments]
    return subprocess.run(asked, cwd=ROOT, env=environ).returncode


def main(words: list[str]) -> int:
    wanted, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        print(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return 2
    return max([run(kind, arguments) for kind in wanted or USUAL])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
