"""Thousands of operations at once: verbs by filter take few trips and are exact, and where all of them stand is counted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from leaping import LeapingClock
from msgspec.structs import replace
from operation_steps import Steps

from piecework import Operation, Piecework, State, step, wait_for
from piecework.alike import FailureKinds, pattern
from piecework.errors import BadArguments, UsageError
from piecework.job import ErrorInfo, Filter, Record
from piecework.testing.drain import drain


def boom(step: Any) -> None:
    raise ValueError(f"order {step['n']} has no plan")


@contextmanager
def counted(app: Piecework, before: Callable[[str], None] = lambda verb: None) -> Iterator[Counter[str]]:
    """How often each verb of the store is called; `before` is called before each."""
    store, calls = app.store, Counter[str]()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            found = getattr(store, name)
            if not callable(found):
                return found

            def call(*args: Any, **kwargs: Any) -> Any:
                calls[name] += 1
                before(name)
                return found(*args, **kwargs)

            return call

    app.store = Counting()  # type: ignore[assignment]
    try:
        yield calls
    finally:
        app.store = store


def failed(app: Piecework, steps: Steps, n: int) -> tuple[Any, list[Operation[Any]]]:
    """Operations that failed at `charge`, of two steps."""
    steps.acts["charge"] = boom
    fulfil = app.operation("f", main=[steps.charge, wait_for("ok"), steps.email], red=[steps.set_up_red], attempts=1)
    ops = fulfil.later_many([{"n": k, "batch": "may"} for k in range(n)])
    drain(app)
    return fulfil, ops


def lines(ops: list[Operation[Any]]) -> set[tuple[tuple[str, str, str], ...]]:
    return {tuple((line.what, line.by, line.reason) for line in op.amendments()) for op in ops}


MANY = {
    "set": (lambda query: query.set(plan="basic", reason="typo", by="ann"), ("edited", "typo")),
    "unset": (lambda query: query.unset("batch", reason="typo", by="ann"), ("edited", "typo")),
    "skip": (lambda query: query.skip("typo", by="ann"), ("skipped", "typo")),
    "jump_to": (lambda query: query.jump_to("red", reason="typo", by="ann"), ("jumped", "typo")),
    "retry": (lambda query: query.retry("typo", by="ann"), ("retried", "typo")),
    "signal": (lambda query: query.signal("ok", by="ann"), None),
}


@pytest.mark.parametrize("verb", MANY)
def test_a_verb_on_many_takes_a_few_trips_and_leaves_a_line_with_each(
    app: Piecework, steps: Steps, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.operationquery.BITE", 8)
    fulfil, ops = failed(app, steps, 20)
    act, line = MANY[verb]
    with counted(app) as calls:
        done = act(fulfil.where(batch="may").only(state="failed"))
    assert (done, done.left, done.refused) == (20, 0, [])
    pages = 3
    assert sum(calls.values()) <= 5 * pages + 3, calls
    if line is None:
        assert [len(app.store.signals(op.id)) for op in ops] == [1] * 20
    else:
        assert lines(ops) == {((line[0], "ann", line[1]),)}


def test_many_are_cancelled_and_resumed_in_a_few_trips(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("f", main=[steps.charge])
    ops = fulfil.later_many([{"n": n} for n in range(20)])
    with counted(app) as calls:
        assert fulfil.where().cancel("stop", by="ann") == 20
        assert fulfil.where().cancel("stop", by="ann") == 0
        assert fulfil.where().resume("go", by="ann") == 20
    assert sum(calls.values()) <= 15, calls
    assert lines(ops) == {(("cancelled", "ann", "stop"), ("resumed", "ann", "go"))}
    drain(app)
    assert {op.state for op in ops} == {State.COMPLETED}


def test_what_moved_on_meanwhile_is_changed_only_where_it_is_still_meant(app: Piecework, steps: Steps) -> None:
    """One is moved on between the look at it and the change: it is at no such step any more, and the answer says so."""
    fulfil = app.operation("f", main=[steps.charge, wait_for("ok"), wait_for("again"), steps.email])
    ops = fulfil.later_many([{"n": n} for n in range(4)])
    drain(app)
    moves: dict[str, Callable[[], object]] = {
        "amend_many": lambda: (ops[1].jump_to("again", by="bob"), ops[2].set(late=True, by="bob"))
    }

    def meanwhile(verb: str) -> None:
        if act := moves.pop(verb, None):
            act()

    with counted(app, meanwhile):
        done = fulfil.where().only(step="ok").skip("typo", by="ann")
    why = f"operation {ops[1].id} has moved on from where it was found: due: main/again"
    assert (done, done.refused) == (3, [(ops[1].id, why)])
    drain(app)
    assert [op.at.name if op.at else None for op in ops] == ["main/again"] * 4
    assert [[(line.what, line.by) for line in op.amendments()] for op in ops] == [
        [("skipped", "ann")], [("jumped", "bob")], [("edited", "bob"), ("skipped", "ann")], [("skipped", "ann")],
    ]  # fmt: skip


def test_a_page_whose_last_was_deleted_meanwhile_is_not_the_end(
    app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.operationquery.BITE", 2)
    fulfil, ops = failed(app, steps, 7)
    gone = {2: ops[1], 4: ops[3]}  # with the second and the third page, and the end is looked for behind the last
    looks = itertools.count(1)

    def meanwhile(verb: str) -> None:
        if verb == "find" and (op := gone.pop(next(looks), None)):
            assert op.delete() == 1

    with counted(app, meanwhile):
        assert fulfil.where().only(state="failed").set(plan="basic") == 7
    left = [op for op in ops if op not in (ops[1], ops[3])]
    assert {op.globals["plan"] for op in left} == {"basic"}


def test_nor_is_it_for_verbs_on_jobs(app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piecework.jobs.BITE", 2)
    _, ops = failed(app, steps, 5)
    looks = itertools.count(1)

    def meanwhile(verb: str) -> None:
        if verb == "find" and next(looks) == 2:
            assert (ops[1].cancel(), ops[1].delete()) == (True, 1)  # the last of the first page, which was retried

    with counted(app, meanwhile):
        assert app.jobs.where(state="failed").retry() == 5


def test_what_does_not_fit_one_of_many_keeps_no_other(app: Piecework, steps: Steps) -> None:
    """What fits none of the first is wrong with the call, and nothing is changed."""
    fulfil, ops = failed(app, steps, 3)
    small = Piecework(app.settings.url, clock=app.clock, max_payload=100)
    small.operation("f", main=[steps.charge])
    ops[1].set(pad="x" * 75)
    done = small.operations.where(batch="may").set(more="y" * 9)
    assert (done, done.left, [id for id, _ in done.refused]) == (2, 1, [ops[1].id])
    assert "more than the" in done.refused[0][1] or "bytes" in done.refused[0][1]
    with pytest.raises(BadArguments):
        small.operations.where(batch="may").set(more="y" * 500)
    with pytest.raises(BadArguments):
        fulfil.where().set({"": 1})
    small.close()
    assert [len(op.amendments()) for op in ops] == [1, 1, 1]


def test_one_that_cannot_come_back_is_told_and_keeps_no_other(app: Piecework, steps: Steps) -> None:
    steps.acts["set_up"] = lambda step: boom(step)
    undone = app.operation("u", main=[step(steps.charge, undo=steps.b1), steps.set_up], attempts=1)
    fulfil = app.operation("f", main=[steps.set_up], attempts=1)
    one, two, held = undone.later(n=1), fulfil.later(n=2), fulfil.using(key="k").later(n=3)
    drain(app)

    @app.task
    def plain() -> None: ...

    plain.using(key="k", delay=60).later()
    done = app.operations.where().retry()
    why = dict(done.refused)
    assert (done, done.left, set(why)) == (1, 2, {one.id, held.id})
    assert "was undone" in why[one.id]
    assert "'k' is carried by another job" in why[held.id]
    assert two.status == "due: main/set_up"
    skipped = app.operations.where().only(state="failed").skip()
    assert (skipped, set(dict(skipped.refused))) == (0, {one.id, held.id})
    assert "cannot go on: " in dict(skipped.refused)[held.id]


# ── counted ──────────────────────────────────────────────────────────────────────────────────────


def test_operations_are_counted_by_where_they_stand(app: Piecework, steps: Steps, leaping: LeapingClock) -> None:
    steps.acts["set_up"] = lambda step: boom(step) if step["n"] < 3 else None
    fulfil = app.operation("f", main=[steps.charge, step(steps.set_up, attempts=1), wait_for("ok"), steps.email])
    ops = fulfil.later_many([{"n": n} for n in range(7)])
    drain(app)
    ops[5].signal("ok")
    drain(app)
    ops[4].cancel()
    fulfil.using(delay=3600).later(n=9)
    told = [(at.operation, at.state, at.step, at.status, at.waits_for, at.count) for at in fulfil.where().counts()]
    assert told == [
        ("f", "failed", "main/set_up", "failed at main/set_up", None, 3),
        ("f", "waiting", "main/ok", "waiting for ok", "ok", 2),
        ("f", "cancelled", "main/ok", "cancelled at main/ok", None, 1),
        ("f", "available", "main/charge", "scheduled: main/charge", None, 1),
    ]
    (ended,) = fulfil.where().only(state="completed").counts()
    assert (ended.status, ended.count, ended.example) == ("completed", 1, ops[5].id)
    assert [at.count for at in fulfil.where().only(step="set_up").counts()] == [3]
    assert app.operations.where(n=2).counts()[0].example == ops[2].id
    first = fulfil.where().counts()[0]
    assert first.oldest <= first.newest <= datetime.fromtimestamp(leaping.now(), UTC)


def test_failures_that_are_alike_are_one(app: Piecework, steps: Steps) -> None:
    fulfil, ops = failed(app, steps, 5)

    @app.task(attempts=1)
    def mail(n: int) -> None:
        raise ConnectionError(f"no answer from 10.0.0.{n}") if n else KeyError("silver")

    for n in range(4):
        mail.later(n)
    drain(app)
    (kind,) = app.operations.where().failures()
    assert (kind.task, kind.step, kind.state, kind.error, kind.count) == ("f", "main/charge", "failed", "ValueError", 5)
    assert kind.message in {f"order {n} has no plan" for n in range(5)}
    assert kind.raised_in is not None
    assert kind.raised_in.startswith("boom (test_operations_many.py:")
    assert app.operations.get(kind.example).error.message == kind.message  # type: ignore[union-attr]
    told = [(kind.step, kind.error, kind.count) for kind in app.jobs.where().failures()]
    assert told == [("main/charge", "ValueError", 5), (None, "ConnectionError", 3), (None, "KeyError", 1)]
    fulfil.where().only(step="charge").retry()
    assert app.operations.where().failures() == []
    assert [kind.count for kind in app.jobs.where(task="f").failures()] == []
    assert ops[0].state is State.AVAILABLE


def test_failures_tell_what_will_be_tried_again_and_why_others_are_parked(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = boom
    app.operation("f", main=[step(steps.charge, retry=600)]).later(n=1)
    gone = Piecework(app.settings.url, clock=app.clock)
    gone.operation("g", main=[steps.email]).later(n=2)
    gone.close()
    app.operation("g", main=[steps.b1])
    drain(app)
    (again,) = app.operations.where().only(state="available").failures()
    assert (again.state, again.step, again.error, again.count) == ("available", "main/charge", "ValueError", 1)
    (parked,) = app.operations.where().failures()
    assert (parked.state, parked.step, parked.error, parked.raised_in) == ("parked", "main/email", None, None)
    assert "email" in parked.message


def test_a_failure_is_placed_by_the_last_frame_that_is_the_users() -> None:
    record = a_failure(1, "'x'")
    trace = 'Traceback (most recent call last):\n  File "/a/shop.py", line 7, in charge\n    step["x"]\n'
    for more in (
        "",
        '  File "C:\\lib\\piecework\\stepping.py", line 9, in __getitem__\n    raise KeyError(key)\n',
    ):
        kinds = FailureKinds()
        kinds.add([replace(record, error=ErrorInfo("KeyError", "'x'", trace + more))])
        assert [kind.raised_in for kind in kinds.told()] == ["charge (shop.py:7)"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("order 17 not found", "order 4 not found", True),
        ("no answer from 10.0.0.7:8080", "no answer from 10.0.1.12:80", True),
        ("job 01a1fe27-d853-7003-afb8-17d2eda75ad7 is gone", "job 01a1fe27-0000-7003-afb8-17d2eda75ad8 is gone", True),
        ("<Order object at 0x7f3a2b> is bad", "<Order object at 0x7f3aff> is bad", True),
        ("'silver'", "'gold'", False),
        ("one line\nand 2", "one line\nand three", True),
        ("defaced facade", "effaced facade", False),
    ],
)
def test_messages_are_compared_without_ids_and_numbers(one: str, other: str, same: bool) -> None:
    assert (pattern(one) == pattern(other)) is same


def a_failure(n: int, message: str) -> Record:
    return Record(
        id=f"j{n}", task="t", queue="q", priority=0, state=State.FAILED, run_at=0.0, run=1, attempt=1, crashes=0,
        created_at=0.0, finished_at=float(n), error=ErrorInfo("E", message, "not a traceback"),
    )  # fmt: skip


def test_of_more_kinds_than_are_told_apart_the_rest_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piecework.alike.MOST_KINDS", 2)
    kinds = FailureKinds()
    kinds.add(a_failure(n, f"so {'abcd'[n % 4]}") for n in range(8))
    told = [(kind.message, kind.count, kind.example, kind.raised_in) for kind in kinds.told()]
    assert told == [("… other messages", 4, "j7", None), ("so b", 2, "j5", None), ("so a", 2, "j4", None)]


def test_a_state_that_is_asked_for_is_the_one_that_is_changed(app: Piecework, steps: Steps) -> None:
    """One that somebody cancels between the look and the retry does not come back: failed ones were asked for."""
    fulfil, ops = failed(app, steps, 3)
    acts = {"retry": lambda: (app.store.retry(Filter(ids=(ops[1].id,))), ops[1].cancel("no"))}

    def meanwhile(verb: str) -> None:
        if act := acts.pop(verb, None):
            act()

    with counted(app, meanwhile):
        assert fulfil.where().only(state="failed").retry() == 2
    assert [op.state for op in ops] == [State.AVAILABLE, State.CANCELLED, State.AVAILABLE]
    with pytest.raises(UsageError):
        fulfil.where().only(state="faild")


def test_those_that_are_asked_for_among_some_are_no_others(app: Piecework, steps: Steps) -> None:
    fulfil, ops = failed(app, steps, 3)
    fulfil.later()
    some = fulfil.where().among([State.FAILED], until=ops[1].known.created_at)
    asked = some.only(step=ops[0].at.step if ops[0].at else None)
    assert [op.id for op in asked] == [op.id for op in some] == [op.id for op in ops]
    assert asked.cancel() == 0
    assert asked.retry() == 3
