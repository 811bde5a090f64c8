"""What somebody is told who has no database server; and that those who have one use it sparingly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.redis_kinds import KINDS, cluster_kind, kind
from tests.redis_servers import KIND, redis_program, valkey_program
from tests.schemas import Schemas
from tests.servers import UNSYNCED, Postgres, ServerMissing

from piecework.store import open_store
from piecework.testing.conformance.kit import a_job, everything

ROOT = Path(__file__).parents[2]
ONE = "tests/store/test_conformance.py::TestStores::test_migrate_sent_twice_has_the_same_end_state[postgres]"


def test_without_a_server_a_test_fails_with_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", ONE]
    surroundings = {**os.environ, "PIECEWORK_PG_BIN": str(tmp_path)}
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, env=surroundings, timeout=60)
    told = [line for line in done.stdout.splitlines() if line.startswith("these tests need PostgreSQL")]
    assert (done.returncode, len(told)) == (1, 1), done.stdout
    assert "apt-get install postgresql" in told[0]
    assert str(tmp_path) in told[0]
    assert "Traceback" not in done.stdout


@pytest.fixture(scope="module")
def alone() -> Iterator[Schemas]:
    """Those of a server to which no other test is connected."""
    server = Postgres(**UNSYNCED)
    try:
        yield Schemas(server.start())
    finally:
        server.stop()


def test_a_schema_that_is_given_back_is_given_again_and_empty(alone: Schemas) -> None:
    """Thousands of tests would take a new one otherwise, and twice as long."""
    url = alone.take()
    with closing(open_store(url)) as store:
        store.add([a_job()])
    alone.give_back(url)
    assert alone.take() == url
    with closing(open_store(url)) as store:
        assert everything(store) == []


def test_a_schema_to_which_somebody_is_connected_is_given_again_when_he_is_gone(alone: Schemas) -> None:
    first, second = alone.take(), alone.take()
    with psycopg.connect(first.partition("?")[0]):
        alone.give_back(first)
        assert alone.take() not in (first, second)
    alone.give_back(second)
    assert {alone.take(), alone.take()} == {first, second}


def test_what_redis_is_in_the_tests_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a test starts follows it, so that a run on Valkey is not one on Redis in half of its tests."""
    found = {}
    for name in KINDS:
        monkeypatch.setenv(KIND, name)
        redis_program.cache_clear()
        found[kind()] = (cluster_kind(), redis_program() == valkey_program())
    redis_program.cache_clear()
    assert found["valkey"] == found["valkey-cluster"] == ("valkey-cluster", True)
    assert [found[name][0] for name in ("redis", "cluster", "sentinel")] == ["cluster"] * 3
    monkeypatch.setenv(KIND, "reddis")
    with pytest.raises(ServerMissing, match="PIECEWORK_REDIS_KIND is reddis; it can be redis, valkey, cluster"):
        kind()
