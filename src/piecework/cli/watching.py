"""`piecework watch`: the command around the drawing in `watch.py`."""

from __future__ import annotations

import click

from piecework.cli.common import app_option, find_app, json_option, plain, print_json, store_option
from piecework.job import State


@click.command("watch")
@click.argument("id")
@app_option
@store_option
@json_option
def command(id: str, reference: str | None, url: str | None, as_json: bool) -> int:
    """Watch a job, and the batches below it, until it ends. Exits with 1 unless it completed."""
    from piecework.cli.watch import watch

    app = find_app(reference, url)
    if as_json:
        from rich.console import Console

        record = watch(app, id, console=Console(quiet=True))
        print_json(record)
    else:
        record = watch(app, id)
        said = (
            f": {record.error.type}: {record.error.message}"
            if record.error
            else f": {record.reason}"
            if record.reason
            else ""
        )
        click.echo(f"{record.id} {record.state}{plain(said, 500)}")
    return 0 if record.state is State.COMPLETED else 1
