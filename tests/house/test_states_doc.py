"""docs/states.md says what the code does: the states, the moves out of a run, and the outcomes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from piecework import parting
from piecework.job import BatchState, Ending, ErrorInfo, Fetched, OperationRun, State, Wait
from piecework.operation import OperationSpec, StepSpec
from piecework.options import TaskOptions
from piecework.outcome import (
    Again,
    Await,
    Cancelled,
    Complete,
    Errored,
    Failed,
    Outcome,
    Park,
    Release,
    Seal,
    Stepped,
    Undone,
    UndoNext,
)
from piecework.parts import DistributedRecord, DistributedState, PartEnd, PartState, Push
from piecework.plan import Plan, read_cursor
from piecework.retry import fixed
from piecework.settle import COMPOSE, settle
from piecework.store.protocol import Store
from piecework.walk import Walk, settle_operation

PAGE = Path(__file__).parents[2] / "docs" / "states.md"
NOTHING = "(nothing)"
ERROR = ErrorInfo("ValueError", "bad body")
OUTCOMES = (
    Complete('"r"'), Complete(), Seal(3), Errored(ERROR), Again(2.0, error=ERROR), Again(2.0, "later"), Failed(ERROR),
    Cancelled("x"), Park("x"), Release("x"),
)  # fmt: skip
STEPS = {name: StepSpec(name, "plain", print) for name in "ab"}
STEPS["a"].undo = StepSpec("a", "plain", print)
OPERATION = OperationSpec("o", Plan({"main": ("a", "b")}), STEPS, TaskOptions())
ENDINGS = Ending(State.FAILED, ERROR), Ending(State.CANCELLED, reason="x")
WALKED = (
    ("main/a/1", Stepped()),
    ("main/a/1", Stepped(delay=5.0)),
    ("main/a/1", Stepped(wait=Wait("s"))),
    ("main/b/2", Stepped()),
    ("main/a/1", Await(Wait("s"))),
    ("undo/2", UndoNext("undo/main/a/1")),
    ("undo/1", UndoNext(None)),
    ("undo/main/a/1", Undone()),
    ("main/b/2", Failed(ERROR)),
)
OPTIONS = TaskOptions(attempts=3, retry=fixed(1))


def section(heading: str) -> str:
    """The text below a heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.S | re.M)
    assert found, f"docs/states.md has no section {heading!r}"
    return found[1]


def tables(heading: str) -> list[list[list[str]]]:
    """The tables of a section, each as its rows of cells, without the head."""
    blocks = re.findall(r"(?:^\|.*\n)+", section(heading), re.M)
    return [[_cells(line) for line in block.strip().split("\n")[2:]] for block in blocks]


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.removeprefix("|").removesuffix("|").split("|")]


def moves(table: list[list[str]]) -> set[tuple[str, str, str]]:
    """Every (from, to, verb) of a table of moves."""
    return {(before, after, verb) for before, after, verbs, _ in table for verb in verbs.split(", ")}


JOB_MOVES = moves(tables("Moves of a job")[0])
BATCH_MOVES = moves(tables("States of a batch")[1])


def tracked() -> set[tuple[str, str, str]]:
    """Every move that a distributed job of at most two parts can make, found by trying everything everywhere."""
    moves: set[tuple[str, str, str]] = set()
    seen: set[tuple[DistributedRecord, tuple[PartState, ...]]] = set()
    born = (
        Push(token="t", producer="p", parts=("0", "1")[:n], begins=True, close=close)
        for n in range(3)
        for close in (None, n)
    )
    line = []
    for push in born:
        job = parting.pushed(parting.begun(push, 0.0), push, len(push.parts), 0.0)
        moves.add((NOTHING, job.state, "push"))
        line.append((job, (PartState.OPEN,) * len(push.parts)))
    while line:
        job, parts = line.pop()
        if (job, parts) in seen:
            continue
        seen.add((job, parts))
        for verb, after, ends in _tried(job, parts):
            if after.state is not job.state:
                moves.add((job.state, after.state, verb))
            line.append((after, ends))
    return moves


def _tried(
    job: DistributedRecord, parts: tuple[PartState, ...]
) -> Iterator[tuple[str, DistributedRecord, tuple[PartState, ...]]]:
    yield "stop", parting.stopped(job, "", None, 0.0, None, None)[0], parts
    back = parting.resumed(job, 0.0, None)[0]
    yield "resume", back, tuple(PartState.OPEN if p is PartState.FAILED and back is not job else p for p in parts)
    if back is not job and job.failed > 1:  # more than a bite of them is
        first = parts.index(PartState.FAILED)
        yield "resume", parting.resumed(job, 0.0, None, 1)[0], (*parts[:first], PartState.OPEN, *parts[first + 1 :])
    if job.stopped_at is None and not job.sealed:
        yield "push", parting.pushed(job, Push(token="t", producer="p", close=len(parts)), 0, 0.0), parts
    known = {str(n): (part, None) for n, part in enumerate(parts)}
    for n, error in product(range(len(parts)), (None, ERROR)):
        after, changes, _ = parting.ended(job, known, [PartEnd(str(n), "c", None, error)], 0.0, None)
        new = PartState.DONE if error is None else PartState.FAILED
        yield "end", after, (*parts[:n], new if changes else parts[n], *parts[n + 1 :])


