"""The command line as a whole: help, errors, exit codes, and the commands around the store."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import until

from piecework import Piecework, __version__
from piecework.cli import COMMANDS, cli
from piecework.job import SessionRecord, State

Call = Callable[..., Any]
HELP_CPU_SECONDS = 0.150

# ── help ─────────────────────────────────────────────────────────────────────────────────────────

PATHS = [
    [],
    *([name] for name in COMMANDS),
    *(["jobs", name] for name in ("list", "show", "retry", "cancel", "delete")),
    *(["queues", name] for name in ("pause", "unpause")),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "piecework")
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(path: list[str], flag: str) -> None:
    said = CliRunner().invoke(cli, [*path, flag])
    assert said.exit_code == 0
    assert "Usage:" in said.output
    assert len(said.output.splitlines()) > 4


def test_help_names_every_command_with_its_own_words() -> None:
    said = CliRunner().invoke(cli, ["--help"])
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S+", said.output, re.MULTILINE)


@pytest.mark.parametrize("path", PATHS[1:], ids=lambda path: " ".join(path))
def test_every_option_is_explained(path: list[str]) -> None:
    command: Any = cli
    for name in path:
        command = command.get_command(None, name)
    unexplained = [
        param.opts for param in command.params if param.param_type_name == "option" and not getattr(param, "help", "x")
    ]
    assert unexplained == []


def test_the_version_is_told(spawn: Call) -> None:
    said = spawn("--version")
    assert (said.code, said.out) == (0, f"piecework {__version__}\n")


def test_help_answers_in_150_ms_of_cpu(folder: Path) -> None:
    """The best of five: what is measured is the program, not the machine's other work."""
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "piecework", "--help"], check=True, capture_output=True, env=_environ(), timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_CPU_SECONDS


def test_help_imports_neither_the_engine_nor_a_store(folder: Path) -> None:
    code = (
        "import sys\nfrom piecework.cli import main\ntry:\n    main(['--help'])\nfinally:\n"
        "    print([name for name in sys.modules if name.startswith(('piecework.', 'msgspec', 'rich', 'sqlite3'))], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=_environ(), timeout=60
    )
    assert done.stderr.strip() == "['piecework.cli']"


def _environ(**more: str) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **more,
    }


