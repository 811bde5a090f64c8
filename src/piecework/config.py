"""Settings: what an app, its environment and its project say, checked together; every mistake in one error."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from piecework.codec import MAX_PAYLOAD
from piecework.errors import BadSettings

DEFAULT_URL = "sqlite:///piecework.db"
DAY = 86400.0
OUTBOX_KEEPS = 3600.0  # seconds: whoever carries must find what a carrier before it added and could not note


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an app behaves. From the app's arguments, else ``PIECEWORK_…``, else ``[tool.piecework]`` in pyproject.toml.

    `url` names the store. `max_payload` bounds arguments and results, in bytes. `lease` is how many seconds a silent
    worker machine keeps its jobs. `keep_completed` is how many days completed and cancelled jobs are kept (None, or
    "forever" as text); failed ones are kept until somebody decides. `outbox` names another store, whose database may
    have callers' transactions where the store's own has none.
    """

    url: str = DEFAULT_URL
    max_payload: int = MAX_PAYLOAD
    lease: float = 20.0
    keep_completed: float | None = 7.0
    outbox: str | None = None

    @property
    def keep_completed_seconds(self) -> float | None:
        return None if self.keep_completed is None else self.keep_completed * DAY


def read_settings(given: Mapping[str, Any], environ: Mapping[str, str], project: Mapping[str, Any]) -> Settings:
    """The settings from three sources, the first that names one winning. Raises `BadSettings` with every mistake."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        found = _first(name, given, environ, project)
        if found is not None:
            value, origin = found
            values[name] = _convert(name, value, origin, problems)
    unknown = sorted(set(project) - set(Settings.__struct_fields__) - {"app"})
    if unknown:
        problems.append(f"[tool.piecework] has settings that do not exist: {', '.join(unknown)}")
    problems += _impossible(values)
    if problems:
        raise BadSettings("; ".join(problems))
    return Settings(**values)


def _first(
    name: str, given: Mapping[str, Any], environ: Mapping[str, str], project: Mapping[str, Any]
) -> tuple[Any, str] | None:
    if given.get(name, UNSET) is not UNSET:
        return given[name], f"{name}="
    variable = f"PIECEWORK_{name.upper()}"
    if environ.get(variable):
        return environ[variable], variable
    if name in project:
        return project[name], f"[tool.piecework] {name}"
    return None


def _convert(name: str, value: Any, origin: str, problems: list[str]) -> Any:
    kind = {"url": str, "max_payload": int, "lease": float, "keep_completed": float | None, "outbox": str | None}[name]
    if name == "keep_completed" and (value is None or value in ("forever", "none")):
        return None
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        problems.append(f"{origin}: {error} ({value!r})")
        return None


def _impossible(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if values.get("max_payload") is not None and not 100 <= values["max_payload"] <= 1 << 30:
        problems.append("max_payload must be between 100 bytes and 1 GiB")
    if values.get("lease") is not None and not 1 <= values["lease"] <= 86400:
        problems.append("lease must be between 1 and 86,400 seconds")
    if values.get("keep_completed") is not None and not 0 <= values["keep_completed"] <= 36_600:
        problems.append("keep_completed must be between 0 and 36,600 days; None (as text: forever) keeps for ever")
    kept = values.get("keep_completed")
    if values.get("outbox") is not None and kept is not None and kept * DAY < OUTBOX_KEEPS:
        problems.append(
            f"keep_completed={kept:g} is less than an hour, which is too short beside outbox=: a job whose carrier died "
            "just after adding it would be pruned, added again and run twice; keep completed jobs for 1/24 days or more, "
            "or leave outbox= out"
        )
    return problems


def project_settings(start: Path | None = None) -> dict[str, Any]:
    """``[tool.piecework]`` of the nearest pyproject.toml at or above a folder; empty where there is none."""
    folder = (start or Path.cwd()).resolve()
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            try:
                found = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("piecework", {})
            except (ValueError, OSError, AttributeError) as error:
                raise BadSettings(f"{file} cannot be read: {error}") from error
            if not isinstance(found, dict):
                raise BadSettings(f"{file}: [tool.piecework] must be a table of settings, not {found!r}")
            return found
    return {}


def current_settings(**given: Any) -> Settings:
    """The settings of this process: arguments, environment, project."""
    return read_settings(given, os.environ, project_settings())
