"""What is done to operations by hand: signals, skips, jumps, edits, forks, undoing; and how they are found and told apart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from operation_steps import Steps, names, told
from support import books

from piecework import Duplicate, JobCancelled, Operation, Piecework, State, Step, step, wait_for
from piecework.changed import Changed
from piecework.errors import BadArguments, BadOption, JobNotFound, NotSerializable, TooLarge, UsageError
from piecework.job import Answer, Filter, Record
from piecework.operationquery import OperationQuery
from piecework.testing.drain import drain


@dataclass
class Amount:
    cents: int = 0


Until = Callable[[Callable[[], object]], None]


def boom(step: Step[Any]) -> None:
    raise ValueError("boom")


def done_by_hand(op: Operation[Any]) -> list[tuple[str, str]]:
    assert all("@" in line.by or line.by == "ann" for line in op.amendments())
    return [(line.what, line.reason) for line in op.amendments()]


@pytest.mark.parametrize("one", [False, True])
def test_what_is_done_through_the_jobs_leaves_a_line_with_operations_too(
    app: Piecework, steps: Steps, one: bool
) -> None:
    @app.task
    def plain() -> None:
        """A job of another kind: it keeps its cancellation, and has no such lines."""

    op, job = app.operation("f", main=[steps.charge]).later(), plain.later()
    jobs = app.jobs.where(queue="default")

    def each(act: Callable[[Any], object]) -> None:
        assert [act(found) for found in list(jobs)] == [True, True] if one else act(jobs) == 2

    each(lambda found: found.cancel("too early", by="ann"))
    each(lambda found: found.resume())
    each(lambda found: found.cancel("again"))
    each(lambda found: found.retry())
    assert done_by_hand(op) == [("cancelled", "too early"), ("resumed", ""), ("cancelled", "again"), ("retried", "")]
    assert job.state is op.state is State.AVAILABLE
    assert (jobs.retry(), len(op.amendments())) == (0, 4)
    jobs.cancel("x")
    jobs.retry("because", by="bob")
    assert [(line.what, line.reason, line.by) for line in op.amendments()][-1] == ("retried", "because", "bob")


@pytest.mark.parametrize("verb", ["retry", "skip"])
def test_of_many_at_once_each_that_did_something_leaves_a_line(app: Piecework, verb: str) -> None:
    op = app.operation("f", main=[step(boom, attempts=1), step(boom, name="next", delay=60)]).later()
    drain(app)
    began, said = threading.Barrier(8), list[object]()

    def act() -> None:
        began.wait()
        try:
            said.append(bool(getattr(op, verb)()))
        except UsageError as error:
            said.append(str(error))

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(op.amendments()) == said.count(True)
    if verb == "retry":
        assert (said.count(True), said.count(False)) == (1, 7)
    assert op.state is State.AVAILABLE


def test_a_retry_that_met_another_one_is_no_refusal(app: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    op = app.operation("f", main=[step(boom, attempts=1)]).later()
    drain(app)
    retry, calls = app.store.retry, list[str]()

    def meets_another(which: Any, **said: Any) -> int:
        calls.append(said["by"])
        if len(calls) > 1:
            return retry(which, **said)
        assert retry(which, **{**said, "by": "bob"}) == 1  # who is first; it fails again before anybody looks
        drain(app)
        return 0

    monkeypatch.setattr(app.store, "retry", meets_another)
    assert op.retry(by="ann") is True
    assert ([line.by for line in op.amendments()], op.state) == (["bob", "ann"], State.AVAILABLE)


def test_what_is_refused_leaves_no_line_and_is_not_moved(app: Piecework) -> None:
    failing = app.operation("f", main=[step(boom, attempts=1), step(boom, name="next")])
    op = failing.using(key="k").later()
    drain(app)

    @app.task
    def other() -> None: ...

    other.using(key="k").later()
    for act in (op.retry, op.skip, lambda: op.jump_to("next")):
        with pytest.raises(UsageError, match="key 'k' is carried by another"):
            act()
    assert (op.amendments(), op.status) == ([], "failed at main/boom")


def test_a_cancelled_one_that_cannot_be_resumed_says_why(app: Piecework, steps: Steps) -> None:
    charging = app.operation("f", main=[steps.charge])
    op = charging.using(key="k").later()
    op.cancel()
    charging.using(key="k", again=True).later()
    with pytest.raises(UsageError, match="cannot be resumed: its unique key 'k' is carried by another"):
        op.resume()
    done = charging.where().resume()
    assert (done, done.left, [id for id, why in done.refused if "'k'" in why]) == (0, 1, [op.id])
    assert done_by_hand(op) == [("cancelled", "cancelled by its caller")]


def test_an_operation_that_was_undone_is_left_by_verbs_for_many_jobs(app: Piecework, steps: Steps) -> None:
    charging = app.operation("f", main=[steps.charge])
    undone = charging.later()
    undone.cancel(undo=True)
    drain(app)
    stopped = charging.later()
    stopped.cancel()
    done = app.jobs.where(queue="default").retry()
    assert (undone.state, done, done.left) == (State.CANCELLED, 1, 1)
    assert done.refused == [
        (undone.id, f"operation {undone.id} was undone; fork it, let it jump_to a step, or start another")
    ]
    assert [done_by_hand(op)[-1][0] for op in (undone, stopped)] == ["undoing", "retried"]


# ── signals ──────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_waits_for_a_signal_and_takes_its_payload(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge, wait_for("approval"), steps.email]).later()
    drain(app)
    assert (op.status, op.waits_for, op.state) == ("waiting for approval", "approval", State.WAITING)
    assert op.signal("other") is True
    drain(app)
    assert op.status == "waiting for approval"
    assert op.signal("approval", {"by": "ann"}, by="ann") is True
    drain(app)
    assert op.result(timeout=0) == {"approval": {"by": "ann"}}
    assert op.signal("approval") is False  # it has completed
    assert [(e.signal, e.by) for e in op.timeline() if e.what == "signal"][1] == ("approval", "ann")


def test_a_signal_before_the_wait_is_kept_and_the_oldest_taken_first(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[wait_for("go", into="a"), wait_for("go", into="b", name="again")]).later()
    for n in (1, 2, 3):
        op.signal("go", n)
    drain(app)
    assert op.result(timeout=0) == {"a": 1, "b": 2}


def test_a_wait_that_is_over_leads_elsewhere_or_fails(app: Piecework, steps: Steps, leaping: LeapingClock) -> None:
    one = app.operation("f", main=[wait_for("ok", timeout=60, otherwise="late")], late=[steps.email]).later()
    other = app.operation("g", main=[wait_for("ok", timeout=60)]).later()
    drain(app)
    leaping.leap(61)
    drain(app)
    assert (one.status, told(one)[0][2]) == ("completed", "timed out")
    assert steps.ran == ["email"]
    assert other.error is not None
    assert "no signal 'ok' came within 60 s" in other.error.message


def test_a_signal_that_comes_too_late_is_taken_by_a_retry(app: Piecework, steps: Steps, leaping: LeapingClock) -> None:
    op = app.operation("f", main=[wait_for("ok", timeout=60)]).later()
    drain(app)
    leaping.leap(60)
    drain(app)
    assert op.state is State.FAILED
    assert op.signal("ok", "late, but well") is True
    assert op.state is State.FAILED
    assert op.retry("it came") is True
    drain(app)
    assert op.result(timeout=0) == {"ok": "late, but well"}


@pytest.mark.elsewhere(shelf=())
def test_waiting_is_not_done_now(app: Piecework, steps: Steps) -> None:
    with pytest.raises(UsageError, match="waits for a signal in its step 'ok'"):
        app.operation("f", main=[steps.charge, wait_for("ok")])()
    assert steps.ran == []


@pytest.mark.elsewhere(shelf=())
def test_a_signal_that_cannot_travel_is_refused(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[wait_for("ok")]).later()
    with pytest.raises(NotSerializable):
        op.signal("ok", object())
    with pytest.raises(BadArguments):
        op.signal("", 1)
    with pytest.raises(JobNotFound):
        Operation(app, "01a1fe00-0000-7000-8000-000000000000").signal("ok")
    assert app.store.signals(op.id) == []


# ── moved by hand ────────────────────────────────────────────────────────────────────────────────


def test_a_failed_step_is_skipped_and_the_rest_goes_on(app: Piecework, steps: Steps) -> None:
    steps.acts["set_up"] = boom
    op = app.operation("f", main=[steps.charge, steps.set_up, steps.email], attempts=1).later()
    drain(app)
    assert op.skip("done by phone", by="ann").step == "set_up"
    drain(app)
    assert (op.status, names(op)) == ("completed", ["charge", "email"])
    assert [(view.name, view.state) for view in op.steps] == [
        ("charge", "completed"),
        ("set_up", "skipped"),
        ("email", "completed"),
    ]
    assert done_by_hand(op) == [("skipped", "done by phone")]


def test_a_step_is_not_skipped_in_the_place_of_the_one_before_it(
    app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be skipped ends by itself at this very moment; that the next one is skipped nobody has asked for."""
    op = app.operation("f", main=[wait_for("ok"), step(steps.charge, delay=60)]).later()
    drain(app)
    amend = app.store.amend

    def late(*said: Any) -> Answer:
        monkeypatch.undo()
        op.signal("ok")
        drain(app)
        return amend(*said)

    monkeypatch.setattr(app.store, "amend", late)
    with pytest.raises(UsageError, match="has moved on from where it was found: scheduled: main/charge"):
        op.skip()
    assert (op.status, op.amendments()) == ("scheduled: main/charge", [])


