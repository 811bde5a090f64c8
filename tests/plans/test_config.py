"""Settings: arguments before the environment before the project; every mistake told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from piecework import Piecework
from piecework.config import Settings, current_settings, project_settings, read_settings
from piecework.errors import BadSettings

NAMES = ("URL", "MAX_PAYLOAD", "LEASE", "KEEP_COMPLETED", "APP")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder as the current one, and no settings in the environment."""
    for name in NAMES:
        monkeypatch.delenv(f"PIECEWORK_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_what_the_documentation_says() -> None:
    assert current_settings() == Settings("sqlite:///piecework.db", 1024 * 1024, 20.0, 7.0)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("url", "sqlite:///a.db", "sqlite:///a.db"),
        ("max_payload", "2048", 2048),
        ("lease", "7.5", 7.5),
        ("keep_completed", "0", 0.0),
    ],
)
def test_the_first_source_that_names_a_setting_wins(
    name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    argument = {"url": "sqlite:///b.db", "max_payload": 999, "lease": 3.0, "keep_completed": 1.0}[name]
    project = {"url": "sqlite:///c.db", "max_payload": 777, "lease": 4, "keep_completed": 2}
    assert getattr(read_settings({}, {}, project), name) == project[name]
    assert getattr(read_settings({}, {f"PIECEWORK_{name.upper()}": text}, project), name) == value
    assert getattr(read_settings({name: argument}, {f"PIECEWORK_{name.upper()}": text}, project), name) == argument
    monkeypatch.setenv(f"PIECEWORK_{name.upper()}", text)
    assert getattr(current_settings(), name) == value


def test_a_falsy_setting_is_a_setting() -> None:
    """0 days is not "use the default"."""
    assert read_settings({"keep_completed": 0}, {}, {"keep_completed": 3}).keep_completed == 0
    assert read_settings({}, {"PIECEWORK_KEEP_COMPLETED": "0"}, {}).keep_completed == 0


def test_completed_jobs_can_be_kept_for_ever() -> None:
    """The documentation of `Settings` promises it: some source must be able to say so."""
    assert Settings(keep_completed=None).keep_completed_seconds is None
    assert read_settings({}, {"PIECEWORK_KEEP_COMPLETED": "null"}, {}).keep_completed is None


def test_an_empty_variable_is_no_setting() -> None:
    assert read_settings({}, {"PIECEWORK_LEASE": ""}, {"lease": 9}).lease == 9


@pytest.mark.parametrize(
    ("given", "blamed"),
    [
        ({"url": 7}, "url"),
        ({"max_payload": "2048"}, None),
        ({"max_payload": 99}, "max_payload"),
        ({"max_payload": 2**30 + 1}, "max_payload"),
        ({"max_payload": 1.5}, "max_payload"),
        ({"max_payload": True}, "max_payload"),
        ({"lease": 0.5}, "lease"),
        ({"lease": 86401}, "lease"),
        ({"lease": float("nan")}, "lease"),
        ({"lease": "soon"}, "lease"),
        ({"keep_completed": -1}, "keep_completed"),
        ({"keep_completed": float("nan")}, "keep_completed"),
        ({"keep_completed": "week"}, "keep_completed"),
        ({"outbox": "sqlite:///data.db", "keep_completed": 0}, "less than an hour, .*added again and run twice"),
        ({"outbox": "sqlite:///data.db", "keep_completed": 0.04}, "keep completed jobs for 1/24 days or more"),
        ({"outbox": "sqlite:///data.db", "keep_completed": 1 / 24}, None),
        ({"outbox": "sqlite:///data.db", "keep_completed": None}, None),
        ({"outbox": None, "keep_completed": 0}, None),
    ],
)
def test_a_bad_setting_is_refused_and_named(given: dict[str, Any], blamed: str | None) -> None:
    if blamed is None:
        read_settings(given, {}, {})
        return
    with pytest.raises(BadSettings, match=blamed):
        read_settings(given, {}, {})


def test_all_mistakes_are_told_at_once_with_where_each_was_made() -> None:
    with pytest.raises(BadSettings) as refused:
        read_settings(
            {"lease": -3},
            {"PIECEWORK_MAX_PAYLOAD": "lots"},
            {"keep_completed": "week", "leese": 20, "urll": "x", "app": "a:b"},
        )
    said = str(refused.value)
    for word in (
        "lease",
        "PIECEWORK_MAX_PAYLOAD",
        "'lots'",
        "[tool.piecework] keep_completed",
        "'week'",
        "leese",
        "urll",
    ):
        assert word in said


def test_an_unknown_setting_of_the_project_is_refused() -> None:
    with pytest.raises(BadSettings, match="leese"):
        read_settings({}, {}, {"leese": 1})


def test_an_app_is_no_unknown_setting() -> None:
    assert read_settings({}, {}, {"app": "jobs:app"}) == Settings()


# ── the project's file ───────────────────────────────────────────────────────────────────────────


def test_the_project_is_read_from_the_nearest_pyproject(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "pyproject.toml").write_text('[tool.piecework]\nurl = "sqlite:///project.db"\nlease = 30\n')
    below = nowhere / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert current_settings().url == "sqlite:///project.db"
    assert current_settings(url="sqlite:///mine.db").lease == 30


def test_a_nearer_pyproject_hides_a_further_one(nowhere: Path) -> None:
    (nowhere / "pyproject.toml").write_text("[tool.piecework]\nlease = 30\n")
    below = nowhere / "a"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.other]\n")
    assert project_settings(below) == {}


