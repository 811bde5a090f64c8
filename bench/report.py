"""From rounds to a table: medians, ratios taken round by round, and the goals beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import marching, peers
from bench.jobs import STEPS
from bench.reading import Reading
from bench.rounds import Plan, Round

LARGER_BITES = (
    "A worker commits larger bites than the limit's hundred, which a slow disk rewards: compare the CPU of a job, too."
)


@dataclass(frozen=True)
class Goal:
    """What a number should be, in words and as a test."""

    words: str
    met: Callable[[float], bool]


@dataclass(frozen=True)
class Line:
    """One line of the table: a measurement, and what it is compared with."""

    name: str
    label: str
    unit: str = "/s"
    against: str | None = None
    slower: bool = False  # the ratio says how many times slower, rather than which share of the other's rate
    by_cpu: bool = False  # the ratio is that of the CPU of a job, here and in the server, which others disturb less
    goal: Goal | None = None  # of the ratio, or of the value where there is nothing to compare with


def at_least(share: float, of: str) -> Goal:
    return Goal(f"≥ {share:.2f} of {of}", lambda value: value >= share)


def at_most(times: float, of: str) -> Goal:
    return Goal(f"≤ {times:g}× {of}", lambda value: value <= times)


def below(limit: float, unit: str) -> Goal:
    return Goal(f"< {limit:g} {unit}", lambda value: value < limit)


def sections(plan: Plan) -> list[tuple[str, list[Line]]]:
    """The table, from top to bottom."""
    jobs, singles = f"{plan.jobs:,}", f"{plan.singles:,}"
    table = [
        (
            "adding",
            [
                Line("insert", f"bare INSERT and commit, {singles} times"),
                Line("later", f"later, {singles} times", against="insert", slower=True, goal=at_most(2, "bare")),
                Line("insert_many", f"bare executemany of {jobs}"),
                Line(
                    "later_many", f"later_many of {jobs}", against="insert_many", slower=True, goal=at_most(3, "bare")
                ),
            ],
        ),
        (
            f"{jobs} no-op jobs",
            [
                Line("limit", "the limit: claim 100 + mark 100 done"),
                Line("limit_delete", "the same, done jobs deleted", against="limit"),
                Line("drain", "worker, 1 process", against="limit", goal=at_least(0.5, "the limit")),
                Line("drain_two", "worker, 2 processes", against="limit"),
                Line(
                    "split",
                    "split and composed, 1 process",
                    against="drain",
                    slower=True,
                    goal=at_most(2, "plain jobs"),
                ),
            ],
        ),
        (f"operations of {STEPS} no-op steps, one worker process", walking(plan)),
        (
            "waiting",
            [
                Line("latency", f"later → start, median of {plan.samples}", "ms", goal=below(10, "ms")),
                Line("latency_p95", "later → start, 95th percentile", "ms"),
                Line("idle", "idle worker, of a core", "%", goal=below(1, "%")),
                Line("idle_supervisor", "… of it the supervisor", "%"),
                Line("idle_child", "… of it the worker process", "%"),
            ],
        ),
    ]
    table += [(f"{plan.stock:,} finished and {plan.stock:,} future jobs, against an empty store", stocked(1.1))]
    table += [(f"a split of {plan.pieces:,} pieces, two worker processes", _size())]
    if plan.peers:
        label = f"{peers.huey_label(plan.synchronous)}, {plan.peer_jobs:,} jobs"
        steps = f"DBOS on SQLite, {plan.peer_operations} workflows of {STEPS} steps"
        lines = [
            Line("huey", label, against="drain"),
            Line("dbos", steps, against="steps", goal=Goal("≤ 0.20 of ours", lambda share: share <= 0.2)),
        ]
        table.append(("peers", lines))
    return table


def walking(plan: Plan) -> list[Line]:
    """Lines about steps against plain jobs of the same round, and about one operation of very many steps."""
    goal = at_least(0.5, "plain jobs")
    return [
        Line("steps", f"steps of {plan.operations:,}", against="drain", goal=goal),
        Line("steps_many", f"steps of {plan.many_operations:,}", against="drain", goal=goal),
        Line("march_first", f"one of {marching.STEPS:,} steps: each of the first tenth", "µs"),
        Line("march_last", "… each of the last", "µs", against="march_first", goal=at_most(1.25, "first")),
    ]


def stocked(times: float, *, by_cpu: bool = False) -> list[Line]:
    """Lines about a store with a past and a future, which may be so many times slower than an empty one."""
    lines = []
    verbs = {
        "later": "later",
        "later_many": "later_many of 2,000",
        "fetch": "fetch of 100",
        "settle": "settle of 100",
        "exchange": "exchange of 100",
    }
    for verb, label in verbs.items():
        lines.append(Line(f"{verb}_empty", f"{label}, empty"))
        goal, empty, unpruned = at_most(times, "empty"), f"{verb}_empty", f"{verb}_unpruned"
        lines.append(Line(f"{verb}_full", "… full", against=empty, slower=True, by_cpu=by_cpu, goal=goal))
        pruned = "… full, while it is pruned"
        lines.append(Line(f"{verb}_pruned", pruned, against=unpruned, slower=True, by_cpu=by_cpu))
    lines.append(Line("claim_p99_empty", "exchange of 100, 99th percentile, empty", "ms"))
    lines.append(Line("claim_p99_full", "… full", "ms"))
    lines.append(Line("claim_p99_pruned", "… full, while it is pruned", "ms"))
    lines.append(Line("worker_empty", "worker, empty"))
    lines.append(Line("worker_full", "… full", against="worker_empty", slower=True, goal=at_most(times, "empty")))
    return lines


def _size() -> list[Line]:
    screen = below(100, "ms")
    return [
        Line("size_pieces", "pieces"),
        Line("size_splitting", "memory grown while it splits", "MB", goal=below(50, "MB")),
        Line("size_working", "… while pieces run", "MB", goal=below(50, "MB")),
        Line("size_composing", "… while it composes", "MB", goal=below(50, "MB")),
        Line("size_supervisor", "… of the supervisor", "MB", goal=below(50, "MB")),
        Line("size_watch", "a frame of `watch`, median", "ms", goal=screen),
        Line("size_watch_worst", "… the longest", "ms"),
        Line("size_show", "what `jobs show` reads, median", "ms", goal=screen),
        Line("size_show_worst", "… the longest", "ms"),
        Line("size_watch_command", "piecework watch, to its first line", "ms"),
        Line("size_show_command", "piecework jobs show, with starting Python", "ms"),
    ]


def ratios(line: Line, rounds: Sequence[Round]) -> list[float]:
    """A line's ratio in each round in which both sides were measured."""
    if line.against is None:
        return []
    if line.by_cpu:
        return cpu_ratios(line, rounds)
    pairs = [(r[line.name].value, r[line.against].value) for r in rounds if line.name in r and line.against in r]
    return [theirs / ours if line.slower else ours / theirs for ours, theirs in pairs]