# ── exit codes and plain sentences ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["jobs", "no-such-command"],
        ["jobs", "show"],
        ["watch"],
        ["work", "-c", "0", "shop:app"],
        ["work", "-c", "many", "shop:app"],
        ["work", "--processes", "0", "shop:app"],
        ["work", "--shutdown-timeout", "-1", "shop:app"],
        ["work", "--shutdown-timeout", "nan", "shop:app"],
        ["work", "--shutdown-timeout", "inf", "shop:app"],
        ["work", "--reload", "--burst", "shop:app"],
        ["work", "--reload-dir", ".", "shop:app"],
        ["queues", "pause"],
        ["work", "-l", "loud", "shop:app"],
        ["work"],
        ["check", "extra"],
    ],
    ids=" ".join,
)
def test_a_usage_error_exits_with_2_and_says_what_was_wrong(spawn: Call, arguments: list[str]) -> None:
    said = spawn(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    assert re.search(r"^Error: .+", said.err, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "-a", "nosuchmodule:app"], "no module 'nosuchmodule'"),
        (["check", "-a", "{name}:nosuchapp"], "the module {name} has no 'nosuchapp'"),
        (["check", "-a", "{name}:text"], "'{name}:text' is str, not a Piecework app"),
        (["check", "-a", "{name}"], "write module:attribute"),
        (["check", "-a", ":app"], "write module:attribute"),
        (["check", "--store", "mysql://x/y"], "sqlite:///"),
        (["check", "--store", "sqlite://jobs.db"], "names no file"),
        (["jobs", "list", "--store", "sqlite:///no/such/folder/jobs.db"], "no/such/folder does not exist"),
        (["migrate", "--store", "sqlite:///no/such/folder/jobs.db"], "no/such/folder does not exist"),
        (["jobs", "list", "--store", "sqlite:///{name}.py"], "not an SQLite file"),
        (["watch", "no-such-job", "-a", "{name}:app"], "no store at sqlite:///jobs.db; is the path right?"),
        (["work", "-n", "", "{name}:app"], "--name must be a name"),
        (["work", "--health", "x", "{name}:app"], "write PORT or HOST:PORT"),
        (["work", "--reload", "--reload-dir", "nowhere", "{name}:app"], "nowhere is not a folder"),
        (["health", "--max-age", "nan", "-a", "{name}:app"], "--max-age must be seconds"),
        (["work", "nosuchmodule:app"], "no module 'nosuchmodule'"),
        (["work", "{name}:text"], "not a Piecework app"),
        (["work", "-Q", "a b", "{name}:app"], "queue name"),
        (["work", "--burst", "-Q", "", "{name}:app"], "queue"),
        (["work", "--burst", "-Q", ",", "{name}:app"], "queue"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_exits_with_1_and_is_told_in_a_sentence(
    spawn: Call, name: str, arguments: list[str], said: str
) -> None:
    got = spawn(*(argument.format(name=name) for argument in arguments))
    assert got.code == 1
    assert got.out == ""
    assert "Traceback" not in got.err
    assert said.format(name=name) in got.err
    assert "piecework: " in got.err


@pytest.mark.parametrize("arguments", [["work", "broken:app"], ["jobs", "list", "-a", "broken:app"]], ids=" ".join)
def test_an_error_of_the_apps_own_module_is_shown_with_its_traceback(
    spawn: Call, folder: Path, arguments: list[str]
) -> None:
    """It is the user's code: a sentence would hide where it broke."""
    (folder / "broken.py").write_text("1 / 0\n")
    said = spawn(*arguments)
    assert said.code == 1
    assert "broken.py" in said.err
    assert "ZeroDivisionError" in said.err


def test_a_module_that_the_apps_module_misses_is_not_called_the_apps(spawn: Call, folder: Path) -> None:
    (folder / "needy.py").write_text("import nosuchlibrary\n")
    said = spawn("check", "-a", "needy:app")
    assert said.code == 1
    assert "nosuchlibrary" in said.err
    assert "for the app" not in said.err


@pytest.mark.parametrize(
    ("environ", "blamed"),
    [({"PIECEWORK_LEASE": "soon"}, "PIECEWORK_LEASE"), ({"PIECEWORK_URL": "mysql://x"}, "sqlite:///")],
)
def test_a_bad_environment_is_told_in_a_sentence(spawn: Call, name: str, environ: dict[str, str], blamed: str) -> None:
    said = spawn("jobs", "list", **environ)
    assert (said.code, said.out) == (1, "")
    assert blamed in said.err
    assert "Traceback" not in said.err


def test_a_bad_project_is_told_in_a_sentence(spawn: Call, folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.piecework]\nleese = 3\nmax_payload = 1\n")
    said = spawn("check")
    assert said.code == 1
    assert "leese" in said.err
    assert "max_payload" in said.err
    assert "Traceback" not in said.err


def test_a_closed_pipe_is_no_traceback(spawn: Call, shop: Any, folder: Path) -> None:
    shop.add.later_many([(n,) for n in range(3000)])
    pipe = subprocess.run(
        f"{sys.executable} -m piecework jobs list --limit 3000 --store sqlite:///jobs.db | head -1",
        shell=True,
        cwd=folder,
        env=_environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert len(pipe.stdout.splitlines()) == 1
    assert pipe.stderr == ""


# ── which app ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["--app", "-a", "environment", "project", "dotted", "--store", "url"])
def test_the_app_or_the_store_is_named_in_any_of_these_ways(
    spawn: Call, shop: Any, name: str, folder: Path, how: str
) -> None:
    job = shop.add.later(1)
    arguments: list[str] = []
    environ: dict[str, str] = {}
    if how in ("--app", "-a"):
        arguments = [how, f"{name}:app"]
    elif how == "dotted":
        arguments = ["-a", f"{name}.app"]
    elif how == "--store":
        arguments = ["--store", "sqlite:///jobs.db"]
    elif how == "environment":
        environ = {"PIECEWORK_APP": f"{name}:app"}
    elif how == "url":
        environ = {"PIECEWORK_URL": "sqlite:///jobs.db"}
    else:
        (folder / "pyproject.toml").write_text(f'[tool.piecework]\napp = "{name}:app"\n')
    said = spawn("jobs", "list", "--json", *arguments, **environ)
    assert [row["id"] for row in said.data] == [job.id]


@pytest.mark.parametrize("arguments", [["check", "-a"], ["work", "--burst"]], ids=" ".join)
def test_a_module_in_the_folder_does_not_take_the_place_of_an_installed_one(
    folder: Path, name: str, arguments: list[str]
) -> None:
    """The console script does not have the folder on its path (-P); its worker processes must not either."""
    (folder / "msgspec.py").write_text("raise SystemExit('hijacked')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "piecework", *arguments, f"{name}:app"],
        cwd=folder,
        env=_environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "hijacked" not in done.stderr
    assert done.returncode == 0, done.stderr


# ── check and migrate ────────────────────────────────────────────────────────────────────────────


def test_check_of_a_sound_store_exits_with_0(call: Call, shop: Any) -> None:
    shop.add.later(1)
    said = call("check")
    assert said.code == 0
    for subject in ("settings", "library", "file", "permissions", "schema", "integrity"):
        assert re.search(rf"^(ok|warning) +{subject}: .+", said.out, re.MULTILINE)


def test_check_before_the_first_use_creates_nothing(call: Call, shop: Any, folder: Path) -> None:
    said = call("check")
    assert said.code == 0
    assert "set up at first use" in said.out
    assert not (folder / "jobs.db").exists()


def test_check_of_a_folder_that_is_missing_exits_with_1(call: Call, folder: Path) -> None:
    said = call("check", "--store", "sqlite:///no/such/folder/jobs.db", app=False)
    assert said.code == 1
    assert re.search(r"^ERROR +file: the folder .*/no/such/folder does not exist; create it", said.out, re.MULTILINE)


def test_check_of_a_store_in_memory(call: Call, folder: Path) -> None:
    said = call("check", "--store", "sqlite://:memory:", app=False)
    assert said.code == 0
    assert re.search(r"^warning +memory: the store is in memory: it is empty at the start", said.out, re.MULTILINE)
    assert "first use" not in said.out
    assert "does not exist" not in said.out


READING = [
    ["jobs", "list"],
    ["jobs", "show", "x"],
    ["jobs", "retry", "--all"],
    ["jobs", "cancel", "--all"],
    ["jobs", "delete", "--all"],
    ["watch", "x"],
    ["queues"],
    ["queues", "pause", "a"],
    ["queues", "unpause", "a"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
@pytest.mark.parametrize("there", [False, True])
def test_a_command_that_reads_refuses_a_store_that_is_not_set_up(
    call: Call, folder: Path, arguments: list[str], there: bool
) -> None:
    """A typo must not be answered with an empty list, nor leave an empty file behind."""
    if there:
        (folder / "typo.db").touch()
    said = call(*arguments, "--store", "sqlite:///typo.db", app=False)
    assert (said.code, said.out) == (1, "")
    assert "no store at sqlite:///typo.db; is the path right?" in said.err
    assert (folder / "typo.db").exists() == there


def test_health_of_a_store_that_is_not_set_up_creates_none(call: Call, folder: Path) -> None:
    said = call("health", "--store", "sqlite:///typo.db", app=False)
    assert (said.code, said.out) == (1, "")
    assert said.err == "sqlite:///typo.db: nothing is set up there yet; is the path right?\n"
    assert not (folder / "typo.db").exists()


def test_health_tells_of_every_worker(call: Call, shop: Any) -> None:
    call("migrate")
    assert (call("health").code, call("health").err) == (1, "no worker is running\n")
    store = shop.app.store
    for id, polled in (("one", 0.0), ("two", 40.0), ("new", None)):
        store.enlist(SessionRecord(id=id, beat=0, started_at=store.now(), seen_at=1.0, name=id, host="h", pid=71))
        store.renew(id, polled=polled)
    said = call("health")
    assert said.code == 0
    assert said.out.startswith("3 workers: ")
    for expected in (
        r"one \(pid 71 on h\) polled 0\.\d sec",
        r"two \(.*\) polled 40\.\d sec",
        r"new \(.*\) has not polled yet",
    ):
        assert re.search(expected, said.out)
    said = call("health", "--name", "two")
    assert said.code == 1
    assert said.err.startswith("no worker polled within 30 seconds: two (pid 71 on h) polled 40.")
    assert call("health", "--name", "two", "--max-age", "60").code == 0
    said = call("health", "--name", "two", "--json")
    assert (said.code, said.data["status"], said.data["workers"][0]["session"]) == (1, "silent", "two")


def test_check_names_the_weakness_of_the_sqlite_library(call: Call, shop: Any) -> None:
    (finding,) = [finding for finding in call("check", "--json").data if finding["subject"] == "library"]
    assert sqlite3.sqlite_version in finding["message"]
    weak = sqlite3.sqlite_version_info < (3, 51, 3)
    assert finding["level"] == ("warning" if weak else "ok")
    assert ("WAL-reset" in finding["message"]) == weak


def test_check_names_a_library_that_is_too_old_and_exits_with_1(
    call: Call, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.37.2")
    said = call("check")
    assert said.code == 1
    assert re.search(r"^ERROR +library: SQLite 3\.37\.2 is too old", said.out, re.MULTILINE)


def test_check_says_when_everybody_may_read_the_file(call: Call, shop: Any, folder: Path) -> None:
    shop.add.later(1)
    (folder / "jobs.db").chmod(0o644)
    said = call("check")
    assert said.code == 0
    assert re.search(r"^warning +permissions: .*chmod 600", said.out, re.MULTILINE)


@pytest.mark.parametrize(("version", "advice"), [(0, "migrate"), (999, "update piecework")])
def test_check_of_another_schema_exits_with_1_and_says_what_to_do(
    call: Call, shop: Any, folder: Path, version: int, advice: str
) -> None:
    call("migrate")
    with sqlite3.connect(folder / "jobs.db") as connection:
        connection.execute("DELETE FROM piecework_schema WHERE version > 1")
        connection.execute("UPDATE piecework_schema SET version = ?", (version,))
    shop.app.close()  # what is open has looked already
    said = call("check")
    assert said.code == 1
    assert re.search(rf"^ERROR +schema: .*{advice}", said.out, re.MULTILINE)
    said = call("jobs", "list")
    assert said.code == 1
    assert advice in said.err


def test_check_of_what_is_no_database_exits_with_1(call: Call, folder: Path) -> None:
    (folder / "text.db").write_text("this is no database, but it is long enough to look at " * 50)
    said = call("check", "--store", "sqlite:///text.db", app=False)
    assert said.code == 1
    assert "not an SQLite file" in said.out + said.err


def test_check_tells_no_password(call: Call, shop: Any) -> None:
    said = call("check", "--store", "mysql://root:hunter2@db/x", app=False)
    assert said.code == 1
    assert "hunter2" not in said.out + said.err


def test_migrate_twice(call: Call, shop: Any) -> None:
    first, second = call("migrate"), call("migrate")
    assert (first.code, second.code) == (0, 0)
    assert first.out.startswith("applied 0001")
    assert second.out == "sqlite:///jobs.db: nothing to do\n"


# ── other people's text ──────────────────────────────────────────────────────────────────────────

NASTY = "\x1b[31mred\x07\x1b]0;title\x07\x9b2J\r\x08\x00\u202egnp.exe"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def nasty(shop: Any) -> Any:
    """A split whose every text tries to steer the terminal."""

    app: Piecework = shop.app

    @app.task(attempts=1)
    def fails(text: str) -> None:
        from piecework import current

        current.progress(1, 2, NASTY)
        raise ValueError(text)

    @app.split(attempts=1)
    def whole(text: str):  # type: ignore[no-untyped-def]
        yield fails.using(key="k" + NASTY.replace("\x00", "")).piece(text)

    from piecework.testing.drain import drain

    job = whole.using(key="u" + NASTY.replace("\x00", "")).later(NASTY)
    drain(shop.app)
    other = shop.add.later(1)
    other.cancel(NASTY)
    return job


@pytest.mark.parametrize(
    "command", [["jobs", "list"], ["jobs", "show"], ["jobs", "show-piece"], ["watch"], ["jobs", "show-cancelled"]]
)
def test_control_characters_of_a_job_never_reach_the_terminal(
    call: Call, shop: Any, nasty: Any, command: list[str]
) -> None:
    if command == ["jobs", "show-piece"]:
        command = ["jobs", "show", next(nasty.pieces()).id]
    elif command == ["jobs", "show-cancelled"]:
        command = ["jobs", "show", shop.app.jobs.where(state="cancelled").first().id]
    elif command != ["jobs", "list"]:
        command = [*command, nasty.id]
    said = call(*command)
    assert "red" in said.out
    assert CONTROL.findall(said.out.replace("\t", "")) == []
    assert CONTROL.findall(said.err) == []


@pytest.mark.parametrize("command", [["jobs", "list", "--json"], ["jobs", "show", "--json"], ["watch", "--json"]])
def test_json_escapes_control_characters_and_says_the_same(call: Call, nasty: Any, command: list[str]) -> None:
    said = call(*command, *([] if "list" in command else [nasty.id]))
    assert re.findall(r"[\x00-\x09\x0b-\x1f]", said.out) == []
    assert "red" in json.dumps(said.data)


def test_an_id_that_was_typed_is_told_without_its_control_characters(call: Call, shop: Any) -> None:
    said = call("jobs", "show", "\x1b[31mx")
    assert said.code == 1
    assert CONTROL.findall(said.err) == []


def test_colours_are_for_terminals_only(spawn: Call, shop: Any, name: str) -> None:
    from piecework.testing.drain import drain

    shop.bad.later("x")
    drain(shop.app)
    assert "\x1b" not in spawn("jobs", "list", "-a", f"{name}:app").out
    assert "\x1b" not in spawn("check", "-a", f"{name}:app").out


# ── work ─────────────────────────────────────────────────────────────────────────────────────────


def test_work_in_a_burst_runs_what_is_due_and_ends(spawn: Call, shop: Any, name: str) -> None:
    jobs = [shop.add.later(1, 2), shop.slowly.later(7), shop.whole.later(5)]
    said = spawn("work", f"{name}:app", "--burst", "-c", "2", "--processes", "2", "-n", "tester")
    assert said.code == 0, said.err
    assert [job.result(timeout=0) for job in jobs] == [3, 7, 15]
    assert said.out == ""
    assert "2 processes × 2, all queues" in said.err


def test_work_takes_the_named_queues_only(spawn: Call, shop: Any, name: str) -> None:
    mine, other = shop.add.using(queue="mine").later(1), shop.add.using(queue="other").later(2)
    said = spawn("work", f"{name}:app", "--burst", "--queues", "mine,also.mine")
    assert said.code == 0, said.err
    assert "queues mine, also.mine" in said.err
    assert mine.state is State.COMPLETED
    assert other.state is State.AVAILABLE


def test_work_finds_the_app_in_another_folder(spawn: Call, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "remote.py").write_text(
        'from piecework import Piecework\napp = Piecework("sqlite:///jobs.db")\n@app.task\ndef job() -> int:\n    return 1\n'
    )
    said = spawn("work", "remote:app", "--burst", "--app-dir", "elsewhere")
    assert said.code == 0, said.err
    assert "1 tasks" in said.err or "1 task" in said.err


def test_work_ends_in_good_order_on_sigterm(shop: Any, name: str, folder: Path) -> None:
    job = shop.add.later(1, 1)
    worker = subprocess.Popen(
        [sys.executable, "-m", "piecework", "work", f"{name}:app", "--shutdown-timeout", "5"],
        cwd=folder,
        env=_environ(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert job.result(timeout=30) == 2
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
    finally:
        worker.kill()
    assert worker.returncode == 0, err
    assert "Traceback" not in err
    assert shop.app.store.sessions() == []


# ── the outbox ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def boxed(call: Call, shop: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Piecework:
    """The shop's app with an outbox, whose clock says when jobs came into it."""
    monkeypatch.setenv("PIECEWORK_OUTBOX", "sqlite:///data.db")
    app = Piecework("sqlite:///jobs.db")
    app.task(name="add")(lambda n: n)
    monkeypatch.setattr(shop, "app", app)
    return app


def outbox_lines(said: Any) -> list[str]:
    return re.findall(r"^\w+ +outbox:.*$", said.out, re.MULTILINE)


def test_check_says_that_an_outbox_lacks_its_tables(boxed: Piecework, call: Call) -> None:
    (line,) = outbox_lines(call("check"))
    assert re.fullmatch(r"warning +outbox: sqlite:///data\.db has no tables yet; run: piecework migrate", line)


def test_check_says_what_waits_in_the_outbox_and_since_when(boxed: Piecework, call: Call) -> None:
    boxed.migrate()
    (line,) = outbox_lines(call("check"))
    assert re.fullmatch(r"ok +outbox: sqlite:///data\.db: nothing waits .*", line)
    kept(boxed)
    kept(boxed)
    (line,) = outbox_lines(call("check"))
    assert re.fullmatch(r"ok +outbox: .*: 2 jobs to be carried over, the oldest since .* s\)", line)
    with sqlite3.connect("data.db") as data:
        data.execute("UPDATE piecework_job SET created_at = created_at - 300 WHERE seq = 1")
    said = call("check")
    assert said.code == 0
    (line,) = outbox_lines(said)
    assert re.fullmatch(
        r"warning +outbox: .* 2 jobs .* \(5 min\); workers of this app carry them: is one running, .*", line
    )


@pytest.mark.parametrize("state", ["failed", "parked"])
def test_check_says_what_could_not_be_carried_and_how_to_retry_it(
    state: str, boxed: Piecework, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxed.migrate()
    kept(boxed)
    assert boxed.outbox is not None
    jobs = boxed.outbox.box.jobs
    if state == "failed":
        monkeypatch.setattr(boxed.store, "add", None)
    else:
        with sqlite3.connect("data.db") as data:
            data.execute("UPDATE piecework_job SET args = '{\"job\": 7}'")
    with boxed.outbox.box.worker():
        until(lambda: jobs.where(state=state).count() == 1)
    waits, failed = outbox_lines(call("check"))
    assert "nothing waits" in waits
    found = re.fullmatch(
        r"warning +outbox: 1 job could not be carried over \((.+)\); once that is mended: piecework (.+)", failed
    )
    assert found is not None
    assert ("TypeError" if state == "failed" else "argument") in found[1]
    assert call(*found[2].split(), app=False).code == 0
    assert jobs.where(state="available").count() == 1


def test_check_of_an_outbox_that_cannot_be_there_exits_with_1(
    shop: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIECEWORK_OUTBOX", "sqlite:///no/such/folder/data.db")
    monkeypatch.setattr(shop, "app", Piecework("sqlite:///jobs.db"))
    said = call("check")
    assert said.code == 1
    assert re.search(r"^ERROR +outbox file: the folder .* does not exist", said.out, re.MULTILINE)


def kept(app: Piecework) -> None:
    """A job in the outbox."""
    add: Any = app.registry.get("add")
    assert add is not None
    with sqlite3.connect("data.db") as data:
        data.execute("CREATE TABLE IF NOT EXISTS fact (n)")
        data.execute("INSERT INTO fact VALUES (1)")
        app.task_of(add).using(within=data).later(1)
