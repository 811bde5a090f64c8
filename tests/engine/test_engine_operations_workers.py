"""Operations and their workers: who keeps one, who lets it go, which plan it walks, and in which process."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ops import Declared, a_step, a_wait
from support import books, until

from piecework import Piecework
from piecework.job import Filter
from piecework.outcome import Settlement
from piecework.plan import Plan, read_plan
from piecework.stepping import Step
from piecework.testing import drain


def nothing(step: Step) -> None:
    """A step that does nothing."""


# ── kept, or not ─────────────────────────────────────────────────────────────────────────────────


def fetched(app: Piecework, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each job is fetched from now on."""
    seen: Counter[str] = Counter()
    exchange = app.store.exchange

    def counted(settlements: Any, claim: Any) -> Any:
        answers, jobs = exchange(settlements, claim)
        seen.update(job.id for job in jobs)
        return answers, jobs

    monkeypatch.setattr(app.store, "exchange", counted)
    return seen


def test_short_steps_are_fetched_once_together_and_their_runs_are_counted(
    app: Piecework, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = [a_step(nothing, name=f"s{n}") for n in range(10)]
    op = Declared(app, "fulfilment", {"main": main}).start()
    seen = fetched(app, monkeypatch)
    assert drain(app) == 10
    assert seen == {op.id: 1}
    assert op.record.run == 10
    assert [line.run for line in op.lines] == list(range(1, 11))


def test_an_operation_that_was_held_for_long_goes_back_to_its_line(
    app: Piecework, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.engine.keeping.HOLD_SECONDS", 0.0)
    op = Declared(app, "fulfilment", {"main": [a_step(nothing, name=f"s{n}") for n in range(3)]}).start()
    seen = fetched(app, monkeypatch)
    drain(app)
    assert seen == {op.id: 3}
    assert op.state == "completed"


def test_more_operations_than_places_take_their_turns(app: Piecework, path: Path) -> None:
    """What is kept holds a place: no more than `concurrency` steps run at a time."""
    running = []
    most = []
    lock = threading.Lock()

    def work(step: Step) -> None:
        with lock:
            running.append(step.operation_id)
            most.append(len(running))
        step["n"] = step.get("n", 0) + 1
        with lock:
            running.remove(step.operation_id)

    declared = Declared(app, "fulfilment", {"main": [a_step(work, name=f"s{n}") for n in range(5)]})
    ops = [declared.start() for _ in range(40)]
    assert drain(app, concurrency=2) == 200
    assert max(most) <= 2
    assert all(op.globals == {"n": 5} and op.state == "completed" for op in ops)
    assert books(path) == []


def test_a_step_with_a_queue_of_its_own_runs_there_and_the_next_where_the_operation_does(app: Piecework) -> None:
    main = [a_step(nothing), a_step(nothing, name="slow", queue="slow", priority=5), a_step(nothing, name="end")]
    op = Declared(app, "fulfilment", {"main": main}).start({"queue": "vip"})
    app.store.cancel(Filter(ids=(op.id,)), reason="it was started where the call did not say")
    declared = Declared(app, "fulfilment", {"main": main})
    job = declared.new({}, {"queue": "vip"}, queue="vip")
    app.store.add([job])

    def place() -> tuple[str, int, str | None]:
        (record,) = app.store.get([job.id])
        return record.queue, record.priority, record.cursor

    app.worker(burst=True, queues=["vip"]).run()
    assert place() == ("slow", 5, "main/slow/2")
    app.worker(burst=True, queues=["slow"]).run()
    assert place() == ("vip", 0, "main/end/3")
    app.worker(burst=True, queues=["slow"]).run()
    assert place() == ("vip", 0, "main/end/3")
    app.worker(burst=True, queues=["vip"]).run()
    assert app.store.get([job.id])[0].state == "completed"


def test_an_operation_stops_between_two_steps_where_its_queue_is_paused(app: Piecework) -> None:
    op = Declared(app, "fulfilment", {"main": [a_step(pause_own, name="pause"), nothing]}).start()
    OPEN.append(app)
    try:
        drain(app)
    finally:
        OPEN.remove(app)
    assert (op.state, op.record.cursor) == ("available", "main/nothing/2")
    app.store.pause("default", on=False)
    drain(app)
    assert op.state == "completed"


OPEN: list[Piecework] = []  # the app that a step pauses a queue of


def pause_own(step: Step) -> None:
    OPEN[0].store.pause("default")


def test_what_is_edited_by_hand_while_a_step_runs_is_seen_by_the_next(app: Piecework) -> None:
    """Also where the next step runs in the same worker; and neither change is lost."""

    def edit(step: Step) -> None:
        assert op.amend("edited", changes=_changes(b=2)) == "ok"
        step["a"] = 1

    def look(step: Step) -> None:
        step["seen"] = [step.get("a"), step.get("b")]

    op = Declared(app, "fulfilment", {"main": [edit, look]}).start()
    drain(app)
    assert op.globals == {"a": 1, "b": 2, "seen": [1, 2]}


def _changes(**values: Any) -> Any:
    from piecework.documents import start_globals

    return start_globals(values, "a test", 1000)[1]


# ── workers that stop, and others ────────────────────────────────────────────────────────────────


def test_a_worker_that_stops_lets_go_after_the_step_and_another_goes_on(app: Piecework) -> None:
    began, go = threading.Event(), threading.Event()
    ran: list[str] = []

    def first(step: Step) -> None:
        ran.append("first")
        began.set()
        assert go.wait(20)

    def second(step: Step) -> None:
        ran.append("second")

    op = Declared(app, "fulfilment", {"main": [first, second]}).start()
    worker = app.worker(concurrency=1)
    with worker:
        assert began.wait(20)
        worker.stop()
        go.set()
    assert ran == ["first"]
    assert (op.state, op.record.cursor, op.record.attempt) == ("available", "main/second/2", 0)
    drain(app)
    assert ran == ["first", "second"]
    assert op.story == ["main/first/1 completed", "main/second/2 completed"]


def test_two_workers_walk_each_step_once(app: Piecework, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piecework.engine.keeping.HOLD_SECONDS", 0.0)  # each step may be the other's
    ran: Counter[str] = Counter()

    def work(step: Step) -> None:
        ran[f"{step.operation_id} {step.visit}"] += 1

    declared = Declared(app, "fulfilment", {"main": [a_step(work, name=f"s{n}") for n in range(10)]})
    ops = [declared.start() for _ in range(30)]
    with app.worker(concurrency=3), app.worker(concurrency=3):
        until(lambda: all(op.record.state.finished for op in ops))
    assert all(len(op.walked) == 10 for op in ops)
    assert set(ran.values()) == {1}
    assert len(ran) == 300
    assert books(path) == []


def test_a_lost_answer_is_asked_for_again_and_no_step_is_walked_twice(
    app: Piecework, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of each step is recorded, and the answer is lost once: the worker sends it again, and goes on."""
    from piecework.errors import StoreUnavailable

    ran: list[str] = []
    lost: set[tuple[str, int]] = set()
    exchange = app.store.exchange

    def losing(settlements: list[Settlement], claim: Any) -> Any:
        found = exchange(settlements, claim)
        fresh = {(s.id, s.run) for s in settlements} - lost
        if fresh:
            lost.update(fresh)
            raise StoreUnavailable("the answer was lost")
        return found

    def work(step: Step) -> None:
        ran.append(step.name)

    main = [a_step(work, name=name) for name in "abc"]
    op = Declared(app, "fulfilment", {"main": main}).start()
    monkeypatch.setattr("piecework.engine.trouble.Trouble.delay", lambda self, draw: 0.0)
    monkeypatch.setattr(app.store, "exchange", losing)
    drain(app)
    assert ran == ["a", "b", "c"]
    assert op.story == ["main/a/1 completed", "main/b/2 completed", "main/c/3 completed"]


# ── plans of before ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("names", ["abcd", "ab", "axbc", "cba"])
def test_an_operation_finishes_on_the_plan_that_it_began_with(app: Piecework, names: str) -> None:
    """Whatever a deployment makes of the plan: longer, shorter, another order."""
    ran: list[str] = []

    def work(step: Step) -> None:
        ran.append(step.name)

    def steps(names: str) -> list[Any]:
        return [a_step(work, name=name) for name in names]

    old = Declared(app, "fulfilment", {"main": [*steps("ab"), a_wait("go"), *steps("c")]}).start()
    drain(app)
    retired = [a_step(work, name=name) for name in "abc" if name not in names]
    new = Declared(app, "fulfilment", {"main": steps(names)}, retired=[*retired, a_wait("go")])
    old.signal("go")
    drain(app)
    assert ran == ["a", "b", "c"]
    assert old.state == "completed"
    ran.clear()
    new.start()
    drain(app)
    assert ran == list(names)


def test_an_older_plan_is_read_once_for_all_its_steps(app: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan may be long: to read it for each of its steps would make each as dear as all of them are many."""
    read: list[str] = []

    def counted(text: str) -> Plan:
        read.append(text)
        return read_plan(text)

    def work(step: Step) -> None:
        pass

    steps = [a_step(work, name=name) for name in "abcde"]
    old = Declared(app, "fulfilment", {"main": [a_wait("go"), *steps]}).start()
    drain(app)
    Declared(app, "fulfilment", {"main": [*steps, a_wait("go")]})
    monkeypatch.setattr("piecework.engine.spots.read_plan", counted)
    old.signal("go")
    drain(app)
    assert (old.state, len(read)) == ("completed", 1)


def test_a_step_that_was_renamed_is_found_by_the_name_it_had(app: Piecework) -> None:
    ran: list[str] = []

    def old_check(step: Step) -> None:
        ran.append("old")

    def new_setup(step: Step) -> None:
        ran.append(step.name)

    def check(step: Step) -> None:
        ran.append("new")
        step.jump_to(new_setup)  # today's name; the plan has the one of before

    was = {
        "main": [
            a_wait("go"),
            a_step(old_check, name="check"),
            a_step(nothing, name="between"),
            a_step(nothing, name="setup"),
        ]
    }
    op = Declared(app, "fulfilment", was).start()
    drain(app)
    now = {"main": [a_wait("go"), a_step(check), a_step(nothing, name="between"), a_step(new_setup)]}
    Declared(app, "fulfilment", now, aliases={"setup": "new_setup"})
    op.signal("go")
    drain(app)
    assert ran == ["new", "setup"]
    assert op.state == "completed"


def test_a_step_that_the_code_does_not_know_parks_the_operation_until_it_does(app: Piecework) -> None:
    op = Declared(app, "fulfilment", {"main": [nothing, a_step(nothing, name="second"), a_wait("end")]}).start()
    Declared(app, "fulfilment", {"main": [nothing]})
    drain(app)
    assert op.state == "parked"
    assert op.record.reason is not None
    assert "has no step of that name" in op.record.reason
    assert op.record.cursor == "main/second/2"
    drain(app)
    assert op.state == "parked"  # the same code knows it no better
    Declared(app, "fulfilment", {"main": [nothing]}, retired=[a_step(nothing, name="second"), a_wait("end")])
    with app.worker():
        until(lambda: op.state == "waiting")
    assert op.walked == ["main/nothing", "main/second"]


def test_a_name_that_was_a_task_and_became_an_operation_is_parked_and_the_other_way(app: Piecework) -> None:
    declared = Declared(app, "both", {"main": [nothing]})
    op = declared.start()

    @app.task(name="was")
    def was() -> None:
        raise AssertionError("not to be called")

    job = was.later()
    Declared(app, "was", {"main": [nothing]})
    app.registry._tasks.pop("both")

    @app.task(name="both")
    def both() -> None:
        raise AssertionError("not to be called")

    drain(app)
    assert (op.state, job.state) == ("parked", "parked")
    assert "is no operation" in str(op.record.reason)
    assert "the job is none" in str(job.record().reason)


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_that_was_moved_by_hand_goes_on_from_there(app: Piecework) -> None:
    """Past the step that cannot be done, whether it jumped or that was skipped; also where the code has lost the step."""
    ran: list[str] = []

    def work(step: Step) -> None:
        ran.append(step.name)
        if step.name == "b":
            raise ValueError("b cannot be done")

    for what, cursor in (("jumped", "main/c/3"), ("skipped", "main/b/2/skip")):
        declared = Declared(app, what, {"main": [a_step(work, name=name) for name in "abc"]}, attempts=1)
        op = declared.start()
        drain(app)
        assert op.state == "failed"
        assert op.amend(what, cursor=cursor) == "ok"
        app.store.retry(Filter(ids=(op.id,)))
        drain(app)
        assert ran == ["a", "b", "c"]
        assert op.state == "completed"
        assert ("main/b/2/skip skipped" in op.story) == (what == "skipped")
        ran.clear()
