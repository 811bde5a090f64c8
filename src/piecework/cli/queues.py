"""`piecework queues`: list, pause, unpause."""

from __future__ import annotations

import click

from piecework.cli.common import app_option, duration, find_app, json_option, plain, print_json, store_option
from piecework.job import State
from piecework.jobs import Queue


@click.group("queues", invoke_without_command=True)
@app_option
@store_option
@json_option
@click.pass_context
def command(context: click.Context, reference: str | None, url: str | None, as_json: bool) -> None:
    """List the queues: their jobs by state, for how long the oldest due one has been due, and which are paused."""
    context.obj = reference, url
    if context.invoked_subcommand is not None:
        return
    queues = find_app(reference, url).jobs.queues()
    if as_json:
        print_json(queues)
        return
    for queue in queues:
        click.echo(_line(queue))
    if not queues:
        click.echo("no queue has jobs, and none is paused")


def _line(queue: Queue) -> str:
    numbers = ", ".join(f"{n:,} {state}" for state in State if (n := queue.counts.get(state)))
    oldest = "" if queue.oldest_due is None else f"; oldest due for {duration(queue.oldest_due)}"
    paused = click.style("  (paused)", fg="yellow") if queue.paused else ""
    return f"{plain(queue.name, 40)}: {numbers or 'no jobs'}{oldest}{paused}"


@command.command("pause")
@click.argument("name")
@app_option
@store_option
@click.pass_obj
def pause(outer: tuple[str | None, str | None], name: str, reference: str | None, url: str | None) -> None:
    """Stop the fetching of a queue, in every worker; what runs goes on. Jobs may still be added."""
    find_app(reference or outer[0], url or outer[1]).jobs.pause(name)
    click.echo(f"{name} is paused")


@command.command("unpause")
@click.argument("name")
@app_option
@store_option
@click.pass_obj
def unpause(outer: tuple[str | None, str | None], name: str, reference: str | None, url: str | None) -> None:
    """Let a paused queue be fetched again."""
    find_app(reference or outer[0], url or outer[1]).jobs.unpause(name)
    click.echo(f"{name} is not paused")
