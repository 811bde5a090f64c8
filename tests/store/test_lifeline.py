"""A test process that is killed leaves no server and no worker behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import alive
from support import until

ROOT = Path(__file__).parents[2]

# What a test process starts: each kind once. It says what it has, and lives on.
TESTS = """
import sys, tempfile
from pathlib import Path
from processes import Tree
from tests.redis_servers import Redis
from tests.servers import UNSYNCED, Postgres

postgres, redis = Postgres(**UNSYNCED).start(), Redis().start()
again = Redis().start()
again.end()
again.launch()
nap = [sys.executable, "-c", "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"]
tree = Tree(nap, {}, Path(tempfile.mkdtemp()) / "log")
while not tree.log().strip():
    pass
gone = Redis().start()
gone.stop()
servers = [postgres, redis, again]
print(*[server._process.pid for server in servers], tree.pid, tree.log().strip())
print(*[server.root for server in servers], flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere what is left must be ended by hand")
def test_what_a_killed_test_process_has_started_ends_with_it() -> None:
    """Also what it started again, and what has a session of its own."""
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tests:
        assert tests.stdout is not None
        pids = [int(pid) for pid in tests.stdout.readline().split()]
        folders = [Path(folder) for folder in tests.stdout.readline().split()]
        assert [len(pids), len(folders)] == [5, 3]
        assert all(alive(pid) for pid in pids)
        assert all(folder.exists() for folder in folders)
        tests.send_signal(signal.SIGKILL)
    until(lambda: [pid for pid in pids if alive(pid)] == [], "they have ended")
    until(lambda: [folder for folder in folders if folder.exists()] == [], "their folders are gone")
