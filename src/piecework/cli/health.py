"""`piecework health`."""

from __future__ import annotations

import click

from piecework.cli.common import app_option, find_app, json_option, plain, print_json, store_option
from piecework.health import MAX_AGE, look, sentence
from piecework.options import check_seconds


@click.command("health")
@click.option(
    "--max-age", default=MAX_AGE, show_default=True, type=float, help="Seconds after which a worker is called silent."
)
@click.option("-n", "--name", help="Only workers of this name.")
@app_option
@store_option
@json_option
def command(max_age: float, name: str | None, reference: str | None, url: str | None, as_json: bool) -> int:
    """Say which workers there are, and when each looked for work last.

    Exits with 0 while the store is there and at least one worker polled within --max-age, else with 1. A worker tells
    of itself about every five seconds, whatever its jobs do.
    """
    check_seconds(max_age, "--max-age")
    found = look(find_app(reference, url, may_be_new=True).store, max_age=max_age, name=name)
    if as_json:
        print_json(found)
    else:
        click.echo(plain(sentence(found, max_age=max_age), 10_000), err=not found.ok)
    return 0 if found.ok else 1