def test_the_last_step_can_be_skipped_too_and_a_wait(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[wait_for("ok"), step(steps.email, delay=600)]).later()
    drain(app)
    op.skip()
    drain(app)
    assert op.status == "scheduled: main/email"
    op.skip()
    drain(app)
    assert (op.status, steps.ran) == ("completed", [])
    with pytest.raises(UsageError, match="has completed; there is nothing to skip"):
        op.skip()


def test_a_step_that_the_code_does_not_know_any_more_can_be_skipped(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge, steps.set_up, steps.email]).later()
    release = Piecework(app.settings.url)
    release.operation("f", main=[steps.charge, steps.email])
    drain(release)
    assert op.status == "parked at main/set_up"
    assert "unknown step 'set_up'" in (op.record().reason or "")
    op.skip("taken out")
    drain(release)
    assert (op.status, steps.ran) == ("completed", ["charge", "email"])
    release.close()


def test_an_operation_jumps_by_hand_and_its_visits_go_on_counting(app: Piecework, steps: Steps) -> None:
    steps.acts["set_up"] = boom
    op = app.operation(
        "f", main=[steps.charge, steps.set_up, steps.email], red=[step(steps.b1, queue="low")], attempts=1
    ).later()
    drain(app)
    place = op.jump_to("red", reason="a red one")
    assert (place.branch, place.step, place.visit) == ("red", "b1", 3)
    assert op.record().queue == "low"
    drain(app)
    assert told(op)[-1] == ("b1", 3, "completed", 1)
    with pytest.raises(UsageError, match="has completed"):
        op.jump_to(steps.charge)
    assert done_by_hand(op) == [("jumped", "a red one")]