def test_a_distributed_job_moves_as_the_page_says() -> None:
    assert moves(tables("States of a distributed job")[1]) == tracked()
    assert [row[0] for row in tables("States of a distributed job")[0]] == [state.value for state in DistributedState]


def settled() -> set[tuple[str, str, bool, str | None]]:
    """What every outcome comes to on the first attempt and on the last: name, state, attempt spent, history."""
    found = set()
    for outcome, attempt, cursor in product(OUTCOMES, (0, 2), (None, COMPOSE)):
        job = Fetched("j", 7, "t", "q", 0, attempt, 0, None, None, cursor, None, 1.0, "{}")
        end = settle(job, outcome, OPTIONS, 0.0)
        found.add((type(outcome).__name__, end.state.value, end.attempt == attempt + 1, end.history))
    return found


def walked() -> set[tuple[str, str, str | None]]:
    """What the outcomes of an operation's runs come to: name, state, history."""
    found = set()
    for (cursor, outcome), ending, keep in product(WALKED, (None, *ENDINGS), (False, True)):
        run = OperationRun(OPERATION.digest, "{}", ending=ending)
        job = Fetched("j", 7, "o", "default", 0, 0, 0, None, None, cursor, None, 1.0, "{}", run)
        walk = Walk(OPERATION, OPERATION.plan, read_cursor(cursor), "default", 0)
        end = settle_operation(job, outcome, walk, OPTIONS, 0.0, 1.0, keep=keep)
        found.add((type(outcome).__name__, end.state.value, end.history))
    return found


def test_every_outcome_is_tried() -> None:
    tried = {type(outcome) for outcome in OUTCOMES} | {type(outcome) for _, outcome in WALKED}
    assert tried == set(Outcome.__subclasses__())


def test_the_ends_of_steps_settle_as_the_page_says() -> None:
    told = {
        (outcome, state, history or None)
        for outcome, _, state, history in tables("What the end of a step settles as")[0]
    }
    assert told == walked()


def test_the_page_names_every_state_of_a_job() -> None:
    assert [row[0] for row in tables("States of a job")[0]] == [state.value for state in State]


def test_the_page_names_every_state_of_a_batch() -> None:
    assert [row[0] for row in tables("States of a batch")[0]] == [state.value for state in BatchState]


def test_the_moves_are_between_states_that_exist() -> None:
    assert {state for before, after, _ in JOB_MOVES for state in (before, after)} == {NOTHING, *State}
    assert {state for before, after, _ in BATCH_MOVES for state in (before, after)} == {NOTHING, *BatchState}


def test_a_run_ends_where_settle_can_send_it() -> None:
    told = {after for before, after, verb in JOB_MOVES if (before, verb) == ("running", "settle")}
    assert told == {state for _, state, _, _ in settled()}


def test_the_outcomes_settle_as_the_page_says() -> None:
    told = {
        (outcome, state, spent == "yes", history or None)
        for outcome, _, state, spent, history in tables("What an outcome settles as")[0]
    }
    assert told == settled()


def test_a_completed_job_never_changes() -> None:
    gone = {(NOTHING, "prune"), (NOTHING, "delete")}
    assert {(after, verb) for before, after, verb in JOB_MOVES if before == "completed"} == gone
    assert {(after, verb) for before, after, verb in BATCH_MOVES if before == "done"} == gone


def test_only_fetch_lets_a_job_run() -> None:
    assert {(before, verb) for before, after, verb in JOB_MOVES if after == "running"} == {("available", "fetch")}


@pytest.mark.parametrize("verb", sorted({verb for *_, verb in JOB_MOVES | BATCH_MOVES}))
def test_every_verb_is_one_of_the_stores(verb: str) -> None:
    assert inspect.isfunction(getattr(Store, verb, None))


def test_the_drawing_shows_the_moves_of_the_table() -> None:
    """The mermaid diagram, which has one arrow for each pair of states."""
    arrows = re.findall(r"^    (\S+) --> (\S+): (.+)$", section("States of a job"), re.M)
    drawn = {
        (before.replace("[*]", NOTHING), after.replace("[*]", NOTHING), verb)
        for before, after, verbs in arrows
        for verb in verbs.split(", ")
    }
    assert drawn == JOB_MOVES


def test_the_drawing_in_text_shows_every_state() -> None:
    (drawing,) = re.findall(r"^```\n(.*?)^```", section("States of a job"), re.S | re.M)
    assert [state.value for state in State if state.value not in drawing] == []
