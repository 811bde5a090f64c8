"""The table of PostgreSQL, from top to bottom."""

from __future__ import annotations

from bench.jobs import STEPS
from bench.postgres.peers import LABELS
from bench.postgres.rounds import CONCURRENCY, LISTENERS
from bench.report import LARGER_BITES, Goal, Line, Sections, at_least, at_most, below, walking
from bench.rounds import Plan

NOTES = (
    "CPU/job is that of piecework's own processes, starting and stopping left out; the server's is that of all its processes.",
    LARGER_BITES,
)


def sections(plan: Plan) -> Sections:
    jobs, singles = f"{plan.jobs:,}", f"{plan.singles:,}"
    table = [
        ("adding", _adding(jobs, singles)),
        (f"{jobs} no-op jobs", _draining()),
        (f"operations of {STEPS} no-op steps, one worker process", walking(plan)),
        ("waiting", _waiting(plan.samples)),
        ("connections of a supervisor and one worker process", _connections()),
    ]
    if plan.peers:
        table.append(("peers, one process each", _peers(plan)))
    return table


def _adding(jobs: str, singles: str) -> list[Line]:
    return [
        Line("insert", f"bare INSERT and commit, {singles} times"),
        Line("later", f"later, {singles} times", against="insert", slower=True, goal=at_most(1.3, "bare")),
        Line("later_unheard", "later, nobody listens"),
        Line(
            "later_heard",
            f"later, {LISTENERS} listeners",
            against="later_unheard",
            slower=True,
            goal=at_most(1.1, "nobody"),
        ),
        Line("copy", f"bare COPY of {jobs}"),
        Line("later_many", f"later_many of {jobs}", against="copy", goal=at_least(0.6, "COPY")),
    ]


def _draining() -> list[Line]:
    return [
        Line("limit", "the limit: claim 100 + mark 100 done"),
        Line("limit_delete", "the same, done jobs deleted", against="limit"),
        Line("limit_thousand", "the same by the thousand, marked", against="limit"),
        Line("drain", "worker, 1 process", against="limit", goal=at_least(0.5, "the limit")),
        Line("drain_generic", "… generic plans enforced", against="drain", goal=at_least(0.9, "1 process")),
        Line("drain_two", "worker, 2 processes", against="drain", goal=Goal("> 1 process", lambda share: share > 1)),
        Line("split", "split and composed, 1 process", against="drain", slower=True, goal=at_most(2, "plain jobs")),
    ]


def _waiting(samples: int) -> list[Line]:
    return [
        Line("latency", f"later → start, median of {samples}", "ms", goal=below(3, "ms")),
        Line("latency_p95", "later → start, 95th percentile", "ms"),
        Line("latency_polled", "later → start without hints, median", "ms", goal=below(1000, "ms")),
    ]


def _connections() -> list[Line]:
    return [Line(f"connections_{n}", f"{n} jobs at a time that add jobs", "", goal=below(9, "")) for n in CONCURRENCY]


def _peers(plan: Plan) -> list[Line]:
    return [
        Line("pgqueuer", f"{LABELS['pgqueuer']}, {plan.jobs:,} jobs", against="drain", goal=_less_than(1.0)),
        Line(
            "procrastinate",
            f"{LABELS['procrastinate']}, {plan.peer_jobs:,} jobs",
            against="drain",
            goal=_less_than(1 / 15),
        ),
    ]


def _less_than(share: float) -> Goal:
    return Goal(f"< {share:.3g} of ours", lambda found: found < share)
