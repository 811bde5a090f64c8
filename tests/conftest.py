"""Stores to test on. A test that takes `store` runs once for each shelf.

What is the engine's part and not a store's runs on SQLite, and on the other shelves as far as its mark `elsewhere` says:
there it would show the same once more. Where PIECEWORK_WHOLE_RINGS is set (`make test-all`), everything runs everywhere.
"""

from __future__ import annotations

import atexit
import functools
import gc
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.redis_kinds import KINDS, begun, cluster_kind, empty_store, kind, warm
from tests.redis_servers import Redis, RedisCluster, Watched
from tests.schemas import Schemas
from tests.servers import UNSYNCED, Postgres, ServerMissing

from piecework.store import Store, open_store
from piecework.store.postgres.store import PostgresStore
from piecework.store.redis.store import RedisStore
from piecework.testing import FrozenClock

# Speed is for the benchmarks to tell: no example fails because the machine was busy.
settings.register_profile("piecework", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("piecework")

# Whoever starts the tests under nohup, or in a shell's background, has these ignored, and so would all that they start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

WHOLE = bool(os.environ.get("PIECEWORK_WHOLE_RINGS"))

# Files are made in memory where there is room, unless TMPDIR says where: of each commit to a disk 3 ms are waiting for it,
# and what that waiting is for, a machine that ends, no test can show.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # bytes, of which a run of everything takes a quarter
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # to be asked for again


@functools.cache
def _set_up() -> bytes:
    """The file of a store that is set up and empty. To set one up takes ten times as long as to write down this."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/jobs.db")
        store.migrate()
        store.close()
        return Path(folder, "jobs.db").read_bytes()


def _file(folder: Path) -> str:
    (folder / "jobs.db").write_bytes(_set_up())
    return f"sqlite:///{folder}/jobs.db"


# Each shelf says how an empty database of its kind is reached, which is set up where that takes long …
SHELVES: dict[str, Callable[[Path], str]] = {
    "sqlite": _file,
    "postgres": lambda folder: schemas().take(),
    "redis": lambda folder: empty_store(kind(), redis_server(kind())),
}
# … so do other servers that the last one is for, for tests that name them …
ELSEWHERE = {name: lambda folder, name=name: empty_store(name, redis_server(name)) for name in KINDS.keys() - SHELVES}
# … and those that outlast a test, how one is given back.
GIVE_BACK: dict[str, Callable[[str], None]] = {"postgres": lambda url: schemas().give_back(url)}


def pytest_report_header() -> str:
    everywhere = "everything on every shelf" if WHOLE else "what is the engine's on SQLite alone (else: make test-all)"
    return f"rings: {everywhere}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [] if WHOLE else [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        out = set(left_out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage is looked for neither while tests are collected nor ever again in what eleven thousand of them are made of.

    It would take half a second each time, and there are tests that ask for it.
    """
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return collected


def _is_left_out(item: pytest.Item) -> bool:
    """Whether it is one for SQLite, and meant for another shelf."""
    mark, call = item.get_closest_marker("elsewhere"), getattr(item, "callspec", None)
    if mark is None or call is None or call.params.get("shelf", "sqlite") == "sqlite":
        return False
    return any(call.params[name] not in values for name, values in mark.kwargs.items())


@functools.cache
def _begun() -> Postgres | str:
    """The server, or why there is none: tried once, not again for each of a thousand tests."""
    try:
        postgres = Postgres(max_prepared_transactions="5", **UNSYNCED)
        atexit.register(postgres.stop)
        return postgres.start()
    except ServerMissing as missing:
        return str(missing)


def server() -> Postgres:
    """The PostgreSQL of this test process, which ends with it; each test has a schema to itself."""
    begun = _begun()
    if isinstance(begun, str):
        pytest.fail(begun, pytrace=False)
    return begun


@functools.cache
def schemas() -> Schemas:
    return Schemas(server())


def redis_server(kind: str) -> Any:
    """The server of this kind of this test process, which ends with it; each test has a prefix of its own."""
    server = begun(kind)
    if isinstance(server, str):
        pytest.fail(server, pytrace=False)
    return server


@pytest.fixture(scope="session")
def redis() -> Redis:
    """One server that several tests share: a Redis, or a Valkey where the shelf is one."""
    found: Redis = redis_server("valkey" if kind().startswith("valkey") else "redis")
    return found


@pytest.fixture(scope="session")
def cluster() -> RedisCluster:
    """Three masters and their replicas, which several tests share."""
    found: RedisCluster = redis_server(cluster_kind())
    return found


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A master, its replica and a Sentinel, for one test to break."""
    watched = Watched()
    try:
        yield watched.start()
    finally:
        watched.stop()


@pytest.fixture(scope="session")
def postgres() -> Postgres:
    """A PostgreSQL server that several tests share."""
    return server()


@pytest.fixture(scope="session")
def lent() -> Schemas:
    """The schemas of that server, for a test that takes one itself."""
    return schemas()


_folders = itertools.count(1)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test's own. For a free name, pytest's own looks through those of all tests before it each time."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f"{name}-{next(_folders)}"
    folder.mkdir(0o700)
    return folder


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(params=SHELVES)
def shelf(request: pytest.FixtureRequest) -> str:
    """The kind of store this test runs on."""
    return str(request.param)


@pytest.fixture
def store_url(shelf: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database in which nothing is."""
    url = {**SHELVES, **ELSEWHERE}[shelf](tmp_path)
    yield url
    if shelf in GIVE_BACK:
        GIVE_BACK[shelf](url)


@pytest.fixture
def path(shelf: str, store_url: str, tmp_path: Path) -> Path | str:
    """Where a test itself looks into the store: its file, or its URL."""
    return tmp_path / "jobs.db" if shelf == "sqlite" else store_url


@pytest.fixture
def store(shelf: str, store_url: str, clock: FrozenClock) -> Iterator[Store]:
    """A migrated, empty store that tells the time by `clock`."""
    store = open_store(store_url, clock=clock)
    with _warm(store, shelf):
        store.migrate()
        yield store
    store.close()


def _warm(store: Store, shelf: str) -> AbstractContextManager[None]:
    """Connections that an earlier test's store had, where to open new ones takes long."""
    if isinstance(store, PostgresStore):
        return schemas().warm(store)
    return warm(kind() if shelf == "redis" else shelf, store) if isinstance(store, RedisStore) else nullcontext()


@pytest.fixture
def fresh_store(shelf: str, tmp_path: Path) -> Iterator[Callable[[FrozenClock], Store]]:
    """Makes as many migrated, empty stores as a test wants, one after the other."""
    numbers = itertools.count(1)
    lent: list[str] = []

    def give_back() -> None:
        while lent and shelf in GIVE_BACK:
            GIVE_BACK[shelf](lent.pop())

    def make(clock: FrozenClock) -> Store:
        give_back()  # which leaves alone what the test has not closed
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        lent.append({**SHELVES, **ELSEWHERE}[shelf](folder))
        store = open_store(lent[-1], clock=clock)
        store.migrate()
        return store

    yield make
    give_back()
