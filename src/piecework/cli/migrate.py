"""`piecework migrate`."""

from __future__ import annotations

import click

from piecework.cli.common import app_option, find_app, store_option
from piecework.errors import UsageError
from piecework.store import Scripted, Store


@click.command("migrate")
@app_option
@store_option
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL that would be run, and run nothing.")
@click.option(
    "--since",
    metavar="N",
    type=click.IntRange(0),
    help="With --sql: from schema N on, without looking at the store; 0 sets up a new one.",
)
def command(reference: str | None, url: str | None, as_sql: bool, since: int | None) -> None:
    """Bring the store's schema to this version of piecework. Forward only; safe to run twice, or on two machines at once.

    What --sql prints is one transaction, for psql or sqlite3, run by somebody who may change tables.
    """
    if since is not None and not as_sql:
        raise click.UsageError("--since says where the SQL begins; it goes with --sql")
    app = find_app(reference, url, may_be_new=True)
    if as_sql:
        click.echo(_scripted(app.store).script(since), nl=False)
        return
    for store in app.stores():
        applied = store.migrate()
        for name in applied:
            click.echo(f"applied {name}")
        if not applied:
            click.echo(f"{store.url}: nothing to do")


def _scripted(store: Store) -> Scripted:
    if not isinstance(store, Scripted):
        raise UsageError(f"{store.url} is not set up by SQL: piecework migrate does it")
    return store
