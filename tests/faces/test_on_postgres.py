"""The command line and the demo on PostgreSQL: nothing but the URL is another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import books, opened

from piecework.store import open_store

ROOT = Path(__file__).parents[2]
SOURCE = """
from piecework import Piecework, Pieces, current, step, wait_for

app = Piecework({url!r})


@app.task(attempts=1)
def add(a: int, b: int = 0) -> int:
    return a + b


@app.task(attempts=1)
def bad(message: str) -> None:
    raise ValueError(message)


@app.split(attempts=1)
def whole(n: int):
    for m in range(n):
        yield add.piece(m, 1)


@whole.compose
def join(pieces: Pieces[int], n: int) -> int:
    return sum(pieces.results())


def charge(step):
    step["charge"] = f"charge of {{step['order']}}"


def refund(step):
    step["refunded"] = True


def email(step):
    step["receipt"] = "sent"


approve = app.operation("approval", main=[step(charge, undo=refund), wait_for("ok"), email])
"""


@pytest.fixture
def shelf() -> str:
    return "postgres"


@pytest.fixture
def source(store_url: str) -> str:
    return SOURCE.format(url=store_url)


def test_every_command_does_its_work(
    call: Callable[..., Any], spawn: Callable[..., Any], shop: Any, name: str, store_url: str
) -> None:
    sums = shop.add.later_many([(n,) for n in range(5)])
    failed, whole = shop.bad.later("no such thing"), shop.whole.later(20)
    unwanted, op = shop.add.using(queue="late").later(1), shop.approve.later(order=7)
    doomed = shop.approve.later(order=8)

    assert call("migrate").out == f"{shop.app.store.url}: nothing to do\n"
    assert call("jobs", "cancel", unwanted.id, "--reason", "a mistake").code == 0
    assert call("queues", "pause", "late").code == 0
    worked = spawn("work", f"{name}:app", "--burst")
    assert (worked.code, worked.out) == (0, ""), worked.err
    assert [job.result(timeout=0) for job in sums] == [0, 1, 2, 3, 4]
    assert whole.result(timeout=0) == sum(range(20)) + 20

    assert {row["state"] for row in call("jobs", "list", "--json", "--limit", "100").data} == {
        "completed",
        "failed",
        "cancelled",
        "waiting",
    }
    assert "no such thing" in call("jobs", "show", failed.id).out
    assert "a mistake" in call("jobs", "show", unwanted.id).out
    assert "20 of 20" in call("jobs", "show", whole.id).out
    assert call("jobs", "retry", failed.id).out == "retried 1 job\n"
    assert call("jobs", "cancel", failed.id).out == "cancelled 1 job\n"
    assert call("jobs", "resume", failed.id).out == "resumed 1 job\n"
    assert call("queues").code == 0
    assert call("queues", "unpause", "late").code == 0
    assert call("jobs", "delete", unwanted.id).code == 0
    assert call("watch", whole.id).code == 0
    assert call("health").err == "no worker is running\n"
    checked = call("check")
    assert checked.code == 0, checked.out
    assert "PostgreSQL" in checked.out

    assert {row["id"] for row in call("operations", "list", "--json").data} == {op.id, doomed.id}
    assert call("operations", "set", op.id, "note=by hand").code == 0
    assert call("operations", "signal", op.id, "ok", "--by", "ann").code == 0
    assert call("operations", "cancel", "--undo", doomed.id, "--reason", "too late").code == 0
    assert spawn("work", f"{name}:app", "--burst").code == 0
    assert (op.state, op.globals["receipt"], op.globals["note"]) == ("completed", "sent", "by hand")
    assert (doomed.state, doomed.globals["refunded"]) == ("cancelled", True)
    assert call("operations", "fork", op.id, "--after", "charge").code == 0
    assert books(store_url) == []


def test_a_worker_on_an_older_schema_says_which_command_to_run(
    spawn: Callable[..., Any], shop: Any, name: str, store_url: str
) -> None:
    job = shop.add.later(1)
    with opened(store_url) as con:
        con.execute("UPDATE piecework_schema SET version = version - 100")
    said = spawn("work", f"{name}:app", "--burst")
    assert said.code not in (0, None)
    assert "run: piecework migrate" in said.err
    assert spawn("check", "--app", f"{name}:app").code == 1
    with opened(store_url) as con:
        con.execute("UPDATE piecework_schema SET version = version + 100")
    assert job.record().run == 0


def test_the_demo_measures_the_same_on_postgresql(store_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.run", str(ROOT / "src" / "piecework" / "engine"), "--store", store_url, "--crash"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Both reports are the same, byte for byte." in done.stdout
    assert "127.0.0.1" in done.stdout
    assert books(store_url) == []
    store = open_store(store_url)
    assert sum(store.counts().values()) > 20
    store.close()
