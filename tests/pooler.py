"""A real PgBouncer in front of a real PostgreSQL: it hands a few connections round, after each transaction.

It needs no root, and root does not hurt. Debian keeps the program where only root's path leads.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from typing import Any

import psycopg
from psycopg.rows import dict_row
from tests import lifeline
from tests.served import Served, ServerMissing
from tests.servers import ROLE, Postgres

START_SECONDS = 20.0
SHARED = 4  # connections that all clients together have

_SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = {role}
pool_mode = {mode}
default_pool_size = {shared}
max_client_conn = 300
"""


class PgBouncer(Served):
    """One pooler, in transaction mode unless another is named; thrown away at its end."""

    def __init__(self, server: Postgres, mode: str = "transaction") -> None:
        super().__init__("piecework-pooler-")
        self._server = server
        self._mode = mode

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/postgres"

    def launch(self) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            self.stop()
            raise ServerMissing("these tests need PgBouncer, installed and not running: apt-get install pgbouncer")
        (self.root / "users").write_text(f'"{ROLE}" ""\n')
        settings = _SETTINGS.format(
            server=self._server.port,
            port=self.port,
            folder=self.root,
            shared=SHARED,
            role=ROLE,
            mode=self._mode,
        )
        (self.root / "settings").write_text(settings)
        with open(self.root / "log", "wb") as log:
            self._process = subprocess.Popen(
                [program, str(self.root / "settings")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._ids(),
            )  # fmt: skip
        lifeline.tie(self._process.pid, folder=self.root)
        self._await_ready(self._process)

    def _ids(self) -> dict[str, Any]:
        """It refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        nobody = pwd.getpwnam("nobody")
        for path in (self.root, *self.root.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise ServerMissing(f"PgBouncer did not start:\n{(self.root / 'log').read_text()}") from None
            time.sleep(0.01)

    def spare(self) -> list[int]:
        """The server's processes that it is connected to and that serve nobody, since it has no client."""
        with psycopg.connect(
            self.url.removesuffix("postgres") + "pgbouncer", autocommit=True, row_factory=dict_row
        ) as con:
            if any(client["database"] != "pgbouncer" for client in con.execute("SHOW CLIENTS")):
                return []
            return [int(server["remote_pid"]) for server in con.execute("SHOW SERVERS")]
