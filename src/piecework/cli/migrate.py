"""`piecework migrate`."""

from __future__ import annotations

import click

from piecework.cli.common import app_option, find_app, store_option


@click.command("migrate")
@app_option
@store_option
def command(reference: str | None, url: str | None) -> None:
    """Bring the store's schema to this version of piecework. Forward only; safe to run twice, or on two machines at once."""
    app = find_app(reference, url, may_be_new=True)
    for store in app.stores():
        applied = store.migrate()
        for name in applied:
            click.echo(f"applied {name}")
        if not applied:
            click.echo(f"{store.url}: nothing to do")
