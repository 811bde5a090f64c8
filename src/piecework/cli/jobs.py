"""`piecework jobs`: list, show, failures, retry, cancel, resume, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import msgspec

from piecework.amending import step_of
from piecework.app import Piecework
from piecework.changed import Changed
from piecework.cli.alike import kinds_option, print_failures
from piecework.cli.common import (
    UnreadableError,
    app_option,
    block,
    counted,
    find_app,
    json_option,
    list_options,
    plain,
    print_json,
    store_option,
    style_of,
    when,
)
from piecework.cli.filters import NAMES, filters, given, query_of
from piecework.errors import UsageError
from piecework.failures import ErrorNode
from piecework.handle import Job
from piecework.job import AttemptRecord, BatchRecord, Record, State
from piecework.jobs import Query
from piecework.plan import Place, walks
from piecework.trail import place_of

FIRST_SHOWN, LAST_SHOWN = 2, 8  # runs of a job that ran often
MOST_TOLD = 10  # jobs that could not come back


@click.group("jobs")
def command() -> None:
    """List and show jobs, count their failures; retry, cancel, resume and delete them."""


# ── list ─────────────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@filters
@list_options("job")
def list_jobs(
    limit: int, after: str | None, oldest: bool, reference: str | None, url: str | None, as_json: bool, **options: Any
) -> None:
    """List jobs, newest first, and the number of jobs in each queue and state."""
    app = find_app(reference, url)
    if after is not None:
        app.jobs.get(after)  # an id that is gone would begin at the start again, and a paging loop never end
    query = query_of(app, given(options))
    records = [job.known for job in query.page(after=after, limit=limit, newest=not oldest)]
    if as_json:
        print_json([msgspec.structs.asdict(record) for record in records])
        return
    for record in records:
        click.echo(_line(record))
    if not records:
        click.echo("no jobs match")
    elif len(records) == limit:
        click.echo(f"… more: --after {records[-1].id}")
    _echo_counts(app.jobs.counts())


def _line(record: Record) -> str:
    said = record.error.message if record.error else record.reason or ""
    if walks(record) and record.state is not State.COMPLETED:
        said = f"{whereabouts(record)}{': ' if said else ''}{said}"
    return (
        f"{record.id}  {click.style(f'{record.state:10}', **style_of(record.state))} {plain(record.queue, 20):12} "
        f"{when(record.created_at)}  {plain(record.task, 60)}{('  ' + plain(said, 60)) if said else ''}"
    )


def whereabouts(record: Record) -> str:
    """The step where an operation is."""
    step = step_of(record)
    return "at no step" if step is None else f"at {step.name}"


def _echo_counts(counts: dict[tuple[str, str], int]) -> None:
    for queue in sorted({queue for queue, _ in counts}):
        numbers = ", ".join(f"{counts[queue, state]:,} {state}" for state in State if counts.get((queue, state)))
        if numbers:
            click.echo(f"{plain(queue, 40)}: {numbers}")


# ── show ─────────────────────────────────────────────────────────────────────────────────────────


@command.command("show")
@click.argument("id")
@app_option
@store_option
@json_option
def show(id: str, reference: str | None, url: str | None, as_json: bool) -> None:
    """Show one job: its state, arguments, attempts with tracebacks, pieces, and why it failed."""
    job = find_app(reference, url).jobs.get(id)
    record, attempts, batch, errors = job.record(), job.attempts(), job.batch, job.errors(limit=20)
    if as_json:
        print_json({"job": record, "attempts": attempts, "batch": batch, "errors": errors})
        return
    for name, value in _facts(record, job):
        click.echo(f"{name:12}{value}")
    if batch is not None:
        click.echo(f"{'pieces':12}{_pieces(batch)}")
    _echo_attempts(attempts)
    if errors is not None and errors.pieces:
        click.echo("\nfailed pieces:")
        _echo_tree(errors, 0)


def _facts(record: Record, job: Job[Any]) -> list[tuple[str, str]]:
    facts = [
        ("job", record.id),
        ("task", plain(record.task)),
        ("state", record.state.value + (" (asked to stop)" if record.stopping else "")),
        ("queue", f"{plain(record.queue)}, priority {record.priority}"),
        ("arguments", plain(record.args, 500)),
        ("created", when(record.created_at)),
        ("due", when(record.run_at)),
        ("started", when(record.started_at)),
        ("finished", when(record.finished_at)),
        (
            "attempts",
            f"{record.attempt} spent, fetched {record.run} times"
            + (f", {record.crashes} crashes" if record.crashes else ""),
        ),
    ]
    progress = job.progress
    optional = [
        ("worker", record.worker),
        ("key", record.key),
        ("identity", record.identity),
        ("tags", ", ".join(record.tags)),
        ("status", f"{record.status}, {when(record.status_at)}" if record.status else None),
        ("piece", f"{record.piece_key} of {record.batch}" if record.batch else None),
        ("operation", f"{whereabouts(record)}; piecework operations show tells its steps" if walks(record) else None),
        ("progress", f"{progress.done:g} of {'?' if progress.total is None else f'{progress.total:g}'} {progress.note}" if progress else None),
        ("expires", when(record.expires_at) if record.expires_at else None),
        ("stopped", f"{record.stopped_by}, {when(record.stopped_at)}" if record.stopped_by else None),
        ("reason", record.reason),
        ("result", record.result),
        ("error", f"{record.error.type}: {record.error.message}" if record.error else None),
    ]  # fmt: skip
    return facts + [(name, plain(value, 500)) for name, value in optional if value]


def _pieces(batch: BatchRecord) -> str:
    return (
        f"{batch.total:,}{'' if batch.sealed else ' so far'}: {batch.completed:,} completed, {batch.failed:,} failed, "
        f"{batch.cancelled:,} cancelled, {batch.open:,} open"
    )


def _echo_attempts(attempts: list[AttemptRecord]) -> None:
    """The first and the last runs; a hundred tracebacks would be read by nobody."""
    hidden = len(attempts) - FIRST_SHOWN - LAST_SHOWN
    for n, attempt in enumerate(attempts):
        if hidden <= 0 or n < FIRST_SHOWN or n >= FIRST_SHOWN + hidden:
            _echo_attempt(attempt)
        elif n == FIRST_SHOWN:
            click.echo(f"\n… {hidden} more run{'' if hidden == 1 else 's'}; --json shows what is kept of them")


def _echo_attempt(attempt: AttemptRecord) -> None:
    said = f": {plain(attempt.error.type)}: {plain(attempt.error.message, 500)}" if attempt.error else ""
    why = f" ({plain(attempt.reason)})" if attempt.reason else ""
    step = place_of(attempt.cursor) if attempt.cursor and "/" in attempt.cursor else None
    at = f" of {plain(step.name)}" if isinstance(step, Place) else ""
    click.echo(
        f"\nrun {attempt.run}{at}, {when(attempt.started_at)} to {when(attempt.finished_at)}: {attempt.outcome}{said}{why}"
    )
    if attempt.error and attempt.error.traceback:
        click.echo(block(attempt.error.traceback.rstrip()))


def _echo_tree(node: ErrorNode, depth: int) -> None:
    said = f"{plain(node.error.type)}: {plain(node.error.message)}" if node.error else plain(node.reason or node.state)
    if depth:
        click.echo(f"{'  ' * depth}{plain(node.key or '')}  {node.id}  {said}")
    for piece in node.pieces:
        _echo_tree(piece, depth + 1)


@command.command("failures")
@filters
@kinds_option
@app_option
@store_option
@json_option
def failures(kinds: int, reference: str | None, url: str | None, as_json: bool, **options: Any) -> None:
    """Count failures by what they say, the most frequent first.

    Failures of one task, with one class and one message but for its numbers and ids, are one kind. They are those of jobs
    that failed or are parked; with --state available, of those that will be tried again.
    """
    found = query_of(find_app(reference, url), given(options)).failures()
    if as_json:
        print_json(found)
        return
    print_failures(found, kinds)
    if not found:
        click.echo("no failures match")


# ── retry, cancel, resume and delete ─────────────────────────────────────────────────────────────


class Choice(NamedTuple):
    """Which jobs a verb is meant for: some by their ids, or all that match."""

    jobs: list[Job[Any]]
    query: Query | None

    def each(self, one: Callable[[Job[Any]], int], many: Callable[[Query], int]) -> int:
        """How many the verb touched."""
        if self.query is None:
            return sum(one(job) for job in self.jobs)
        done = many(self.query)
        if isinstance(done, Changed):
            _tell_left(done)
        return int(done)


def _tell_left(done: Changed) -> None:
    for id, why in done.refused[:MOST_TOLD]:
        click.echo(f"piecework: job {id} stays as it is: {plain(why, 500)}", err=True)
    if more := done.left - min(len(done.refused), MOST_TOLD):
        click.echo(f"piecework: and {counted(more, 'more job')}", err=True)


def _verb(name: str, everything: str) -> Callable[[Callable[..., int]], click.Command]:
    """A command on jobs, by id or by filter: the function gets the choice, whether to print JSON, and its own options."""

    def declare(function: Callable[..., int]) -> click.Command:
        def run(ids: tuple[str, ...], reference: str | None, url: str | None, as_json: bool, **options: Any) -> int:
            chosen = _choose(find_app(reference, url), ids, given(options), options.pop("everything"))
            return function(chosen, as_json, **{name: own for name, own in options.items() if name not in NAMES})

        run.__doc__ = function.__doc__
        for decorate in (
            json_option,
            store_option,
            app_option,
            *getattr(function, "own_options", ()),
            click.option("--all", "everything", is_flag=True, help=everything),
            filters,
            click.argument("ids", nargs=-1),
        ):
            run = decorate(run)
        return command.command(name)(run)

    return declare


def _choose(app: Piecework, ids: tuple[str, ...], filtered: dict[str, Any], everything: bool) -> Choice:
    if ids and (everything or filtered):
        raise UnreadableError("name jobs by their ids or by a filter, not both")
    if ids:
        return Choice([app.jobs.get(id) for id in dict.fromkeys(ids)], None)
    if not everything and not filtered:
        raise UnreadableError(
            "say which jobs: their ids; --queue, --task, --state, --batch, --identity, --tag, or times; or --all"
        )
    return Choice([], query_of(app, filtered))


def _own(*options: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Options of one verb only."""

    def note(function: Any) -> Any:
        function.own_options = options
        return function

    return note


