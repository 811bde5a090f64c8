"""`piecework check`."""

from __future__ import annotations

import click

from piecework.app import Piecework
from piecework.cli.common import app_option, counted, find_app, json_option, print_json, store_option
from piecework.job import Finding


def _settings(app: Piecework) -> Finding:
    kept = (
        "for ever"
        if app.settings.keep_completed is None
        else f"{app.settings.keep_completed:g} day{'' if app.settings.keep_completed == 1 else 's'}"
    )
    return Finding(
        "ok",
        "settings",
        f"url {app.store.url}, {counted(len(app.registry), 'task')}, payloads up to {app.settings.max_payload:,} bytes, lease "
        f"{app.settings.lease:g} s, completed jobs kept {kept}",
    )


_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}


@click.command("check")
@app_option
@store_option
@json_option
def command(reference: str | None, url: str | None, as_json: bool) -> int:
    """Check the configuration and the store: its version, its settings, known weaknesses of its library.

    Exits with 1 when something is wrong; a warning is not.
    """
    app = find_app(reference, url, may_be_new=True)
    findings = [_settings(app), *app.store.examine()]
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mark, colour = _MARKS[finding.level]
            click.echo(f"{click.style(f'{mark:8}', fg=colour)}{finding.subject}: {finding.message}")
    return 1 if any(finding.level == "error" for finding in findings) else 0
