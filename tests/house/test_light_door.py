"""A worker of another queue that says what became of a part loads a driver and a few modules, and nothing of jobs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOOR = {
    "clock", "distributed", "errors", "errortext", "failpoints", "ids", "job", "outcome", "parting", "parts", "producer",
    "retry", "store", "store.callers", "store.protocol", "store.sql", "store.sql.files", "store.sql.filters",
    "store.sql.parting", "store.sql.transaction", "store.urls",
}  # fmt: skip
SQLITE = {
    f"store.sqlite{room}"
    for room in ("", ".database", ".ear", ".filters", ".ground", ".schema", ".transaction", ".watch")
}
HEAVY = ("click", "rich", "cronsim", "asyncio", "multiprocessing", "concurrent", "sqlalchemy", "django", "pydantic")
SERVERS = {
    "postgresql://localhost/none": ("psycopg", "postgres"),
    "redis://localhost:1/0": ("redis", "redis"),
}


def loaded(program: str) -> set[str]:
    """The modules that a program has imported when it ends."""
    said = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


def of_piecework(modules: set[str]) -> set[str]:
    return {name.removeprefix("piecework.") for name in modules if name.startswith("piecework.")}


WORKER = """
from piecework.distributed import distributed_job
job = distributed_job({url!r}, "t")
"""
WORKS = """
try:
    job.done("a")
except KeyError:
    pass
"""


def test_on_sqlite_a_worker_loads_the_door_and_what_opens_a_file(tmp_path: Path) -> None:
    modules = loaded(WORKER.format(url=f"sqlite:///{tmp_path}/jobs.db") + WORKS)
    assert of_piecework(modules) == DOOR | SQLITE
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("url", SERVERS)
def test_on_a_server_a_worker_loads_that_store_and_its_driver_and_no_engine(url: str) -> None:
    driver, shelf = SERVERS[url]
    modules = loaded(WORKER.format(url=url))
    more = {name for name in of_piecework(modules) - DOOR if not name.startswith(("store.", f"store.{shelf}"))}
    assert not {
        name for name in more if name.split(".")[0] in ("app", "task", "engine", "cli", "testing", "jobs", "handle")
    }
    bare = loaded(f"import {driver}")
    assert not (modules - bare) & {"click", "rich", "cronsim", "sqlalchemy", "django", "pydantic"}
