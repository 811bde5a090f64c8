"""What many jobs have in common, for people to read: where operations stand, and failures that are one failure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import click

from piecework.alike import FailureKind, StepCount
from piecework.cli.common import counted, duration, fitted, plain, short, style_of, when
from piecework.job import State

NOT_YET = {State.AVAILABLE: "will be tried again", State.RUNNING: "is tried again"}
WIDEST = 44  # columns of a status
KINDS = 20  # of failures that are printed; --json has all

kinds_option = click.option(
    "--kinds", default=KINDS, show_default=True, type=click.IntRange(1, 10_000), help="How many kinds of failure."
)


def print_counts(counts: Sequence[StepCount], now: float) -> None:
    """A paragraph for each name of operations, a line for each place where some of them stand."""
    width = min(max((len(place.status) for place in counts), default=0), WIDEST)
    for name, some in groupby(counts, key=lambda one: one.operation):
        places = list(some)
        click.echo(f"{plain(name)}: {counted(sum(place.count for place in places), 'operation')}")
        for place in places:
            status = click.style(f"{short(place.status, width):{width}}", **style_of(place.state))
            click.echo(f"{place.count:>9,}  {status}  {_span(place, now)}")


def _span(place: StepCount, now: float) -> str:
    """For how long the first and the last of them have stood so, or how long it is until they are due."""
    first, last = (now - moment.timestamp() for moment in (place.oldest, place.newest))
    words = ["for" if seconds >= 0 else "in" for seconds in (first, last)]
    said = [duration(abs(seconds)) for seconds in (first, last)]
    if words[0] != words[1]:
        return f"{words[0]} {said[0]} … {words[1]} {said[1]}"
    return f"{words[0]} {said[0]}" if said[0] == said[1] else f"{words[0]} {said[0]} … {said[1]}"


def print_failures(kinds: Sequence[FailureKind], most: int) -> None:
    """Three lines for each kind: how many and what it says; where and when it came; one to look at."""
    for kind in kinds[:most]:
        said = short(kind.message, 200)
        said = said if kind.error is None else f"{plain(kind.error)}: {said}" if said else plain(kind.error)
        state = "" if kind.state is State.FAILED else f" ({NOT_YET.get(kind.state, kind.state)})"
        place = plain(kind.task) if kind.step is None else f"{plain(kind.task)} at {plain(kind.step)}"
        place = place if kind.raised_in is None else f"{place}, in {plain(kind.raised_in)}"
        click.echo(f"{kind.count:>9,}  {click.style(fitted(said, 11 + len(state)), **style_of(kind.state))}{state}")
        click.echo(f"{'':11}{fitted(place, 11)}")
        click.echo(f"{'':11}{_when(kind)}, e.g. {kind.example}")
    if more := kinds[most:]:
        click.echo(
            f"… and {counted(sum(kind.count for kind in more), 'job')} of {counted(len(more), 'more kind')}: --kinds"
        )


def _when(kind: FailureKind) -> str:
    first, last = (when(moment.timestamp()) for moment in (kind.oldest, kind.newest))
    if first == last:
        return first
    return f"{first} … {last[11:] if first[:10] == last[:10] else last}"