def test_no_project_is_no_settings(nowhere: Path) -> None:
    assert project_settings(nowhere) == {}


@pytest.mark.parametrize("text", ["[tool.piecework\n", "lease = = 3", "\x00"])
def test_a_broken_pyproject_is_told_with_its_path(nowhere: Path, text: str) -> None:
    (nowhere / "pyproject.toml").write_text(text)
    with pytest.raises(BadSettings, match=r"pyproject\.toml"):
        current_settings()


@pytest.mark.parametrize("raw", [b"\xff\xfe"])
def test_a_pyproject_that_is_no_text_is_told_with_its_path(nowhere: Path, raw: bytes) -> None:
    (nowhere / "pyproject.toml").write_bytes(raw)
    with pytest.raises(BadSettings, match=r"pyproject\.toml"):
        current_settings()


def test_a_project_table_of_another_kind_is_told(nowhere: Path) -> None:
    (nowhere / "pyproject.toml").write_text("[tool]\npiecework = 7\n")
    with pytest.raises(BadSettings, match="piecework"):
        current_settings()


# ── the app ──────────────────────────────────────────────────────────────────────────────────────


def test_an_app_takes_its_settings_from_its_arguments() -> None:
    app = Piecework("sqlite:///a.db", max_payload=100, lease=2, keep_completed=0.5)
    assert app.settings == Settings("sqlite:///a.db", 100, 2.0, 0.5)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://x/y", "sqlite:///"),
        ("", "sqlite:///"),
        ("jobs.db", "sqlite:///"),
        ("sqlite:jobs.db", "sqlite:///"),
        ("sqlite://jobs.db", "sqlite:///"),
        ("sqlite:///", "names no file"),
        ("sqlite:///a.db?synchronous=off", "synchronous"),
        ("sqlite:///a.db?sync=full", "sync"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_the_right_form(url: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        Piecework(url or "x")


def test_credentials_of_a_url_are_never_told() -> None:
    with pytest.raises(BadSettings) as refused:
        Piecework("mysql://root:hunter2@db/x")
    assert "hunter2" not in str(refused.value)


def test_making_an_app_opens_nothing(nowhere: Path) -> None:
    app = Piecework("sqlite:///jobs.db")
    app.task(name="x")(lambda: None)
    repr(app)
    assert list(nowhere.iterdir()) == []
