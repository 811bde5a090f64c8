"""`piecework distributed`: what it prints, what it does, and how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from piecework import Piecework
from piecework.cli import cli, main

Call = Callable[..., Result]


@pytest.fixture
def app(store_url: str) -> Iterator[Piecework]:
    app = Piecework(store_url)
    app.store.migrate()
    yield app
    app.close()


@pytest.fixture
def call(store_url: str) -> Call:
    return lambda *words: CliRunner().invoke(cli, ["distributed", *words, "--store", store_url], catch_exceptions=False)


@pytest.fixture
def filled(app: Piecework) -> Piecework:
    """One job of each kind that a list tells apart."""

    @app.task
    def report() -> None: ...

    done = app.distributed_job("import-1", then=report.piece())
    done.push_all(["a", "b"])
    done.done_many({"a": {"rows": 3}, "b": None})
    bad = app.distributed_job("import-2")
    bad.push_all(["a", "b"])
    bad.done("a")
    bad.fail("b", ValueError("row 7 \x1b[31mis bad"))
    stopped = app.distributed_job("import-3")
    stopped.push_all(["a"])
    stopped.stop("disk full", by="ann")

    def breaks(item: int, part: str) -> None:
        raise ConnectionError("the broker is away")

    with pytest.raises(ConnectionError):
        app.distributed_job("import-4").push_each(iter([1, 2]), breaks)
    return app


def test_the_list_tells_where_each_stands_newest_first(filled: Piecework, call: Call) -> None:
    lines = call("list").output.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["import-4", "open"], ["import-3", "stopped"], ["import-2", "failed"], ["import-1", "finished"],
    ]  # fmt: skip
    assert "0 parts done, 1 open; its producer broke off: the broker is away" in lines[0]
    assert "0 of 1 part done; stopped: disk full" in lines[1]
    assert "1 of 2 parts done, 1 failed" in lines[2]
    assert "2 of 2 parts done" in lines[3]


def test_the_list_is_filtered_cut_and_turned(filled: Piecework, call: Call) -> None:
    assert [line.split()[0] for line in call("list", "--state", "failed").output.splitlines()] == ["import-2"]
    assert call("list", "--limit", "1", "--oldest").output.splitlines()[1] == "… more: --limit 2"
    assert call("list", "--state", "closed").output == "no distributed jobs match\n"


def test_how_far_a_job_is_and_how_long_the_rest_takes(app: Piecework, call: Call) -> None:
    job = app.distributed_job("import-5")
    job.push_all(range(3))
    job.done(0)
    assert "1 of 3 parts done; the rest in about" in call("list").output
    (row,) = json.loads(call("list", "--json").output)
    assert (row["state"], row["progress"]["done"], row["progress"]["total"]) == ("closed", 1, 3)


def test_one_is_shown_with_what_follows_and_what_failed(filled: Piecework, call: Call) -> None:
    assert "test_cli_distributed.filled.report: stored" in call("show", "import-1").output
    assert "b  ValueError: row 7 ·[31mis bad" in call("show", "import-2").output
    assert "by ann: disk full" in call("show", "import-3").output
    assert "producer   broke off: ConnectionError: the broker is away" in call("show", "import-4").output
    assert 'a  {"rows":3}' in call("show", "import-1", "--parts", "done").output
    parts = json.loads(call("show", "import-1", "--parts", "done", "--json").output)["parts"]
    assert [part["part"] for part in parts] == ["a", "b"]


def test_only_the_first_open_parts_are_shown_unless_all_are_asked_for(app: Piecework, call: Call) -> None:
    app.distributed_job("big").push_all(range(30))
    said = call("show", "big").output
    assert (said.count("  open "), "… more: --parts open" in said) == (10, True)
    assert call("show", "big", "--parts", "open").output.count("  open ") == 30


def test_jobs_are_stopped_resumed_and_forgotten(filled: Piecework, call: Call) -> None:
    filled.distributed_job("import-6").push_all(["a"])
    assert call("stop", "import-6", "import-1", "--reason", "night").output == (
        "import-6: stopped\nimport-1 has ended, or was stopped before\n"
    )
    assert filled.distributed_job("import-6").reason == "night"
    assert filled.distributed_job("import-6").record().stopped_by
    assert call("resume", "import-6", "import-2", "import-1").output == (
        "import-6: resumed; 1 part open\nimport-2: resumed; 1 part open\nimport-1 was neither stopped nor has failed\n"
    )
    job = filled.distributed_job("import-6")
    job.stop()
    job.done("a")
    assert call("resume", "import-6").output == "import-6: resumed; nothing was left to do: finished\n"
    assert call("forget", "import-6", "import-7").output == "import-6: forgotten\nimport-7 is not there\n"
    assert not filled.distributed_job("import-6").exists


def test_an_unknown_token_is_told_and_exits_with_1(
    app: Piecework, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["show", "gone"], ["stop", "gone"], ["resume", "gone"]):
        assert main(["distributed", *words, "--store", store_url]) == 1
        assert "piecework: no distributed job 'gone'" in capsys.readouterr().err


def test_every_command_has_help() -> None:
    for words in ([], ["list"], ["show"], ["stop"], ["resume"], ["forget"]):
        said: Any = CliRunner().invoke(cli, ["distributed", *words, "--help"])
        assert (said.exit_code, "Usage" in said.output) == (0, True)
