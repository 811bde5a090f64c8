"""`piecework check`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import click

from piecework.app import Piecework
from piecework.appref import app_reference
from piecework.cli.common import app_option, counted, find_app, json_option, plain, print_json, store_option
from piecework.cli.outbox import outbox_findings
from piecework.cli.release import operations_findings
from piecework.job import Finding
from piecework.store import Store


def _settings(app: Piecework, store: Store) -> Finding:
    kept = (
        "for ever"
        if app.settings.keep_completed is None
        else f"{app.settings.keep_completed:g} day{'' if app.settings.keep_completed == 1 else 's'}"
    )
    return Finding(
        "ok",
        "settings",
        f"url {store.url}, {counted(len(app.registry), 'task')}, payloads up to {app.settings.max_payload:,} bytes, lease "
        f"{app.settings.lease:g} s, completed jobs kept {kept}",
    )


_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}


@click.command("check")
@click.argument("release", metavar="[MODULE:APP]", required=False)
@app_option
@store_option
@json_option
def command(release: str | None, reference: str | None, url: str | None, as_json: bool) -> int:
    """Check the configuration, the store, and what this code would do to the operations that are under way.

    With MODULE:APP and --store together, that app's code is checked against that store: run it with a new release
    before it takes over. Exits with 1 when something is wrong; a warning is not.
    """
    if release is not None and reference is not None:
        raise click.UsageError("name the app once: as MODULE:APP or with --app")
    if release is not None and not set(release) & {":", "."}:
        raise click.UsageError(f"{release!r} names no app; write module:attribute, such as myproject.jobs:app")
    named = release or reference
    app = find_app(named, None if named else url, may_be_new=True)
    store = app.store if url is None or named is None else Piecework(url, outbox=None).store
    about_store = store.examine()
    readable = not any(finding.level == "error" for finding in about_store) and store.is_set_up()
    has_code = named is not None or (url is None and app_reference(None) is not None)
    about_operations = operations_findings(app.registry, store) if readable and has_code else ()
    about_outbox = outbox_findings(app.outbox, about_store) if app.outbox is not None else ()
    findings = chain([_settings(app, store)], about_store, about_outbox, about_operations)
    return _print_json(findings) if as_json else _print(findings)


def _print_json(findings: Iterable[Finding]) -> int:
    found = list(findings)
    print_json(found)
    return 1 if any(finding.level == "error" for finding in found) else 0


def _print(findings: Iterable[Finding]) -> int:
    wrong = 0
    for finding in findings:
        mark, colour = _MARKS[finding.level]
        wrong += finding.level == "error"
        click.echo(f"{click.style(f'{mark:8}', fg=colour)}{plain(finding.subject)}: {plain(finding.message, 2_000)}")
    return 1 if wrong else 0