@pytest.mark.elsewhere(shelf=())
def test_a_jump_by_hand_is_said_as_a_step_says_it(app: Piecework, steps: Steps) -> None:
    jumping = app.operation("f", main=[steps.charge, steps.email], red=[steps.b1, steps.email], max_steps=50)
    op = jumping.later()
    for target in ("red", {"red": steps.b1}, steps.b1, {"red": "b1"}):
        place = op.jump_to(target)
        assert (place.branch, place.step) == ("red", "b1")
    assert jumping.where().jump_to({"main": steps.email}) == 1
    assert op.status == "due: main/email"
    for wrong in ({}, {"red": steps.b1, "main": steps.email}, {"red": None}):
        with pytest.raises(BadArguments, match="jump_to: a dict"):
            op.jump_to(wrong)
        with pytest.raises(BadArguments, match="jump_to: a dict"):
            jumping.where().jump_to(wrong)


def test_steps_that_were_left_before_anything_ran_there_are_skipped(app: Piecework, steps: Steps) -> None:
    moved = app.operation("f", main=[steps.charge, wait_for("approval"), steps.email], red=[steps.b1]).later()
    drain(app)
    moved.jump_to("red")  # away from a wait …
    moved.jump_to("main", "email")  # … and from a step that was due
    assert [(view.visit, view.name, view.state) for view in moved.steps] == [
        (1, "charge", "completed"),
        (2, "approval", "skipped"),
        (3, "b1", "skipped"),
        (4, "email", "pending"),
    ]
    drain(app)
    assert [view.state for view in moved.steps] == ["completed", "skipped", "skipped", "completed"]


