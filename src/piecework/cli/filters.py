"""Which jobs a command line means by what they are, whose they are, and when they came and ended."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from piecework.app import Piecework
from piecework.cli.common import UnreadableError, states
from piecework.jobs import Query

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_MOMENTS = {
    "since": "created_after",
    "until": "created_before",
    "ended_since": "finished_after",
    "ended_until": "finished_before",
}


class Moment(click.ParamType[Any]):
    """A moment, by the calendar and the clock of this machine; or how long ago."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        ago = _AGO.fullmatch(value.strip())
        try:
            if ago is not None:
                return timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
            return datetime.fromisoformat(value.strip()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r:.60} is no moment: say 90s, 15m, 2h, 3d or 1w (ago), or 2026-01-31T12:00", param, ctx)


def filters(function: Any) -> Any:
    """The options that say which jobs are meant."""
    for option in (
        click.option("--queue", help="Only this queue."),
        click.option("--task", help="Only this task."),
        click.option("--state", type=states, help="Only this state."),
        click.option("--batch", help="Only the pieces of this batch or split."),
        click.option("--identity", help="Only jobs of this identity: its text, or its JSON where it is none."),
        click.option("--tag", "tags", multiple=True, help="Only jobs with this tag. Repeatable: with all of them."),
        click.option(
            "--since", type=Moment(), metavar="WHEN", help="Only those that came since: 2h (ago), or a moment."
        ),
        click.option("--until", type=Moment(), metavar="WHEN", help="Only those that came before."),
        click.option("--ended-since", type=Moment(), metavar="WHEN", help="Only those that ended since."),
        click.option("--ended-until", type=Moment(), metavar="WHEN", help="Only those that ended before."),
    ):
        function = option(function)
    return function


NAMES = ("queue", "task", "state", "batch", "identity", "tags", *_MOMENTS)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The filters among a command's options: those that were given."""
    return {name: options[name] for name in NAMES if options.get(name) not in (None, ())}


def query_of(app: Piecework, asked_for: dict[str, Any]) -> Query:
    """The jobs that the given filters mean. What is said to be long ago is so by the store's time."""
    now = datetime.fromtimestamp(app.store.now(), UTC)
    asked: dict[str, Any] = {}
    for name, value in asked_for.items():
        try:
            moment = now - value if isinstance(value, timedelta) else value
        except OverflowError:
            raise UnreadableError(f"--{name.replace('_', '-')}: that is longer ago than there are years") from None
        asked[_MOMENTS.get(name, name)] = moment
    return app.jobs.where(**asked)
