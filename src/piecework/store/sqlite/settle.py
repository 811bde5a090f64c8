"""Ends of runs on the SQLite shelf: fences, counters and fan-in, all inside one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from piecework.job import Answer, ErrorInfo, State
from piecework.outcome import Settlement
from piecework.store.sqlite import advance, fanin, waits
from piecework.store.sqlite.history import Line, remember
from piecework.store.sqlite.transaction import Transaction, to_json

_STOPPED = (
    State.AVAILABLE,
    State.WAITING,
    State.CANCELLED,
    State.FAILED,
)  # whose end depends on having been asked to stop


class FenceMismatch(Exception):
    """Not every settlement matched its fence; the transaction is begun again, with care."""


def settle(tx: Transaction, settlements: Sequence[Settlement], *, careful: bool = False) -> list[Answer]:
    """The verb `settle`, inside a transaction.

    First it hopes that every fence matches, which takes no extra statement. Where the number of changed rows says
    otherwise it raises `FenceMismatch`, and the caller rolls back and comes again with `careful`.
    """
    if not settlements:
        return []
    answers = [Answer.OK] * len(settlements)
    valid: Sequence[Settlement] = settlements
    if careful:
        answers = _check_fences(tx, settlements)
        valid = [s for s, answer in zip(settlements, answers, strict=True) if answer is Answer.OK]
    let_go = _apply(tx, valid, careful)
    if let_go:
        answers = [
            Answer.LET_GO if s.id in let_go and a is Answer.OK else a for s, a in zip(settlements, answers, strict=True)
        ]
    return answers


def _check_fences(tx: Transaction, settlements: Sequence[Settlement]) -> list[Answer]:
    rows = {row[0]: row[1:] for row in tx.rows("settle_fences", ids=to_json([s.id for s in settlements]))}
    seen: set[str] = set()
    answers = []
    for s in settlements:
        run, state, settled = rows.get(s.id, (None, None, None))
        if run == s.run and state == "running" and s.id not in seen:
            seen.add(s.id)
            answers.append(Answer.OK)
        elif settled == s.run or (run == s.run and s.id in seen):
            # An operation that went on in its worker is at its next run; one that was let go is not.
            went_on = s.state is not State.RUNNING or s.id in seen or (run == s.run + 1 and state == "running")
            answers.append(Answer.ALREADY if went_on else Answer.LET_GO)
        else:
            answers.append(Answer.STALE)
    return answers


def _apply(tx: Transaction, settlements: Sequence[Settlement], careful: bool) -> set[str]:
    """Sorts the settlements once: by far the most are completions, and those without a result need only their ids.

    Answers which operations do not run on, though they were to.
    """
    plain: dict[tuple[int, int, str, str | None], list[str]] = {}
    other: list[Settlement] = []
    special: list[Settlement] = []
    moving: list[Settlement] = []
    for s in settlements:
        if s.advance is not None:
            moving.append(s)
        elif s.state is State.COMPLETED:
            if s.result is None and s.history is None:
                key = (s.run, s.attempt, s.queue, s.batch)
                ids = plain.get(key)
                if ids is None:
                    plain[key] = [s.id]
                else:
                    ids.append(s.id)
            else:
                other.append(s)
        else:
            special.append(s)
    asked: dict[str, tuple[int, str | None]] = {}
    if special:
        asked = waits.asked_to_stop(tx, [s.id for s in special if s.state in _STOPPED])
        special = fanin.before(tx, _mind_stops(tx, special, asked))
        other += special
    steps = advance.judge(tx, moving, careful=careful) if moving else []
    changed = _change(tx, plain, other)
    if steps:
        changed += advance.apply(tx, steps, careful=careful)
    if changed != len(settlements):
        raise FenceMismatch
    ends = advance.follow(tx, steps) if steps else fanin.nothing()
    for (_, _, queue, batch), ids in plain.items():
        tx.moved(queue, "running", "completed", len(ids))
        if batch is not None:
            ends[batch, "completed"] += len(ids)
    for s in other:
        tx.moved(s.queue, "running", s.state.value)
        if s.batch is not None and s.state in fanin.COUNTED:
            ends[s.batch, fanin.COUNTED[s.state]] += 1
    _keep_history(tx, special)
    if asked:
        waits.mind_undoing(tx, {s.id: s.state for s in special if asked.get(s.id, (0,))[0] == waits.TO_UNDO})
    fanin.after(tx, ends, special)
    return {step.sent.id for step in steps if step.let_go}


def _change(
    tx: Transaction, plain: dict[tuple[int, int, str, str | None], list[str]], other: Sequence[Settlement]
) -> int:
    """Writes the ends of the runs, and says how many rows that changed."""
    by_run: dict[tuple[int, int], list[str]] = {}
    for (run, attempt, _, _), ids in plain.items():
        by_run.setdefault((run, attempt), []).extend(ids)
    changed = 0
    for (run, attempt), ids in by_run.items():
        changed += tx.run("settle_complete", ids=to_json(ids), run=run, attempt=attempt, now=tx.now)
    if other:
        changed += tx.run("settle_any", rows=to_json([_row(s) for s in other]), now=tx.now)
    return changed


def _mind_stops(
    tx: Transaction, settlements: list[Settlement], asked: Mapping[str, tuple[int, str | None]]
) -> list[Settlement]:
    """A job that was asked to stop does not come back: where it would run again, it is cancelled instead."""
    if not asked:
        return settlements
    return [_stopped(tx, s, *asked[s.id]) if s.id in asked else s for s in settlements]


def _stopped(tx: Transaction, s: Settlement, how: int, why: str | None) -> Settlement:
    """Cancelled; an operation that was asked to stop so that it can be undone is available for that."""
    if s.state is State.FAILED or (how != waits.TO_UNDO and s.state is State.CANCELLED):
        return s
    state = State.CANCELLED
    if how == waits.TO_UNDO:
        state = State.AVAILABLE
        fanin.close(tx, s.id, "stopped", why or "the operation is undone")
    return msgspec.structs.replace(s, state=state, reason=why, history="cancelled", delay=None, seal=None, cursor=None)


def _row(s: Settlement) -> tuple[object, ...]:
    return s.id, s.run, s.state, s.attempt, s.result, s.delay, s.cursor, _text(s.error), s.reason


def _text(error: ErrorInfo | None) -> str | None:
    return None if error is None else to_json(error)


def _keep_history(tx: Transaction, settlements: Sequence[Settlement]) -> None:
    lines: list[Line] = [
        (s.id, s.run, s.attempt, s.history, _text(s.error), s.reason) for s in settlements if s.history
    ]
    if lines:
        remember(tx, lines)
