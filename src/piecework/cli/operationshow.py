"""What `piecework operations show` prints: one operation, its steps at a glance, its timeline, and why it failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from piecework.amending import status_of
from piecework.app import Piecework
from piecework.cli.common import block, counted, duration, fitted, plain, print_json, short, style_of, when
from piecework.job import AmendmentRecord, Change, ErrorInfo, OperationRecord, Record, SignalRecord, State
from piecework.overview import StepView
from piecework.plan import Plan
from piecework.trail import Event, StepRun

T = TypeVar("T")

GLOBALS = 40  # shown of each; --json has them all
FIRST, LAST = 8, 32

_COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "parked": "yellow", "retrying": "yellow"}


class Seen(NamedTuple):
    """What was read of an operation, at about one moment."""

    record: Record
    kept: OperationRecord
    plan: Plan
    steps: list[StepView]
    events: list[Event]
    amendments: list[AmendmentRecord]
    signals: list[SignalRecord]
    now: float

    @property
    def status(self) -> str:
        return status_of(self.record, self.kept, self.now)


def look(app: Piecework, id: str) -> Seen:
    """Reads what there is to be shown. Raises `JobNotFound`."""
    operation = app.operations.get(id)
    return Seen(
        operation.record(),
        operation.kept(),
        operation.plan,
        operation.steps,
        list(operation.timeline()),
        operation.amendments(),
        app.store.signals(id),
        app.store.now(),
    )


def print_operation(app: Piecework, id: str, as_json: bool) -> None:
    """Prints an operation, for people or as JSON. Raises `JobNotFound`."""
    seen = look(app, id)
    if as_json:
        print_json(_as_json(seen))
        return
    for name, value in _facts(seen):
        click.echo(f"{name:12}{value}")
    _section("globals", _globals(seen.kept.globals))
    _section("steps", _steps(seen.steps))
    _section("signals that nobody has taken", _signals(seen.signals))
    _section("timeline", _few(seen.events, _event))
    if seen.record.error is not None:
        _print_error(seen.record.error)


def _as_json(seen: Seen) -> dict[str, Any]:
    globals = msgspec.json.decode(seen.kept.globals)
    return {
        "status": seen.status,
        "job": seen.record,
        "operation": {**msgspec.structs.asdict(seen.kept), "globals": globals},
        "plan": seen.plan,
        "steps": [_step_json(step) for step in seen.steps],
        "timeline": seen.events,
        "signals": seen.signals,
        "amendments": seen.amendments,
    }


def _step_json(step: StepView) -> dict[str, Any]:
    return {**msgspec.structs.asdict(step), "runs": [_run_json(run) for run in step.runs]}


def _run_json(run: StepRun) -> dict[str, Any]:
    facts = msgspec.structs.asdict(run)
    del facts["after"]
    return {**facts, "globals": run.globals}


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


def since(record: Record, now: float) -> str:
    """For how long an operation has stood as it does, or how long it is until it is due."""
    if record.state is State.AVAILABLE and record.run_at > now:
        return f"in {duration(record.run_at - now)}"
    moments = {State.AVAILABLE: record.run_at, State.RUNNING: record.started_at}
    moment = moments.get(record.state, record.finished_at) or record.started_at
    return "" if moment is None else duration(max(0.0, now - moment))


def _facts(seen: Seen) -> Iterator[tuple[str, str]]:
    record, kept = seen.record, seen.kept
    stopping = " (asked to stop)" if record.stopping else ""
    yield "operation", record.id
    yield "name", plain(record.task)
    yield "status", click.style(plain(seen.status), **style_of(record.state)) + stopping
    yield "queue", f"{plain(record.queue)}, priority {record.priority}"
    yield "created", when(record.created_at)
    if not record.state.finished:
        yield "due", when(record.run_at)
    optional = [
        ("finished", when(record.finished_at) if record.finished_at else None),
        ("worker", record.worker if record.state is State.RUNNING else None),
        ("key", kept.key),
        ("piece", f"{record.piece_key} of {record.batch}" if record.batch else None),
        ("waits for", _waits_for(seen)),
        ("undid" if record.state.finished else "undoes", _ending(kept)),
        ("forked from", _origin(kept)),
        ("forks", ", ".join(a.reason for a in seen.amendments if a.what == "forked") or None),
        ("stopped", f"{record.stopped_by}, {when(record.stopped_at)}" if record.stopped_by else None),
        ("reason", record.reason),
    ]
    yield from ((name, plain(value, 500)) for name, value in optional if value)


def _waits_for(seen: Seen) -> str | None:
    wait = seen.kept.wait
    if wait is None or not seen.status.startswith("waiting for") or seen.record.below is not None:
        return None
    until = "" if wait.timeout is None else f", for {duration(wait.timeout)}"
    then = f", then goes to {wait.otherwise}" if wait.otherwise else ""
    return f"the signal {wait.name}{until}{then}"


def _ending(kept: OperationRecord) -> str | None:
    ending = kept.ending
    if ending is None:
        return None
    why = _said(ending.error) if ending.error else ending.reason or ""
    return f"what it did, to end as {ending.state}" + (f": {why}" if why else "")


def _origin(kept: OperationRecord) -> str | None:
    if kept.forked_from is None:
        return None
    behind = "its beginning" if kept.forked_after is None else f"its visit {kept.forked_after}"
    return f"{kept.forked_from}, after {behind}"


def _said(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}"


# ── sections ─────────────────────────────────────────────────────────────────────────────────────


def _section(title: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if shown:
        click.echo(f"\n{title}")
        for line in shown:
            click.echo(f"  {line}")


def _few(items: Sequence[T], line: Callable[[T], str]) -> Iterator[str]:
    """The first and the last of many."""
    hidden = len(items) - FIRST - LAST
    for n, item in enumerate(items):
        if hidden <= 0 or n < FIRST or n >= FIRST + hidden:
            yield line(item)
        elif n == FIRST:
            yield f"… {hidden:,} more; --json shows them all"


def _globals(text: str) -> Iterator[str]:
    parts = list(msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items())
    width = min(24, max((len(plain(key)) for key, _ in parts[:GLOBALS]), default=0))
    for key, raw in parts[:GLOBALS]:
        name = plain(key)
        yield f"{name:{width}}  " + fitted(plain(bytes(raw).decode(), 500), 4 + max(width, len(name)))
    if len(parts) > GLOBALS:
        yield f"… {len(parts) - GLOBALS:,} more; --json shows them all"


def _steps(steps: Sequence[StepView]) -> Iterator[str]:
    often = Counter((step.branch, step.name) for step in steps)
    names = [_name(step, often[step.branch, step.name] > 1) for step in steps]
    width = min(40, max((len(name) for name in names), default=0))
    rows = list(zip(steps, names, strict=True))
    day = _day(min((step.started_at for step in steps if step.started_at), default=None))
    yield from _few(rows, lambda row: _step(row[0], f"{row[1]:{width}}", day))


def _name(step: StepView, visited_again: bool) -> str:
    return short(f"{step.branch}/{step.name}", 80) + (f" #{step.visit}" if visited_again and step.visit else "")


def _step(step: StepView, name: str, day: str) -> str:
    began = _clock(step.started_at).removeprefix(f"{day} ")  # the day is that of the others
    said = "  ".join((name, f"{_times(step.attempts):10}", f"{began:8}", f"{_lasted(step):>7}"))
    worker = f"  {short(step.worker, 40)}" if step.worker else ""
    error = f"  {short(_said(step.error), 120)}" if step.error else ""
    return click.style(f"{step.state:9}", fg=_COLOURS.get(step.state)) + fitted(f"  {said}{worker}{error}".rstrip(), 11)


def _times(attempts: int) -> str:
    return "" if attempts == 0 else counted(attempts, "attempt")


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else when(moment.timestamp())


def _day(moment: datetime | None) -> str:
    return _clock(moment).partition(" ")[0]


def _lasted(step: StepView) -> str:
    if step.started_at is None or step.finished_at is None:
        return ""
    return duration(max(0.0, (step.finished_at - step.started_at).total_seconds()))


def _signals(signals: Iterable[SignalRecord]) -> list[str]:
    kept = [signal for signal in signals if signal.taken_at is None]
    return list(_few(kept, lambda s: f"{when(s.at)}  {short(s.name, 60)}  {plain(s.payload)}{_by(s.by)}"))


def _event(event: Event) -> str:
    what = f"signal {short(event.signal or '', 60)}" if event.what == "signal" else event.what
    at = "" if event.step is None else short(event.step, 80)
    head = f"{_clock(event.at)}  {what:10} {at}".rstrip()
    said = [short(_said(event.error), 200)] if event.error else []
    said += [plain(event.reason)] if event.reason else []
    said += [_changes(event.changes)] if event.changes else []
    if event.error is not None:
        return head + fitted(f": {'; '.join(said)}{_by(event.by)}", len(head) + 2)
    return head + fitted(f"{_by(event.by)}{': ' if said else ''}{'; '.join(said)}", len(head) + 2)


def _by(who: str | None) -> str:
    return f"  by {short(who, 60)}" if who else ""


def _changes(changes: Sequence[Change]) -> str:
    said = [short(c.key, 30) if c.value is not None else f"{short(c.key, 30)} (gone)" for c in changes[:8]]
    more = len(changes) - len(said)
    return f"sets {', '.join(said)}" + (f" and {more:,} more" if more else "")


def _print_error(error: ErrorInfo) -> None:
    click.echo(f"\n{plain(error.type)}: {plain(error.message, 500)}")
    if error.traceback:
        click.echo(block(error.traceback.rstrip()))