_by = click.option("--by", metavar="WHO", help="Who asks, kept with operations; default: this user and host.")
_why = click.option("--reason", default="", help="Kept with operations.")


@_verb("retry", "Every job that failed, was cancelled or is parked.")
@_own(_by, _why)
def retry(chosen: Choice, as_json: bool, reason: str, by: str | None) -> int:
    """Make failed, cancelled or parked jobs available again: by id, or by filter. Completed pieces are not run again."""
    done = chosen.each(lambda job: _retry(job, reason, by), lambda query: query.retry(reason, by=by))
    return _told("retried", done, len(chosen.jobs), as_json)


def _retry(job: Job[Any], reason: str, by: str | None) -> bool:
    """One that cannot come back is told, and does not keep the others."""
    try:
        return job.retry(reason, by=by)
    except UsageError as error:
        click.echo(f"piecework: {plain(error, 500)}", err=True)
        return False


@_verb("cancel", "Every job that has not ended.")
@_own(
    click.option("--by", metavar="WHO", help="Who asks, kept with the jobs; default: this user and host."),
    click.option("--reason", default="cancelled from the command line", show_default=True, help="Kept with the jobs."),
)
def cancel(chosen: Choice, as_json: bool, reason: str, by: str | None) -> int:
    """Cancel jobs that have not ended, with everything below them: by id, or by filter. Running ones are asked to stop."""
    done = chosen.each(lambda job: job.cancel(reason, by=by), lambda query: query.cancel(reason, by=by))
    return _told("cancelled", done, len(chosen.jobs), as_json)


@_verb("resume", "Every job that was cancelled.")
@_own(_by, _why)
def resume(chosen: Choice, as_json: bool, reason: str, by: str | None) -> int:
    """Let cancelled jobs go on, and below them what was still open: by id, or by filter. What had failed stays failed."""
    done = chosen.each(lambda job: job.resume(reason, by=by), lambda query: query.resume(reason, by=by))
    return _told("resumed", done, len(chosen.jobs), as_json)


@_verb("delete", "Every job that ended or is parked.")
def delete(chosen: Choice, as_json: bool) -> int:
    """Delete jobs that ended or are parked, with everything below them: by id, or by filter. They cannot be brought back.

    Jobs that wait or run are kept; so are the pieces of a tree whose root has not completed: they go with their root.
    """
    if chosen.query is not None:
        return _told("deleted", chosen.query.delete(), 0, as_json)
    gone = [job.delete() for job in chosen.jobs]
    _told("deleted", sum(gone), 0, as_json)
    return 0 if all(gone) else 1


def _told(verb: str, done: int, asked: int, as_json: bool) -> int:
    if as_json:
        print_json({verb: done})
    else:
        click.echo(f"{verb} {counted(done, 'job')}")
    return 1 if asked and done < asked else 0
