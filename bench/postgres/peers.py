"""Others on PostgreSQL, in the same run and on the same server: PgQueuer and Procrastinate, where they are installed.

Each is a program of its own that prints jobs a second, from the start of its worker's first job to the end of its last.
Whether every job was run once is counted in the program, and asked of its tables.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from bench.reading import NotExact, Reading
from bench.worker import ROOT

PATIENCE = 600.0
LABELS = {
    "pgqueuer": "PgQueuer, asyncpg and uvloop, by the thousand",
    "procrastinate": "Procrastinate, 30 coroutines",
}


def installed() -> bool:
    return all(find_spec(name) is not None for name in LABELS)


def drain(name: str, url: str, n: int) -> Reading:
    """Jobs a second of one process of a peer's worker."""
    command = [sys.executable, "-m", f"bench.postgres.peer_{name}", url, str(n)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise NotExact(f"{name}: {done.stderr[-2000:]}")
    rate, cpu = done.stdout.split()[-2:]
    return Reading(float(rate), float(cpu))