def test_a_first_step_that_was_left_before_it_ran_is_shown_also_where_all_is_undone(
    app: Piecework, steps: Steps
) -> None:
    op = app.operation("f", main=[steps.charge, steps.email]).later()
    op.skip()
    op.cancel(undo=True)
    drain(app)
    assert (op.state, [view.state for view in op.steps]) == (State.CANCELLED, ["skipped", "pending"])


def test_a_jump_may_leave_it_as_it_is_until_it_is_retried(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = boom
    op = app.operation("f", main=[steps.charge, steps.email], attempts=1).later()
    drain(app)
    op.jump_to("email", resume=False)
    assert op.status == "failed at main/email"
    assert op.retry() is True
    drain(app)
    assert op.status == "completed"


def test_what_runs_is_not_moved(app: Piecework, steps: Steps) -> None:
    reached, go = threading.Event(), threading.Event()

    def slow(step: Step[Any]) -> None:
        reached.set()
        assert go.wait(20)

    steps.acts["charge"] = slow
    op = app.operation("f", main=[steps.charge, steps.email]).later()
    with app.worker(concurrency=1):
        assert reached.wait(20)
        for move in (op.skip, lambda: op.jump_to("email")):
            with pytest.raises(UsageError, match=r"runs a step \(main/charge\); cancel it first"):
                move()
        go.set()
        op.result(timeout=20)
    assert op.amendments() == []


def test_edits_are_checked_and_leave_a_line(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge]).using(delay=600).later(n=1)
    op.set({"odd name": [1]}, n=2, reason="a slip", by="ann")
    op.unset("n")
    assert op.globals == {"odd name": [1]}
    for wrong in (lambda: op.set(x=object()), lambda: op.unset("zz"), lambda: op.set(), lambda: op.set(x=1, reason=7)):  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(BadArguments, match="the limit is"):
        op.set(x="y" * 2_000_000)
    assert done_by_hand(op) == [("edited", "a slip"), ("edited", "")]


