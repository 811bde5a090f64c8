"""What the commands share: which store or app is meant, how data is printed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from piecework.app import Piecework
from piecework.appref import app_reference, load_app
from piecework.errors import UsageError
from piecework.errortext import clean
from piecework.job import State

F = TypeVar("F", bound=Callable[..., Any])

app_option = click.option("-a", "--app", "reference", metavar="MODULE:APP", help="The app; default: $PIECEWORK_APP.")
store_option = click.option("--store", "url", metavar="URL", help="The store, without an app; default: $PIECEWORK_URL.")
states = click.Choice([state.value for state in State])
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def list_options(what: str) -> Callable[[F], F]:
    """The options of a list: how many, behind which, in which order; of which app or store; in which form."""

    def given(function: F) -> F:
        for option in (
            json_option,
            store_option,
            app_option,
            click.option("--oldest", is_flag=True, help="Oldest first."),
            click.option("--after", metavar="ID", help=f"Begin behind this {what}."),
            click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many."),
        ):
            function = option(function)
        return function

    return given


class UnreadableError(UsageError):
    """Words of a command line that cannot be read: as with click's own, the exit code is 2."""

    exit_code = 2


def find_app(reference: str | None, url: str | None, *, may_be_new: bool = False) -> Piecework:
    """The app that a command means: a store by its URL, else an app by its reference, else the settings' own store.

    A store that is named by its URL is meant alone: it may be the very outbox that the settings name.
    Raises `UsageError` where nothing is set up there, so that a mistyped path is not answered with an empty list, and
    leaves no empty file behind.
    """
    found = app_reference(reference) if url is None else None
    if found is not None:
        app = load_app(found)
    else:
        app = Piecework() if url is None else Piecework(url, outbox=None)
    if not may_be_new and not app.store.is_set_up():
        raise UsageError(
            f"no store at {app.store.url}; is the path right? (a worker, the first job or piecework migrate sets it up)"
        )
    return app


def print_json(value: Any) -> None:
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def plain(text: Any, limit: int = 200) -> str:
    """Text from a job, safe for a terminal: without control characters, which could repaint it, and on one line."""
    said = clean(str(text), limit).replace("\n", " ")
    return "".join(c if c.isprintable() else "·" for c in said)


def short(text: Any, limit: int) -> str:
    """The beginning of a text from a job, safe for a terminal and on one line."""
    said = plain(text, 10_000)
    return said if len(said) <= limit else f"{said[: limit - 1]}…"


def block(text: str) -> str:
    """Text of several lines, safe for a terminal."""
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "·" for c in line) for line in text.split("\n"))


def counted(n: int, noun: str) -> str:
    """A number of things: 1 job, 2,000 jobs."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def style_of(state: State) -> dict[str, Any]:
    """How a state is drawn."""
    colours = {State.FAILED: "red", State.COMPLETED: "green", State.RUNNING: "cyan", State.PARKED: "yellow"}
    return {"fg": colours.get(state)}


def terminal_width(default: int) -> int:
    """Columns of the terminal that is printed to; `default` where the output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else default


def fitted(text: str, used: int, least: int = 20) -> str:
    """The end of a line, cut to what a terminal has left of it; whole where the output is no terminal."""
    room = max(least, terminal_width(default=used + len(text)) - used)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def duration(seconds: float) -> str:
    """Two figures at most: 0.4 s, 12 s, 3 min, 5 h, 2 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def when(seconds: float | None) -> str:
    """A moment in local time."""
    if seconds is None:
        return "–"
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Progress:
    """A line on a terminal for those who wait long: how many were done."""

    AFTER, EVERY = 3.0, 1.0  # seconds

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + self.AFTER
        self._told = False

    def tell(self, n: int) -> None:
        """Notes how many there are by now."""
        if time.monotonic() >= self._next and sys.stderr.isatty():
            self._told, self._next = True, time.monotonic() + self.EVERY
            click.echo(f"\r{n:,} {self._what}", nl=False, err=True)

    def end(self) -> None:
        """Takes the line away."""
        if self._told:
            click.echo("\r\x1b[K", nl=False, err=True)


def set_up_logging(level: str) -> None:
    """Log lines go to stderr, by a stream of their own: a job may close `sys.stderr`, or put something else in its place."""
    stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=stream)
