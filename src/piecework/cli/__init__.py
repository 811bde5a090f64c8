"""The command line. Commands are imported when they are called, so that `--help` answers at once."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from piecework import __version__

COMMANDS = {
    "work": ("piecework.cli.work", "Run jobs."),
    "jobs": ("piecework.cli.jobs", "List and show jobs, count failures; retry, cancel, resume and delete."),
    "operations": ("piecework.cli.operations", "List, show and count operations; retry, skip, jump, fork, signal."),
    "distributed": ("piecework.cli.distributed", "List and show distributed jobs; stop, resume and forget them."),
    "queues": ("piecework.cli.queues", "List queues, pause and unpause them."),
    "watch": ("piecework.cli.watching", "Watch a job and its pieces until it ends."),
    "health": ("piecework.cli.health", "Say which workers live, and when they polled."),
    "check": ("piecework.cli.check", "Check the configuration and the store."),
    "torture": ("piecework.cli.torture", "Show that a store keeps its promises while workers are killed."),
    "migrate": ("piecework.cli.migrate", "Bring the store's schema to this version."),
}


class _Lazy(click.Group):
    """Commands by name, each in a module of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version=__version__, message="piecework %(version)s")
def cli() -> None:
    """Background jobs in pieces, in the database you already have."""


def main(args: list[str] | None = None) -> Any:
    """The entry point: errors of piecework are told in a sentence, not as a traceback.

    They exit with 1; with 2 where the command line cannot be read.
    """
    try:
        return cli.main(args=args, standalone_mode=False) or 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        click.echo("aborted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        from piecework.errors import PieceworkError

        if not isinstance(error, PieceworkError):
            raise
        click.echo(f"piecework: {error}", err=True)
        return getattr(error, "exit_code", 1)


def run() -> None:
    """The console script."""
    sys.exit(main())