def test_globals_that_came_to_be_too_large_together_keep_no_step_from_going_on(app: Piecework) -> None:
    most = app.settings.max_payload
    found: list[Operation[Any]] = []

    def large(step: Step[Any]) -> None:
        found[0].set(by_hand="y" * (most * 6 // 10))
        step["own"] = "x" * (most * 6 // 10)

    def same(step: Step[Any]) -> None:
        step["own"] = "z" * (most * 6 // 10)

    def grows(step: Step[Any]) -> None:
        if "more" in step["told"]:
            step["more"] = 1

    found.append(app.operation("f", main=[large, same, step(grows, attempts=1)]).later(told=["more"]))
    op = found[0]
    drain(app)
    assert (op.status, op.error and op.error.type) == ("failed at main/grows", "piecework.errors.TooLarge")
    with pytest.raises(TooLarge):
        op.set(more=2)
    op.set(told=[])
    op.retry()
    drain(app)
    assert (op.status, op.globals["own"][0]) == ("completed", "z")


def test_what_is_set_while_the_last_step_of_a_piece_runs_is_in_its_result(app: Piecework) -> None:
    def last(step: Step[Any]) -> None:
        next(iter(inner.where(n=1))).set(by_hand=True)
        step["last"] = True

    inner = app.operation("inner", main=[last])

    def offer(step: Step[Any]) -> Any:
        yield inner.piece(n=1)

    def join(pieces: Any, step: Step[Any]) -> list[Any]:
        return list(pieces.results())

    op = app.operation("f", main=[step(offer, compose=join, into="came")]).later()
    drain(app)
    assert op.globals == {"came": [{"n": 1, "by_hand": True, "last": True}]}


# ── cancelled, undone ────────────────────────────────────────────────────────────────────────────


def undos(ran: list[str], *names: str) -> dict[str, Callable[[Step[Any]], None]]:
    def make(name: str) -> Callable[[Step[Any]], None]:
        def undo(step: Step[Any]) -> None:
            ran.append(f"undo {name}" + (f" after {step.error.message}" if step.error else ""))

        undo.__name__ = f"undo_{name}"
        return undo

    return {name: make(name) for name in names}


def test_a_failure_for_good_undoes_what_completed_newest_first_now_and_later(app: Piecework, steps: Steps) -> None:
    steps.acts["email"] = boom
    back = undos(steps.ran, "charge", "set_up")
    main = [step(steps.charge, undo=back["charge"]), step(steps.set_up, undo=back["set_up"]), steps.email]
    fulfil = app.operation("f", main=main, attempts=1)
    op = fulfil.later()
    drain(app)
    expected = ["charge", "set_up", "email", "undo set_up after boom", "undo charge after boom"]
    assert steps.ran == expected
    assert op.status == "failed"
    assert op.failed_at is not None
    assert op.failed_at.step == "email"
    assert [(view.name, view.state) for view in op.steps] == [
        ("charge", "undone"),
        ("set_up", "undone"),
        ("email", "failed"),
    ]
    with pytest.raises(UsageError, match="was undone; fork it"):
        op.retry()
    with pytest.raises(UsageError, match="undoes what it did"):
        op.skip()
    steps.ran.clear()
    with pytest.raises(ValueError, match="boom"):
        fulfil()
    assert steps.ran == expected


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_a_cancelled_operation_is_undone_if_that_is_asked_for(app: Piecework, steps: Steps, tmp_path: Path) -> None:
    back = undos(steps.ran, "charge")
    fulfil = app.operation("f", main=[step(steps.charge, undo=back["charge"]), wait_for("ok"), steps.email])
    kept, undone = fulfil.later(), fulfil.later()
    drain(app)
    assert kept.cancel("not yet") is True
    assert undone.cancel("withdrawn", undo=True, by="ann") is True
    drain(app)
    assert steps.ran == ["charge", "charge", "undo charge"]
    with pytest.raises(JobCancelled, match="withdrawn"):
        undone.result(timeout=0)
    assert (kept.status, done_by_hand(kept)) == ("cancelled at main/ok", [("cancelled", "not yet")])
    assert done_by_hand(undone) == [("undoing", "withdrawn")]
    assert kept.resume() is True
    kept.signal("ok")
    drain(app)
    assert (kept.status, kept.resume(), kept.cancel()) == ("completed", False, False)
    assert books(tmp_path / "jobs.db") == []


def test_an_undone_operation_may_jump_and_go_on(app: Piecework, steps: Steps) -> None:
    steps.acts["email"] = boom
    back = undos(steps.ran, "charge")
    op = app.operation("f", main=[step(steps.charge, undo=back["charge"]), steps.email], attempts=1).later()
    drain(app)
    steps.acts.clear()
    op.jump_to("charge", reason="once more")
    drain(app)
    assert (op.status, steps.ran) == ("completed", ["charge", "email", "undo charge after boom", "charge", "email"])
    assert [run.visit for run in op.runs() if run.outcome == "completed"] == [1, 3, 4]


# ── forks ────────────────────────────────────────────────────────────────────────────────────────


def test_a_fork_goes_on_behind_a_completed_step_with_the_globals_of_then(app: Piecework, steps: Steps) -> None:
    steps.acts |= {"charge": lambda step: step.set("paid", step["n"]), "set_up": boom}
    fulfil = app.operation("f", main=[steps.charge, steps.set_up, steps.email], attempts=1)
    op = fulfil.later(n=1)
    drain(app)
    op.set(later="edit")
    steps.acts.clear()
    fork = op.fork(after=steps.charge, n=5)
    assert (fork.globals, fork.forked_from, fork.kept().forked_after) == ({"n": 5, "paid": 1}, op.id, 1)
    drain(app)
    assert told(fork) == [("set_up", 2, "completed", 1), ("email", 3, "completed", 1)]
    assert steps.ran == ["charge", "set_up", "set_up", "email"]
    assert op.status == "failed at main/set_up"  # it stays as it was
    anew = op.fork(n=9)
    assert anew.globals == {"n": 9}
    drain(app)
    assert names(anew) == ["charge", "set_up", "email"]
    with pytest.raises(UsageError, match="has no completed step 'set_up'"):
        op.fork(after="set_up")
    with pytest.raises(UsageError, match="there is nothing behind it"):
        fork.fork(after=3)


def test_a_fork_follows_the_jump_that_was_made(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = lambda step: step.jump_to("red")
    op = app.operation("f", main=[steps.charge, steps.email], red=[steps.set_up_red]).later()
    drain(app)
    op.fork(after=1)
    drain(app)
    assert steps.ran == ["charge", "set_up_red", "set_up_red"]


# ── found ────────────────────────────────────────────────────────────────────────────────────────

GLOBALS = {"subscription_id": 7, "tags": ["a", "b", "c"], "o": {"p": 1, "q": 2}}


@pytest.mark.parametrize(
    ("part", "n"),
    [
        ({"subscription_id": 7}, 1),
        ({"subscription_id": "7"}, 0),
        ({}, 1),
        ({"tags": ["c", "a"]}, 1),
        ({"tags": ["z"]}, 0),
        ({"o": {"p": 1}}, 1),
        ({"o": {"p": 2}}, 0),
        ({"zz": 1}, 0),
        ({"subscription_id": 7, "o": {}}, 1),
    ],
)
def test_operations_are_found_by_what_their_globals_contain(
    app: Piecework, steps: Steps, part: dict[str, Any], n: int
) -> None:
    fulfil, other = app.operation("f", main=[steps.charge]), app.operation("g", main=[steps.charge])
    op = fulfil.later(GLOBALS)
    other.later(subscription_id=8)
    found = fulfil.where(part)
    assert (found.count(), list(found)) == (n, [op] * n)
    assert found.first() == (op if n else None)
    assert other.where(part).count() == (part == {})


def test_operations_are_found_by_what_their_globals_are_now(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("f", main=[steps.charge, wait_for("ok")])
    steps.acts["charge"] = lambda step: step.update(n=step["n"] + 1, new=True)
    ops = fulfil.later_many([{"n": n} for n in range(3)])
    drain(app)
    assert list(fulfil.where(n=1)) == [ops[0]]
    assert fulfil.where(new=True).count() == app.operations.where(new=True).count() == 3
    for asked in (fulfil.where, app.operations.where):
        with pytest.raises(BadArguments, match="where: globals are given by name"):
            asked(5)  # type: ignore[arg-type]
    ops[0].set(n="one")
    assert (fulfil.where(n=1).first(), fulfil.where(n="one").first()) == (None, ops[0])
    assert fulfil.where().only(step="ok", state="waiting").count() == 3
    assert fulfil.where(n=3).only(step="charge").count() == 0
    with pytest.raises(UsageError, match="no state 'waitng'"):
        fulfil.where().only(state="waitng")


@dataclass
class Order:
    n: int
    when: datetime | None = None


def test_operations_with_a_state_are_found_and_edited_by_its_own_values(app: Piecework, steps: Steps) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    fulfil = app.operation("f", main=[steps.charge], state=Order)
    op = fulfil.later(Order(7, moment))
    assert (fulfil.where(when=moment).first(), fulfil.where(when=None).first()) == (op, None)
    op.set(when=None)
    assert (op.values, fulfil.where(when=None).first()) == (Order(7), op)
    for wrong in (lambda: op.set(n="seven"), lambda: op.unset("n"), lambda: op.set(when=object())):
        with pytest.raises(BadArguments):
            wrong()
    drain(app)
    assert op.result(timeout=0) == Order(7)


def test_verbs_act_on_all_that_are_found_and_leave_a_line_with_each(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = lambda step: boom(step) if step["n"] < 2 else None
    fulfil = app.operation("f", main=[steps.charge, wait_for("ok")], attempts=1)
    ops = fulfil.later_many([{"n": n} for n in range(4)])
    drain(app)
    failed = fulfil.where().only(state="failed")
    assert (failed.count(), fulfil.where().retry("again"), failed.count()) == (2, 2, 0)
    drain(app)
    assert fulfil.where().only(state="failed").set(n=7, reason="all") == 2
    assert fulfil.where(n=7).skip("by hand", by="ann") == 2
    drain(app)
    assert fulfil.where().only(step="ok").count() == 4
    assert fulfil.where(n=2).cancel("no") == 1
    assert fulfil.where().signal("ok", 1) == 4  # the one that was cancelled keeps it, should it be retried
    drain(app)
    assert [op.status for op in ops] == ["completed", "completed", "cancelled at main/ok", "completed"]
    assert done_by_hand(ops[0]) == [("retried", "again"), ("edited", "all"), ("skipped", "by hand")]
    skipped = fulfil.where().skip()
    assert skipped == 1
    there_is_nothing = "has completed; there is nothing to skip"
    assert skipped.refused == [(op.id, f"operation {op.id} {there_is_nothing}") for op in (ops[0], ops[1], ops[3])]
    assert fulfil.where().retry().refused == []  # they are none of those that it retries
    assert fulfil.where().unset("zz") == 0


@pytest.mark.parametrize("verb", ["skip", "jump_to", "set", "cancel", "signal"])
def test_one_that_has_moved_on_since_it_was_found_is_not_touched(
    app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """A page of operations is read at once; some come to another step before it is their turn."""
    fulfil = app.operation("f", main=[wait_for("ok"), step(steps.charge, delay=60), steps.email])
    moves, stays = fulfil.later(), fulfil.later()
    drain(app)
    find = app.store.find

    def found(which: Filter, **more: Any) -> list[Record]:
        page = find(which, **more)
        if which.operations:
            monkeypatch.undo()  # a worker asks, too
            moves.signal("ok")
            drain(app)
        return page

    monkeypatch.setattr(app.store, "find", found)
    asked: dict[str, Callable[[OperationQuery[Any]], Changed]] = {
        "skip": lambda some: some.skip(),
        "jump_to": lambda some: some.jump_to("email"),
        "set": lambda some: some.set(n=1),
        "cancel": lambda some: some.cancel(),
        "signal": lambda some: some.signal("other"),
    }
    done = asked[verb](fulfil.where().only(step="ok"))
    assert (done, moves.status, list(moves.globals)) == (1, "scheduled: main/charge", ["ok"])
    assert done.refused == [
        (moves.id, f"operation {moves.id} has moved on from where it was found: scheduled: main/charge")
    ]
    assert [line.what for line in stays.amendments()] or [event.signal for event in stays.timeline()] == ["other"]


def test_of_many_that_refuse_the_first_are_named(app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piecework.deeds.MOST_REFUSED", 2)
    fulfil = app.operation("f", main=[steps.charge])
    ops = fulfil.later_many([{}] * 3)
    drain(app)
    jumped = fulfil.where().jump_to("charge")
    assert (jumped, [id for id, _ in jumped.refused]) == (0, [op.id for op in ops[:2]])


@pytest.mark.elsewhere(shelf=())
def test_one_of_many_that_an_edit_does_not_fit_hides_none_behind_it(store_url: str, steps: Steps) -> None:
    app = Piecework(store_url, max_payload=200)
    fulfil = app.operation("f", main=[steps.charge])
    typed = app.operation("typed", main=[steps.charge], state=Amount)
    for size in (1, 170, 1):
        fulfil.later(text="x" * size)
    typed.later()
    found = fulfil.where()
    full = list(found)[1]
    edited = found.set(more="y" * 30)
    assert (edited, edited.left, edited.refused[0][0]) == (2, 1, full.id)
    assert "limit is 200" in edited.refused[0][1]
    assert app.operations.where().set(more=None).left == 1  # the state of one has no such field
    taken = app.operations.where().unset("text")
    assert (taken, taken.refused) == (3, [])
    assert [len(op.amendments()) for op in app.operations] == [3, 2, 3, 0]
    for wrong in (lambda: found.set(more=object()), lambda: found.set(), lambda: typed.where().set(cents="x")):
        with pytest.raises(BadArguments):  # each of them says so: it is the call that is wrong
            wrong()
    with pytest.raises(BadOption, match="reason"):
        found.set(more=1, reason=7)  # type: ignore[arg-type]
    app.close()


# ── told apart ───────────────────────────────────────────────────────────────────────────────────


def test_a_second_start_with_a_key_gives_the_first_also_when_that_has_ended(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("f", main=[steps.charge])
    keyed = fulfil.using(key="order-7")
    op = keyed.later(n=1)
    assert keyed.later(n=2) == op
    drain(app)
    assert keyed.later(n=3) == op == fulfil.get(key="order-7")
    drain(app)
    assert steps.ran == ["charge"]
    with pytest.raises(Duplicate):
        keyed.using(on_duplicate="raise").later()
    anew = keyed.using(again=True).later(n=4)
    assert anew != op
    assert fulfil.get(key="order-7") == keyed.later(n=5) == anew
    assert keyed.using(again=True).later(n=6) == anew  # it has not ended
    with pytest.raises(JobNotFound):
        fulfil.get(key="order-8")


def test_a_key_that_another_kind_of_job_carries_is_an_error(app: Piecework, steps: Steps) -> None:
    @app.task
    def other() -> None: ...

    carried = other.using(key="k").later()
    with pytest.raises(Duplicate, match="which is no operation f, but"):
        app.operation("f", main=[steps.charge]).using(key="k").later()
    assert [job.id for job in app.jobs] == [carried.id]


def test_the_declared_name_is_the_stored_one_and_finds_it_and_so_does_one_it_had_before(
    app: Piecework, steps: Steps
) -> None:
    op = app.operation("before", main=[steps.charge]).later(n=1)
    renamed = Piecework(app.settings.url)
    fulfil = renamed.operation("after", main=[steps.charge], aliases=["before"])
    assert (op.task, fulfil.where(n=1).count(), fulfil.get(op.id)) == ("before", 1, op)
    drain(renamed)
    assert op.status == "completed"
    renamed.close()


def test_a_running_operation_finishes_on_the_plan_that_it_began_with(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge, wait_for("ok"), steps.set_up, steps.email]).later()
    drain(app)
    release = Piecework(app.settings.url)
    fulfil = release.operation(
        "f", main=[steps.b1, wait_for("ok"), step(steps.b2, aliases=["set_up"])], retired=[steps.email]
    )
    op.signal("ok")
    drain(release)
    assert steps.ran == ["charge", "b2", "email"]
    assert fulfil.later().plan.branches == {"main": ("b1", "ok", "b2")}
    assert op.plan.branches == {"main": ("charge", "ok", "set_up", "email")}
    release.close()


def test_jobs_that_are_operations_come_as_such(app: Piecework, steps: Steps) -> None:
    @app.task
    def other() -> None: ...

    op, job = app.operation("f", main=[steps.charge]).later(), other.later()
    assert [type(found).__name__ for found in app.jobs] == ["Operation", "Job"]
    assert isinstance(app.jobs.get(op.id), Operation)
    assert app.operations.get(op.id) == op
    assert list(app.operations) == [op]
    with pytest.raises(JobNotFound, match="or is a job of another kind"):
        app.operations.get(job.id)
    other_app = Piecework(app.settings.url)  # one that declares nothing
    assert isinstance(other_app.jobs.get(op.id), Operation)
    other_app.close()


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_a_started_operation_is_stored_with_the_callers_transaction(
    app: Piecework, steps: Steps, tmp_path: Path
) -> None:
    import sqlite3

    fulfil = app.operation("f", main=[steps.charge])
    app.store.migrate()
    con = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    for end, n in (("ROLLBACK", 0), ("COMMIT", 1)):
        con.execute("BEGIN IMMEDIATE")
        fulfil.using(within=con).later(n=1)
        con.execute(end)
        assert fulfil.where(n=1).count() == n
    con.close()
    drain(app)
    assert steps.ran == ["charge"]


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_two_workers_at_once_run_each_step_once(app: Piecework, steps: Steps, tmp_path: Path) -> None:
    fulfil = app.operation("f", main=[steps.charge, steps.set_up, steps.email])
    ops = fulfil.later_many([{"n": n} for n in range(40)])
    with app.worker(concurrency=4), app.worker(concurrency=4, name="other"):
        for op in ops:
            op.result(timeout=30)
    assert sorted(steps.ran) == ["charge"] * 40 + ["email"] * 40 + ["set_up"] * 40
    assert all(
        told(op) == [("charge", 1, "completed", 1), ("set_up", 2, "completed", 1), ("email", 3, "completed", 1)]
        for op in ops
    )
    assert books(tmp_path / "jobs.db") == []


async def test_the_awaitable_twins_do_the_same(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("f", main=[steps.charge, wait_for("ok")], attempts=1)
    op = await fulfil.alater(n=1)
    assert len(await fulfil.alater_many([{"n": 2}])) == 1
    with app.worker(concurrency=2):
        assert await op.asignal("ok", 5) is True
        assert await op.aresult(timeout=20) == {"n": 1, "ok": 5}
    assert await fulfil.where().acount() == 2
    assert await fulfil.where(n=1).afirst() == op
    assert (await op.aretry(), await op.aresume(), await op.acancel()) == (False, False, False)
