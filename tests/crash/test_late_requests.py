"""A worker process is killed while its request is on its way to the server, and the request arrives after all.

The supervisor is a real one, in this process, and goes on; the processes are a few lines each.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.proxy import Proxy
from tests.redis_servers import Redis
from tests.servers import Postgres
from tests.support import until

from piecework import Piecework
from piecework.clock import SystemClock
from piecework.engine.supervisor import Supervisor
from piecework.job import State
from piecework.store import open_store

# The first of them asks for work through the proxy, and never hears of it. The second does what is left, on a straight line.
CHILD = """
import json, os, socket, sys
from pathlib import Path
folder, url, through = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path[:0] = sys.argv[4].split(os.pathsep)
from tests.support import until
from piecework.job import Claim
from piecework.store import open_store
from piecework.testing.conformance.kit import completed
control = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
control.sendall(json.dumps({"url": url, "lease": 600.0, "keep_completed": None, "tasks": 0}).encode() + b"\\n")
worker = json.loads(control.makefile("r").readline())["worker"]
is_first = worker.endswith(".1")
store = open_store(through if is_first else url)
store.exchange([], Claim(worker, 1, 0))  # it is connected, and the server knows what is asked
folder.joinpath(worker).write_text(str(os.getpid()))
until(folder.joinpath("stalled" if is_first else "arrived").exists, "it is time")
_, runs = store.exchange([], Claim(worker, 2, 5))
assert not is_first, "it was to be killed"
store.settle([completed(run) for run in runs])
control.sendall(b'"bye"\\n')
"""
LAST_BYTES = {"postgres": b"COMMIT", "redis": b".1"}  # of a request that asks for work


@pytest.fixture(params=["postgres", "redis"])
def shelf(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(shelf: str, request: pytest.FixtureRequest) -> Postgres | Redis:
    found: Postgres | Redis = request.getfixturevalue(shelf)
    return found


@pytest.fixture
def proxy(server: Postgres | Redis) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


class Director(threading.Thread):
    """Kills the first process when all that it had to say is held, and lets that through when the next one is there."""

    def __init__(self, folder: Path, proxy: Proxy, last: bytes) -> None:
        super().__init__()
        self._folder, self._proxy, self._last = folder, proxy, last
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._direct()
        except BaseException as error:
            self.error = error
        finally:
            self._proxy.serve()
            self._folder.joinpath("arrived").touch()

    def _direct(self) -> None:
        pid = int(self._said_by("*.1"))
        self._proxy.stall()
        self._folder.joinpath("stalled").touch()
        until(lambda: self._last in self._proxy.held, "the request is on its way")
        os.kill(pid, signal.SIGKILL)
        self._said_by("*.2")  # it was started after the reap
        assert self._last in self._proxy.held
        self._proxy.serve()
        until(lambda: self._proxy.connected == 0, "the server has done what it was asked for, and hung up")

    def _said_by(self, worker: str) -> str:
        until(lambda: any(self._folder.glob(worker)), f"{worker} is there")
        (found,) = self._folder.glob(worker)
        until(found.read_text, f"{worker} has said who it is")
        return found.read_text()


def test_what_a_killed_worker_asked_for_is_not_given_to_it_when_the_request_arrives(
    store_url: str, server: Postgres | Redis, proxy: Proxy, shelf: str, tmp_path: Path
) -> None:
    app = Piecework(store_url)

    @app.task(name="t")
    def work() -> None:
        pass

    job = work.later()
    through = store_url.replace(f":{server.port}", f":{proxy.port}", 1)
    folder = tmp_path / "said"
    folder.mkdir()
    director = Director(folder, proxy, LAST_BYTES[shelf])
    director.start()
    command = [sys.executable, "-c", CHILD, str(folder), store_url, through, os.pathsep.join(sys.path)]
    made = Supervisor(command, open_store, SystemClock(), processes=1, concurrency=1, name="test", burst=True)
    assert made.run() == 0
    director.join()
    assert director.error is None, director.error
    (first, second) = sorted(path.name for path in folder.glob("*.*"))
    assert first.rpartition(".")[0] == second.rpartition(".")[0]  # the session has not ended
    (record,) = app.store.get([job.id])
    app.close()
    assert (record.state, record.run, record.worker) == (State.COMPLETED, 1, second)
