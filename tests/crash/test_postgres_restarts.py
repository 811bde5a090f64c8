"""The server ends, in good order or not, in every phase of a worker, and comes back: the worker goes on by itself."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from comeback import AWAY, BACK, Body, Phase, Strike, comes_back, said, while_idle, while_running
from tests.servers import UNSYNCED, Postgres
from tests.support import books, until

from piecework import Piecework

_schemas = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be ended. What it wrote survives that without fsync: only the machine must not end."""
    server = Postgres(**UNSYNCED).start()
    yield server
    server.stop()


@pytest.fixture
def url(server: Postgres) -> str:
    return f"{server.url}?schema=restart_{next(_schemas)}"


@pytest.fixture
def app(url: str) -> Iterator[Piecework]:
    app = Piecework(url, lease=2.0)  # beats twice a second
    yield app
    app.close()


def kill(server: Postgres) -> None:
    """As the machine's memory killer would: the server and all its processes."""
    assert server._process is not None
    postmaster = server._process.pid
    pids = [int(pid) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
    for pid in (postmaster, *pids):
        os.kill(pid, signal.SIGKILL)
    server._process.wait(30)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "none is left")


ENDS: dict[str, Callable[[Postgres], None]] = {
    "stopped fast": lambda server: server.end(signal.SIGINT),
    "stopped at once": lambda server: server.end(signal.SIGQUIT),
    "killed": kill,
}


@contextmanager
def held_up(app: Piecework, statement: str) -> Iterator[Callable[[], None]]:
    """A second session holds what the worker needs next; yields a function that waits until the worker waits for it."""
    with closing(psycopg.connect(app.store.db.place.conninfo)) as con:  # type: ignore[attr-defined]
        con.execute(statement.encode())

        def waits() -> None:
            with psycopg.connect(app.store.db.place.conninfo, autocommit=True) as looks:  # type: ignore[attr-defined]
                asked = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'piecework'"
                until(lambda: looks.execute(asked).fetchone() != (0,), "the worker waits")

        yield waits


def schema_of(app: Piecework) -> str:
    return str(app.store.db.place.schema)  # type: ignore[attr-defined]


def the_gate(app: Piecework) -> str:
    """A statement that takes the store for itself, as a cancel of a large tree does."""
    return f"SELECT pg_advisory_xact_lock({zlib.crc32(schema_of(app).encode()) - (1 << 31)}, 1)"


def while_listening(app: Piecework, body: Body, strike: Strike) -> Any:
    with psycopg.connect(app.store.db.place.conninfo, autocommit=True) as con:  # type: ignore[attr-defined]
        lies = f"SELECT count(*) FROM {schema_of(app)}.piecework_sleeper".encode()
        until(lambda: con.execute(lies).fetchone() != (0,), "it has lain down")
    strike()
    return body.task.later(4)


def while_fetching(app: Piecework, body: Body, strike: Strike) -> Any:
    with held_up(app, the_gate(app)) as until_it_waits:
        job = body.task.later(4)
        until_it_waits()
        strike()
    return job


def while_settling(app: Piecework, body: Body, strike: Strike) -> Any:
    job = body.task.later(4)
    assert body.begun.wait(10)
    with held_up(app, the_gate(app)) as until_it_waits:
        body.go.set()
        until_it_waits()
        strike()
    return job


def while_beating(app: Piecework, body: Body, strike: Strike) -> Any:
    job = body.task.later(4)
    assert body.begun.wait(10)
    with held_up(app, f"SELECT 1 FROM {schema_of(app)}.piecework_session FOR UPDATE") as until_it_waits:
        until_it_waits()
        strike()
    return job


PHASES = [while_idle, while_listening, while_fetching, while_running, while_settling, while_beating]


@pytest.mark.parametrize(
    ("phase", "end"),
    [(phase, "stopped at once") for phase in PHASES]
    + [(phase, end) for end in ("stopped fast", "killed") for phase in (while_listening, while_settling)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_server_that_ends_and_comes_back_costs_nothing_but_time(
    app: Piecework,
    server: Postgres,
    url: str,
    caplog: pytest.LogCaptureFixture,
    phase: Phase,
    end: str,
) -> None:
    caplog.set_level(logging.INFO, "piecework")
    comes_back(app, caplog, phase, lambda: ENDS[end](server), server.launch)
    assert (said(caplog, AWAY), said(caplog, BACK)) == (1, 1)
    assert books(url) == []
