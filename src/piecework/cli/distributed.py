"""`piecework distributed`: list and show distributed jobs; stop, resume and forget them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from piecework import parting
from piecework.byhand import whoami
from piecework.cli.common import (
    app_option,
    counted,
    duration,
    find_app,
    json_option,
    plain,
    print_json,
    short,
    store_option,
    when,
)
from piecework.distributed import DistributedJob
from piecework.parts import DistributedRecord, DistributedState, PartRecord, PartState, Resumed

COLOURS = {DistributedState.FINISHED: "green", DistributedState.FAILED: "red", DistributedState.STOPPED: "yellow"}
PARTS_SHOWN = 10


@click.group("distributed")
def command() -> None:
    """List and show distributed jobs; stop, resume and forget them.

    They are named by their tokens.
    """


@command.command("list")
@click.option(
    "--state", type=click.Choice([str(state) for state in DistributedState]), help="Only those in this state."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--oldest", is_flag=True, help="Oldest first.")
@app_option
@store_option
@json_option
def list_jobs(
    state: str | None, limit: int, oldest: bool, reference: str | None, url: str | None, as_json: bool
) -> None:
    """List distributed jobs, newest first: where each stands, how far it is, and how long the rest will take."""
    app = find_app(reference, url)
    found = list(islice(app.distributed_jobs(state, newest=not oldest), limit + 1))
    now = app.store.parts.now()
    if as_json:
        print_json([_row(record, now) for record in found[:limit]])
        return
    for record in found[:limit]:
        click.echo(_line(record, now))
    if not found:
        click.echo("no distributed jobs match")
    elif len(found) > limit:
        click.echo(f"… more: --limit {2 * limit}")


def _row(record: DistributedRecord, now: float) -> dict[str, Any]:
    progress = msgspec.to_builtins(parting.progress(record, now))
    row = {**msgspec.to_builtins(record), "state": str(record.state), "progress": progress}
    del row["calls"]  # of use to the store alone
    return row


def _line(record: DistributedRecord, now: float) -> str:
    state = click.style(f"{record.state:8}", fg=COLOURS.get(record.state))
    return f"{short(record.token, 40):36}  {state}  {_numbers(record, now)}{_why(record)}"


def _numbers(record: DistributedRecord, now: float) -> str:
    """Such as: 1,250 of 4,000 parts done, 3 failed; the rest in about 12 min."""
    progress = parting.progress(record, now)
    of = f" of {progress.total:,}" if progress.total is not None else ""
    some = progress.done if progress.total is None else progress.total
    said = f"{progress.done:,}{of} {'part' if some == 1 else 'parts'} done"
    said += f", {progress.failed:,} failed" if progress.failed else ""
    said += f", {progress.open:,} open" if progress.total is None else ""
    return said + (f"; the rest in about {duration(progress.eta)}" if progress.eta else "")


def _why(record: DistributedRecord) -> str:
    if record.stopped_at is not None:
        return f"; stopped: {short(record.reason or 'nobody said why', 60)}"
    return f"; its producer broke off: {short(record.push_error.message, 60)}" if record.push_error else ""


@command.command("show")
@click.argument("token")
@click.option(
    "--parts", "which", type=click.Choice([str(state) for state in PartState]), help="All parts in this state."
)
@app_option
@store_option
@json_option
def show(token: str, which: str | None, reference: str | None, url: str | None, as_json: bool) -> None:
    """Show one: its numbers, who stopped it and why, what follows, and the parts that failed or are open."""
    app = find_app(reference, url)
    job = app.distributed_job(token)
    record, now = job.record(), app.store.parts.now()
    if as_json:
        parts = [msgspec.to_builtins(part) for part in job.parts(which)] if which is not None else None
        print_json({**_row(record, now), **({} if parts is None else {"parts": parts})})
        return
    click.echo(f"distributed job {plain(token)}")
    for what, said in _facts(record, now):
        click.echo(f"  {what:10} {said}")
    for state in (PartState.FAILED, PartState.OPEN) if which is None else (PartState(which),):
        _print_parts(job, state, whole=which is not None)


def _facts(record: DistributedRecord, now: float) -> Iterator[tuple[str, str]]:
    progress = parting.progress(record, now)
    yield "state", click.style(record.state, fg=COLOURS.get(record.state))
    yield "parts", _numbers(record, now)
    if progress.per_second:
        yield "speed", f"{progress.per_second:,.3g} a second"
    yield "began", when(record.created_at)
    yield "changed", when(record.changed_at)
    if record.ended_at is not None:
        yield "ended", f"{when(record.ended_at)}; kept until {when(record.expires_at)}"
    if record.stopped_at is not None:
        who = f" by {plain(record.stopped_by)}" if record.stopped_by else ""
        yield "stopped", f"{when(record.stopped_at)}{who}: {plain(record.reason or 'nobody said why', 2000)}"
    if record.push_error is not None:
        yield "producer", f"broke off: {plain(f'{record.push_error.type}: {record.push_error.message}', 2000)}"
    elif not record.complete:
        yield "producer", "has not handed over all parts"
    for follow_up, at, name in (
        (record.then, record.then_at, "then"),
        (record.otherwise, record.otherwise_at, "otherwise"),
    ):
        if follow_up is not None:
            stored = "not yet" if at is None else f"stored {when(at)} as job {follow_up.id}"
            yield name, f"{plain(follow_up.task)}: {stored}"


def _print_parts(job: DistributedJob, state: PartState, *, whole: bool) -> None:
    parts = job.parts(state)
    for part in parts if whole else islice(parts, PARTS_SHOWN):
        click.echo(f"  {state:10} {_part(part)}")
    if not whole and next(parts, None) is not None:
        click.echo(f"  … more: --parts {state}")


def _part(part: PartRecord) -> str:
    said = plain(part.part, 500)
    if part.error is not None:
        kind = f"{part.error.type}: " if part.error.type else ""
        said += f"  {short(kind + part.error.message, 100)}"
    return said if part.result is None else f"{said}  {short(part.result, 100)}"


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────


@command.command("stop")
@click.argument("tokens", nargs=-1, required=True)
@click.option("--reason", default="stopped from the command line", show_default=True, help="Kept with the job.")
@app_option
@store_option
def stop(tokens: tuple[str, ...], reason: str, reference: str | None, url: str | None) -> None:
    """Ask all workers to begin no further part of these jobs."""
    _each(
        tokens, reference, url, lambda job: job.stop(reason, by=whoami()), "stopped", "has ended, or was stopped before"
    )


@command.command("resume")
@click.argument("tokens", nargs=-1, required=True)
@app_option
@store_option
def resume(tokens: tuple[str, ...], reference: str | None, url: str | None) -> None:
    """Let stopped or failed jobs go on. Parts that failed are open again; hand over the open ones again."""
    _each(tokens, reference, url, lambda job: job.resume(), "resumed", "was neither stopped nor has failed")


@command.command("forget")
@click.argument("tokens", nargs=-1, required=True)
@app_option
@store_option
def forget(tokens: tuple[str, ...], reference: str | None, url: str | None) -> None:
    """Delete jobs with all their parts, whatever their state. What follows is not stored any more."""
    _each(tokens, reference, url, lambda job: job.forget(), "forgotten", "is not there")


def _each(
    tokens: tuple[str, ...],
    reference: str | None,
    url: str | None,
    act: Callable[[DistributedJob], bool | Resumed],
    did: str,
    else_: str,
) -> None:
    app = find_app(reference, url)
    for job in [app.distributed_job(token) for token in tokens]:  # what is no token is told before anything is done
        answer = act(job)
        more = _goes_on(job, answer) if answer and isinstance(answer, Resumed) else ""
        click.echo(f"{plain(job.token)}: {did}{more}" if answer else f"{plain(job.token)} {else_}")


def _goes_on(job: DistributedJob, answer: Resumed) -> str:
    return "; nothing was left to do: finished" if answer.finished else f"; {counted(job.count, 'part')} open"