def cpu_ratios(line: Line, rounds: Sequence[Round]) -> list[float]:
    """How many times the CPU of a job, here and in the server, is that of what a line is compared with."""
    pairs = [(r[line.name], r[line.against]) for r in rounds if line.name in r and line.against in r]
    return [_all_cpu(ours) / _all_cpu(theirs) for ours, theirs in pairs if _all_cpu(ours) and _all_cpu(theirs)]


def _all_cpu(reading: Reading) -> float:
    """Microseconds for each job; 0 where they are not known on both sides."""
    return 0.0 if reading.cpu is None or reading.server is None else reading.cpu + reading.server


def verdict(line: Line, rounds: Sequence[Round]) -> bool | None:
    """Whether the goal is met; None where there is none, or nothing was measured."""
    numbers = ratios(line, rounds) if line.against else _values(line, rounds)
    return None if line.goal is None or not numbers else line.goal.met(statistics.median(numbers))


Sections = list[tuple[str, list[Line]]]


def print_table(sections: Sections, machine: dict[str, str], rounds: Sequence[Round], notes: Sequence[str]) -> None:
    served = any(reading.server is not None for found in rounds for reading in found.values())
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    of_server = ["server's", "CPU ratio"] if served else []
    for title in ("median", "min–max", "CPU/job", *of_server, "ratio", "min–max"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title, lines in sections:
        table.add_row(f"[bold]{title}[/]")
        for line in lines:
            table.add_row(*_cells(line, rounds, served=served))
        table.add_row()
    if not console.is_terminal:
        console.width = 160  # a file has room
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), soft_wrap=True)
    told = (
        f"Rounds: {len(rounds)}, interleaved; a ratio is taken within its round, and the median of the ratios is shown."
    )
    for note in (told, *notes):
        console.print(note, soft_wrap=True)


