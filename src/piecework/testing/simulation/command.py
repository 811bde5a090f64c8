"""The command of the simulation: plays histories for a while; a failing seed prints itself, and how to replay it."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from typing import Any

import click

from piecework.testing.simulation.history import Protocol, Verdict, play
from piecework.testing.simulation.toys import Toys

BITE = 50  # histories between two looks at the clock
TELL_SECONDS = 10.0
COMMAND = "python -m piecework.testing.simulation"


def protocol_of(reference: str | None) -> Protocol:
    """A protocol by `module:name`; something that makes a store, called with `clock=`, will do.

    Without one, the model.
    """
    if reference is None:
        return Protocol()
    module, _, name = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found if isinstance(found, Protocol) else Protocol(store=lambda clock: found(clock=clock))


def bite(work: tuple[int, str | None]) -> tuple[int, list[Verdict]]:
    """Plays some histories; how many, and, added up in one verdict, or each by itself where it failed, what they came to."""
    first, reference = work
    protocol, toys = protocol_of(reference), Toys()
    verdicts = [play(seed, protocol, toys) for seed in range(first, first + BITE)]
    total = Verdict(first, [])
    for verdict in verdicts:
        total.faults += verdict.faults
        total.answers += verdict.answers
        total.calls += verdict.calls
        total.jobs += verdict.jobs
    return len(verdicts), [total, *(verdict for verdict in verdicts if verdict.violations)]


def bites(first: int, reference: str | None, end: float) -> Iterator[tuple[int, str | None]]:
    """Work until the time is over."""
    while time.monotonic() < end:
        yield first, reference
        first += BITE


class Tally:
    """What all histories came to together."""

    def __init__(self) -> None:
        self.histories = 0
        self.sum = Verdict(0, [])
        self.failed: list[Verdict] = []
        self._began = self._told = time.monotonic()

    def add(self, histories: int, total: Verdict, failed: list[Verdict]) -> None:
        self.histories += histories
        self.sum.faults += total.faults
        self.sum.answers += total.answers
        self.sum.calls += total.calls
        self.sum.jobs += total.jobs
        self.failed += failed

    def progress(self) -> None:
        if time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            click.echo(f"{self._told - self._began:4.0f} s: {self.histories:,} histories, {len(self.failed)} failed")

    def sentence(self) -> str:
        """What was proved, in one paragraph."""
        faults, answers = self.sum.faults, self.sum.answers
        kinds = "".join(f"\n  {n:8,} × {kind}" for kind, n in faults.most_common())
        return (
            f"{self.histories:,} histories of {self.sum.jobs:,} jobs and {self.sum.calls:,} calls of the store in "
            f"{time.monotonic() - self._began:.0f} s, with {sum(faults.values()):,} faults; {answers['ok']:,} settlements "
            f"were recorded, {answers['already']:,} had been, {answers['stale'] + answers['gone']:,} were refused; "
            f"{len(self.failed)} histories broke a promise.{kinds}"
        )


def told(verdict: Verdict, reference: str | None) -> str:
    of = f" --protocol {reference}" if reference else ""
    lines = "".join(f"\n  {violation}" for violation in verdict.violations)
    return f"seed {verdict.seed} broke a promise:{lines}\nreplay it, step by step: {COMMAND} --seed {verdict.seed}{of}"


@click.command()
@click.option("--seconds", default=60.0, help="How long to play.", show_default=True)
@click.option("--first", default=0, help="The first seed.", show_default=True)
@click.option("--seed", type=int, help="Play this history only, and tell every step.")
@click.option("--jobs", default=1, help="How many processes play.", show_default=True)
@click.option("--protocol", metavar="MODULE:NAME", help="A store, as a function of its clock; the model, unless given.")
def main(seconds: float, first: int, seed: int | None, jobs: int, protocol: str | None) -> None:
    """Plays histories of the engine with faults at every call of the store. Exit code 1 when one broke a promise."""
    if seed is not None:
        sys.exit(replay(seed, protocol))
    tally = Tally()
    for histories, (total, *failed) in played(bites(first, protocol, time.monotonic() + seconds), jobs):
        tally.add(histories, total, failed)
        tally.progress()
        if failed:
            break
    for verdict in tally.failed:
        click.echo(told(verdict, protocol))
    click.echo(tally.sentence())
    if not tally.failed and tally.histories and not tally.sum.answers["gone"]:
        click.echo("no settlement was refused: these histories proved nothing")
        sys.exit(1)
    sys.exit(1 if tally.failed else 0)


def played(work: Iterator[tuple[int, str | None]], jobs: int) -> Iterator[tuple[int, list[Verdict]]]:
    """What the bites came to, in the order in which they ended."""
    if jobs == 1:
        yield from map(bite, work)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as players:
        playing = {players.submit(bite, item) for item in islice(work, 2 * jobs)}
        while playing:
            done, playing = wait(playing, return_when=FIRST_COMPLETED)
            playing |= {players.submit(bite, item) for item in islice(work, len(done))}
            yield from (future.result() for future in done)


def replay(seed: int, protocol: str | None) -> int:
    """One history, every step of it told; the exit code."""
    verdict = play(seed, protocol_of(protocol), Toys(), click.echo)
    for violation in verdict.violations:
        click.echo(f"broken: {violation}")
    click.echo(f"seed {seed}: {verdict.calls} calls, {sum(verdict.faults.values())} faults, {Counter(verdict.answers)}")
    return 1 if verdict.violations else 0
