"""`piecework operations`: list, show and count them; retry, resume, cancel, skip, jump, set, unset, fork and signal."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from piecework.amending import status_of
from piecework.byhand import RETRIABLE, UNFINISHED
from piecework.cli.alike import kinds_option, print_counts, print_failures
from piecework.cli.chosen import Act, Said, Verb, assigned, filters, query_of, verb
from piecework.cli.common import (
    UnreadableError,
    app_option,
    find_app,
    fitted,
    json_option,
    list_options,
    plain,
    print_json,
    short,
    store_option,
    style_of,
    terminal_width,
)
from piecework.cli.operationshow import print_operation, since
from piecework.errors import UnknownTask, UsageError
from piecework.job import OperationRecord, Record, State
from piecework.operations import Operation

GLOBALS_SHOWN = 4
WIDE = 120  # columns of a terminal that has room for a line of an operation
MOVABLE = State.WAITING, State.AVAILABLE, *RETRIABLE

no_resume = click.option("--no-resume", is_flag=True, help="Leave it failed, cancelled or parked there.")


@click.group("operations")
def command() -> None:
    """List, show and count operations; retry, resume, cancel, skip, jump, set, unset, fork and signal them.

    Operations are named by their ids, or by a filter. By filter, a verb says how many it is about and asks first; --yes
    is the answer to that. An id may stand before or behind the other words of a verb.
    """


@command.command("list")
@filters
@list_options("operation")
def list_operations(
    limit: int, after: str | None, oldest: bool, reference: str | None, url: str | None, as_json: bool, **said: Any
) -> None:
    """List operations, newest first.

    It tells where each is, for how long, and some of its globals.
    """
    app = find_app(reference, url)
    if after is not None:
        app.operations.get(after)  # an id that is gone would begin at the start again, and a paging loop never end
    found = [operation.known for operation in query_of(app, said).page(after=after, limit=limit, newest=not oldest)]
    kept = {one.id: one for one in app.store.operations([record.id for record in found])}
    there = [(record, kept[record.id]) for record in found if record.id in kept]
    now = app.store.now()
    if as_json:
        print_json([_row(record, one, now) for record, one in there])
        return
    for record, one in there:
        click.echo(_line(record, one, now))
    if not there:
        click.echo("no operations match")
    elif len(found) == limit:
        click.echo(f"… more: --after {found[-1].id}")


def _row(record: Record, kept: OperationRecord, now: float) -> dict[str, Any]:
    status = status_of(record, kept, now)
    return {**msgspec.structs.asdict(record), "status": status, "globals": msgspec.json.decode(kept.globals)}


def _line(record: Record, kept: OperationRecord, now: float) -> str:
    """A line of an operation; on a narrow terminal two, since an id takes half of one."""
    status, age = short(status_of(record, kept, now), 60), f"{since(record, now):>7}"
    name, globals, style = short(record.task, 30), _some(kept.globals), style_of(record.state)
    if terminal_width(default=WIDE) < WIDE:
        first = f"{record.id}  {age}  "
        return first + click.style(fitted(status, len(first)), **style) + "\n" + fitted(f"    {name}  {globals}", 0)
    head = f"{record.id}  {name:14} "
    return f"{head}{click.style(f'{status:30}', **style)} {fitted(f'{age}  {globals}', len(head) + max(30, len(status)) + 1)}"


def _some(globals: str) -> str:
    """The first few globals."""
    parts = list(msgspec.json.decode(globals, type=dict[str, msgspec.Raw]).items())
    said = ", ".join(f"{short(key, 20)}={short(bytes(raw).decode(), 30)}" for key, raw in parts[:GLOBALS_SHOWN])
    more = len(parts) - GLOBALS_SHOWN
    return said if more <= 0 else f"{said}, {more} more"


@command.command("show")
@click.argument("id")
@app_option
@store_option
@json_option
def show(id: str, reference: str | None, url: str | None, as_json: bool) -> None:
    """Show one operation.

    It tells where that stands, its globals, its steps and their attempts, what was done to it, and why it failed.
    """
    print_operation(find_app(reference, url), id, as_json)


@command.command("summary")
@filters
@kinds_option
@app_option
@store_option
@json_option
def summary(kinds: int, reference: str | None, url: str | None, as_json: bool, **said: Any) -> None:
    """Count operations by where they stand, and failures.

    Of each place where some stand that have not completed: how many, and for how long the first and the last have. Then
    what went wrong: failures with one class, one message but for its numbers and ids, at one step, are one kind; the most
    frequent first.
    """
    app = find_app(reference, url)
    query = query_of(app, said)
    counts, failures = query.counts(), query.failures()
    if as_json:
        print_json({"counts": counts, "failures": failures})
        return
    print_counts(counts, app.store.now())
    if not counts:
        click.echo("no operations match, but for what has completed")
    if failures:
        click.echo("\nfailures")
        print_failures(failures, kinds)


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────


@verb(command, Verb("retry", "retried", RETRIABLE))
def retry(said: Said) -> Act:
    """Let those that ended badly go on at their step.

    They failed, were cancelled or are parked. Attempts begin anew; what has completed is not run again.
    """
    return Act(
        lambda operation: operation.retry(said.reason, by=said.by), lambda query: query.retry(said.reason, by=said.by)
    )


@verb(command, Verb("resume", "resumed", (State.CANCELLED,)))
def resume(said: Said) -> Act:
    """Let cancelled ones go on where they were."""
    return Act(
        lambda operation: operation.resume(said.reason, by=said.by), lambda query: query.resume(said.reason, by=said.by)
    )


_undo = click.option("--undo", is_flag=True, help="First undo what they did, newest first; a worker does it.")


@verb(command, Verb("cancel", "cancelled", UNFINISHED, "", "cancelled from the command line", (_undo,)))
def cancel(said: Said, undo: bool) -> Act:
    """Cancel those that have not ended. A running step is asked to stop."""
    return Act(
        lambda operation: operation.cancel(said.reason, by=said.by, undo=undo),
        lambda query: query.cancel(said.reason, by=said.by, undo=undo),
    )


@verb(command, Verb("skip", "skipped", MOVABLE, options=(no_resume,)))
def skip(said: Said, no_resume: bool) -> Act:
    """Let them go on behind the step where they are.

    That is not run (again). One that failed, was cancelled or is parked goes on.
    """

    def act(operation: Operation[Any]) -> str:
        place = operation.skip(said.reason, by=said.by, resume=not no_resume)
        return f"{operation.id}  {plain(place.name)} is skipped"

    return Act(act, lambda query: query.skip(said.reason, by=said.by, resume=not no_resume))


@verb(command, Verb("jump", "moved", MOVABLE, "TARGET [STEP]", options=(no_resume,)))
def jump(said: Said, no_resume: bool) -> Act:
    """Let them go on at a branch or step.

    The target is a branch, which means its first step, or a step; or a branch and its step, as two words. One that
    failed, was cancelled or is parked goes on.

    Without the app, the step runs in the queue in which the operation is; with it, in the step's own.
    """
    if not 1 <= len(said.words) <= 2:
        raise UnreadableError("say where to: a branch, a step, or a branch and its step")
    target, step = said.words[0], said.words[1] if len(said.words) == 2 else None

    def act(operation: Operation[Any]) -> str:
        place = operation.jump_to(target, step, reason=said.reason, by=said.by, resume=not no_resume)
        return f"{operation.id}  goes on at {plain(place.name)}"

    return Act(act, lambda query: query.jump_to(target, step, reason=said.reason, by=said.by, resume=not no_resume))


@verb(command, Verb("set", "edited", tuple(State), "KEY=VALUE..."))
def set_globals(said: Said) -> Act:
    """Set globals; the others stay.

    A value is JSON where it can be read as such, else text.

    A step that runs has read them already. With the app, they have to fit the operation's declared state.
    """
    values = assigned(said.words, "set")
    if not values:
        raise UnreadableError("say what to set, such as subscription_id=7")

    def act(operation: Operation[Any]) -> bool:
        operation.set(values, reason=said.reason, by=said.by)
        return True

    return Act(act, lambda query: query.set(values, reason=said.reason, by=said.by))


@verb(command, Verb("unset", "edited", tuple(State), "KEY..."))
def unset(said: Said) -> Act:
    """Take globals away."""
    if not said.words:
        raise UnreadableError("say which globals to take away")

    def act(operation: Operation[Any]) -> bool:
        operation.unset(*said.words, reason=said.reason, by=said.by)
        return True

    return Act(act, lambda query: query.unset(*said.words, reason=said.reason, by=said.by))


_after = click.option(
    "--after", metavar="STEP|VISIT", help="The completed step behind which they begin; else at the start."
)


@verb(command, Verb("fork", "forked", tuple(State), "[KEY=VALUE]...", options=(_after,), makes=True))
def fork(said: Said, after: str | None) -> Act:
    """Start new ones behind a completed step.

    Each begins behind a completed step of one that there is, with the globals that there were then, or at the start.
    Globals that are given replace those of their names. The new ones walk the plan of the code as it is now: this needs
    the app. It prints the new ids.
    """
    values = assigned(said.words, "fork")
    behind = int(after) if after is not None and after.isascii() and after.isdigit() else after

    def act(operation: Operation[Any]) -> str:
        try:
            return operation.fork(values, after=behind, reason=said.reason, by=said.by).id
        except UnknownTask as error:
            raise UsageError(f"{error}; a fork walks the plan of the code: name the app, --app MODULE:APP") from None

    return Act(act)


_payload = click.option("--payload", metavar="JSON", help="What the signal brings; may also be said behind its name.")


@verb(command, Verb("signal", "signalled", UNFINISHED, "NAME [PAYLOAD]", None, options=(_payload,)))
def signal(said: Said, payload: str | None) -> Act:
    """Send a signal to those that have not ended.

    It is kept until a step waits for it. The payload is JSON.
    """
    words = (*said.words, *(() if payload is None else (payload,)))
    if not 1 <= len(words) <= 2:
        raise UnreadableError("say the name of the signal, and its payload, if it has one")
    value = _json(words[1]) if len(words) == 2 else None
    return Act(
        lambda operation: operation.signal(words[0], value, by=said.by),
        lambda query: query.signal(words[0], value, by=said.by),
    )


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise UnreadableError(f"the payload {text!r:.100} is no JSON: {error}; a text is written '\"text\"'") from None