def as_json(sections: Sections, plan: Plan, machine: dict[str, str], rounds: Sequence[Round]) -> dict[str, Any]:
    """Everything that was measured, and what came of it."""
    lines = [line for _, lines in sections for line in lines]
    return {
        "machine": machine,
        "jobs": plan.jobs,
        "singles": plan.singles,
        "samples": plan.samples,
        "stock": plan.stock,
        "pieces": plan.pieces,
        "lines": [
            {
                "name": line.name,
                "label": line.label,
                "unit": line.unit,
                "values": _values(line, rounds),
                "cpu_us_per_job": [r[line.name].cpu for r in rounds if line.name in r],
                "server_cpu_us_per_job": [r[line.name].server for r in rounds if line.name in r],
                "against": line.against,
                "ratio_is": None if line.against is None else "times slower" if line.slower else "share of its rate",
                "ratios": ratios(line, rounds),
                "goal": None if line.goal is None else line.goal.words,
                "met": verdict(line, rounds),
            }
            for line in lines
        ],
    }


def _cells(line: Line, rounds: Sequence[Round], *, served: bool) -> list[str]:
    readings: list[Reading] = [r[line.name] for r in rounds if line.name in r]
    if not readings:
        return [f"  {line.label}", "not measured"]
    values = [reading.value for reading in readings]
    cpu = [reading.cpu for reading in readings if reading.cpu is not None]
    server = [reading.server for reading in readings if reading.server is not None]
    found = ratios(line, rounds)
    met = verdict(line, rounds)
    return [
        f"  {line.label}",
        f"{_number(statistics.median(values), line.unit)} {line.unit}",
        _range(values, lambda value: _number(value, line.unit)),
        f"{statistics.median(cpu):,.1f} µs" if cpu else "",
        *(_of_server(line, rounds, server) if served else []),
        _ratio(statistics.median(found), line.slower) if found else "",
        _range(found, lambda value: f"{value:.2f}"),
        line.goal.words if line.goal else "",
        "" if met is None else "[green]met[/]" if met else "[red]missed[/]",
    ]


def _of_server(line: Line, rounds: Sequence[Round], server: Sequence[float]) -> list[str]:
    worked = cpu_ratios(line, rounds) if line.against else []
    return [
        f"{statistics.median(server):,.1f} µs" if server else "",
        f"{statistics.median(worked):.2f}×" if worked else "",
    ]


def _values(line: Line, rounds: Sequence[Round]) -> list[float]:
    return [r[line.name].value for r in rounds if line.name in r]


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit in ("/s", "") else f"{value:.2f}"


def _ratio(value: float, slower: bool) -> str:
    return f"{value:.2f}×" if slower else f"{value:.2f}"


def _range(values: Sequence[float], shown: Callable[[float], str]) -> str:
    return f"{shown(min(values))}–{shown(max(values))}" if len(values) > 1 else ""
