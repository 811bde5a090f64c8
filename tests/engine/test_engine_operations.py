"""Operations on real workers: the sequence of steps, what a failure leaves, and the way through branches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from ops import SOON, Declared, a_step
from support import until

from piecework import Cancel, Fail, Piecework, Retry, Snooze, current
from piecework.job import ErrorInfo, Filter
from piecework.stepping import Step
from piecework.testing import drain


def noted(ran: list[str], name: str, act: Callable[[Step], Any] = lambda step: None) -> Callable[[Step], Any]:
    """A step that notes that it ran."""

    def step(step: Step) -> Any:
        ran.append(name)
        return act(step)

    step.__name__ = name
    return step


# ── in order ─────────────────────────────────────────────────────────────────────────────────────


def test_steps_run_in_order_each_once_and_what_one_sets_the_next_sees(app: Piecework) -> None:
    ran: list[tuple[str, int]] = []

    def charge(step: Step) -> None:
        ran.append(("charge", step["subscription_id"]))
        step["charge_id"] = "ch_7"

    def email(step: Step) -> None:
        ran.append(("email", step.attempt))
        assert step["charge_id"] == "ch_7"

    op = Declared(app, "fulfilment", {"main": [charge, email]}).start(subscription_id=7)
    assert drain(app) == 2
    assert ran == [("charge", 7), ("email", 1)]
    assert op.state == "completed"
    assert op.story == ["main/charge/1 completed", "main/email/2 completed"]
    assert [line.attempt for line in op.lines] == [1, 1]
    assert op.globals == {"subscription_id": 7, "charge_id": "ch_7"}
    assert op.record.finished_at == op.lines[-1].finished_at


@pytest.mark.elsewhere(shelf=())
def test_a_step_knows_where_it_is(app: Piecework) -> None:
    def look(step: Step) -> None:
        step["seen"] = [step.operation_id, step.branch, step.name, step.visit, step.attempt, current.id, current.run]

    op = Declared(app, "fulfilment", {"main": [a_step(lambda step: None, name="first"), look]}).start()
    drain(app)
    assert op.globals["seen"] == [op.id, "main", "look", 2, 1, op.id, 2]


def test_a_step_that_fails_is_tried_again_and_what_was_completed_is_not(app: Piecework) -> None:
    """Resume: the first attempt stays in the history, with its error; the operation shows none once the step is done."""
    ran: list[str] = []
    broken = [True]

    def set_up(step: Step) -> None:
        if broken[0]:
            step["half"] = "done"
            raise ValueError("boom")

    steps = [noted(ran, "charge"), noted(ran, "set_up", set_up), noted(ran, "email")]
    op = Declared(app, "fulfilment", {"main": steps}, attempts=1).start()
    drain(app)
    assert op.state == "failed"
    assert op.record.cursor == "main/set_up/2"
    assert op.record.error is not None
    assert (op.record.error.type, op.record.error.message) == ("ValueError", "boom")
    assert 'raise ValueError("boom")' in op.record.error.traceback
    assert op.globals == {}
    broken[0] = False
    assert app.store.retry(Filter(ids=(op.id,))) == 1
    drain(app)
    assert ran == ["charge", "set_up", "set_up", "email"]
    assert op.state == "completed"
    assert op.record.error is None
    assert op.story == [
        "main/charge/1 completed",
        "main/set_up/2 failed",
        "main/set_up/2 completed",
        "main/email/3 completed",
    ]


def test_every_step_has_its_own_attempts(app: Piecework) -> None:
    """Two that fail twice each, where three attempts are given; what was set before a raise is not seen by the next try."""
    attempts: list[tuple[str, int]] = []

    def flaky(step: Step) -> None:
        attempts.append((step.name, step.attempt))
        assert "set" not in step
        step["set"] = True
        if step.attempt < 3:
            raise ValueError("not yet")
        del step["set"]

    steps = [a_step(flaky, name="a"), a_step(flaky, name="b")]
    op = Declared(app, "fulfilment", {"main": steps}, attempts=3, **SOON).start()
    drain(app)
    assert op.state == "completed"
    assert attempts == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    assert [line.attempt for line in op.lines] == [1, 2, 3, 1, 2, 3]


@pytest.mark.elsewhere(shelf=())
def test_options_of_a_step_go_before_those_of_the_call_and_these_before_the_operations(app: Piecework) -> None:
    def fail(step: Step) -> None:
        raise ValueError(step.name)

    declared = Declared(app, "own", {"main": [a_step(fail, attempts=3)]}, attempts=1, **SOON)
    own, of_call = declared.start({"attempts": 2}), Declared(app, "of_call", {"main": [fail]}, attempts=1, **SOON)
    called, plain = of_call.start({"attempts": 2}), of_call.start()
    drain(app)
    assert [len(op.lines) for op in (own, called, plain)] == [3, 2, 1]


@pytest.mark.elsewhere(shelf=())
def test_the_value_of_a_plain_step_is_ignored_but_not_one_that_nobody_runs(app: Piecework) -> None:
    async def forgotten() -> None:
        raise AssertionError("nobody awaits it")

    ignored = Declared(app, "ignored", {"main": [a_step(lambda step: 42, name="a")]}).start()
    unawaited = Declared(app, "unawaited", {"main": [a_step(lambda step: forgotten(), name="a")]}).start()
    unrun = Declared(app, "unrun", {"main": [a_step(lambda step: (n for n in [1]), name="a")]}).start()
    drain(app)
    assert ignored.state == "completed"
    for op, said in ((unawaited, "returned a coroutine"), (unrun, "returned a generator")):
        assert op.state == "failed"
        assert op.record.error is not None
        assert said in op.record.error.message


# ── branches ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
def test_a_jump_leads_into_a_branch_and_of_two_the_last_counts(app: Piecework) -> None:
    """Check jumps to red, after which its code goes on; red says where it goes on itself."""
    ran: list[str] = []

    def check(step: Step) -> None:
        step.jump_to("blue")
        step.jump_to("red")
        step["after"] = "the jump"

    branches = {
        "main": [noted(ran, "check", check), noted(ran, "set_up"), noted(ran, "email")],
        "red": [noted(ran, "set_up_red")],
        "blue": [noted(ran, "set_up_blue")],
    }
    op = Declared(app, "fulfilment", branches, then={"red": "main/email"}).start()
    drain(app)
    assert ran == ["check", "set_up_red", "email"]
    assert op.walked == ["main/check", "red/set_up_red", "main/email"]
    assert op.globals == {"after": "the jump"}
    assert op.state == "completed"


@pytest.mark.elsewhere(shelf=())
def test_a_branch_that_says_nothing_ends_the_operation(app: Piecework) -> None:
    ran: list[str] = []
    check = noted(ran, "check", lambda step: step.jump_to("red"))
    op = Declared(app, "fulfilment", {"main": [check, noted(ran, "email")], "red": [noted(ran, "tell")]}).start()
    drain(app)
    assert ran == ["check", "tell"]
    assert op.state == "completed"


@pytest.mark.elsewhere(shelf=())
def test_a_jump_leads_to_a_step_by_name_function_or_place(app: Piecework) -> None:
    ran: list[str] = []
    b1, email = noted(ran, "b1"), noted(ran, "email")
    b2 = noted(ran, "b2", lambda step: step.jump_to(email))
    check = noted(ran, "check", lambda step: step.jump_to({"blue": "b2"}))
    op = Declared(app, "fulfilment", {"main": [check, noted(ran, "set_up"), email], "blue": [b1, b2]}).start()
    drain(app)
    assert ran == ["check", "b2", "email"]
    assert op.walked == ["main/check", "blue/b2", "main/email"]


@pytest.mark.elsewhere(shelf=())
def test_a_jump_forward_leaves_steps_out(app: Piecework) -> None:
    ran: list[str] = []
    a = noted(ran, "a", lambda step: step.jump_to("c"))
    op = Declared(app, "fulfilment", {"main": [a, noted(ran, "b"), noted(ran, "c")]}).start()
    drain(app)
    assert ran == ["a", "c"]
    assert op.state == "completed"


@pytest.mark.elsewhere(shelf=())
def test_a_jump_before_a_raise_is_forgotten(app: Piecework) -> None:
    ran: list[str] = []

    def check(step: Step) -> None:
        if step.attempt == 1:
            step.jump_to("red")
            raise ValueError("after the jump")

    branches = {"main": [noted(ran, "check", check), noted(ran, "email")], "red": [noted(ran, "tell")]}
    op = Declared(app, "fulfilment", branches, **SOON).start()
    drain(app)
    assert ran == ["check", "check", "email"]
    assert op.state == "completed"


def test_a_loop_has_a_visit_for_each_time(app: Piecework) -> None:
    def c(step: Step) -> None:
        step["rounds"] = step.get("rounds", 0) + 1
        if step["rounds"] < 3:
            step.jump_to("a")

    nothing = [a_step(lambda step: None, name=name) for name in ("a", "b")]
    op = Declared(app, "fulfilment", {"main": [*nothing, c]}).start()
    drain(app)
    assert op.story == [f"main/{'abc'[n % 3]}/{n + 1} completed" for n in range(9)]


def test_an_operation_that_goes_round_in_circles_fails_at_its_limit(app: Piecework) -> None:
    def again(step: Step) -> None:
        step.jump_to("again")

    op = Declared(app, "fulfilment", {"main": [again]}, max_steps=30).start()
    drain(app)
    assert op.state == "failed"
    assert op.record.error is not None
    assert op.record.error.type == "piecework.errors.StepLimit"
    assert "more than 30 steps" in op.record.error.message
    assert len(op.walked) == 30


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("target", ["nowhere", ["red"], None, {}, {"main": "a", "red": "a"}, {"red": "a"}, 7])
def test_a_jump_to_nowhere_is_the_steps_failure_and_moves_nothing(app: Piecework, target: Any) -> None:
    check = a_step(lambda step: step.jump_to(target), name="check", attempts=1)
    op = Declared(app, "fulfilment", {"main": [check, check_end], "red": [check_end]}).start()
    drain(app)
    assert op.state == "failed"
    assert op.record.cursor == "main/check/1"
    assert op.record.error is not None
    assert op.record.error.type == "piecework.errors.BadArguments"
    assert op.walked == []


def check_end(step: Step) -> None:
    """The end of a plan."""


# ── delays ───────────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_step_is_scheduled_and_holds_nobody(app: Piecework) -> None:
    """By its declaration, by the step before it, or at a moment; nothing of it is spent meanwhile."""
    declared = Declared(app, "declared", {"main": [check_end, a_step(lambda step: None, name="late", delay=600)]})
    slept = Declared(app, "slept", {"main": [a_step(lambda step: step.sleep(600), name="a"), check_end]})
    moment = app.clock.now() + 600
    timed = Declared(app, "timed", {"main": [check_end, a_step(lambda step: None, name="late", at=moment)]})
    started = [declared.start(), slept.start(), timed.start()]
    assert drain(app) == 3
    for op in started:
        record = op.record
        assert (op.state, record.attempt) == ("available", 0)
        assert 590 < record.run_at - app.clock.now() < 601


@pytest.mark.elsewhere(shelf=())
def test_a_moment_that_has_passed_delays_nothing(app: Piecework) -> None:
    op = Declared(app, "timed", {"main": [check_end, a_step(lambda step: None, name="late", at=1.0)]}).start()
    drain(app)
    assert op.state == "completed"


# ── what a step says, and how it ends ────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
def test_verdicts_of_a_step_do_what_they_do_in_tasks(app: Piecework) -> None:
    def saying(verdict: Any, *, raised: bool) -> Callable[[Step], Any]:
        def say(step: Step) -> Any:
            step["said"] = True
            if raised:
                raise verdict
            return verdict

        return say

    wanted = {"Retry": "retry", "Snooze": "snoozed", "Cancel": "cancelled", "Fail": "failed"}
    for verdict in (Retry(600, "busy"), Snooze(600, "busy"), Cancel("withdrawn"), Fail("refused")):
        for raised in (False, True):
            name = type(verdict).__name__
            op = Declared(app, f"{name}-{raised}", {"main": [a_step(saying(verdict, raised=raised), name="a")]}).start()
            drain(app)
            assert op.story == [f"main/a/1 {wanted[name]}"]
            assert op.record.attempt == (1 if name in ("Retry", "Fail") else 0)
            assert op.globals == {}


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_what_would_end_a_process_ends_one_step(app: Piecework, error: BaseException) -> None:
    def leave(step: Step) -> None:
        step["left"] = True
        raise error

    async def leave_loop(step: Step) -> None:
        leave(step)

    for step in (leave, leave_loop):
        op = Declared(app, step.__name__, {"main": [a_step(step, attempts=1)]}).start()
        drain(app)
        assert op.state == "failed"
        assert op.record.error is not None
        assert type(error).__name__ in op.record.error.type
        assert op.globals == {}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * 5_000_000])
def test_an_error_of_any_text_is_recorded(app: Piecework, text: str) -> None:
    def fail(step: Step) -> None:
        raise ValueError(text)

    op = Declared(app, "fulfilment", {"main": [fail]}, attempts=1).start()
    drain(app)
    assert op.state == "failed"
    assert isinstance(op.record.error, ErrorInfo)
    assert op.record.error.message.startswith(text[0])
    assert len(op.record.error.message) < 3000
    assert op.story == ["main/fail/1 failed"]


@pytest.mark.elsewhere(shelf=())
def test_globals_that_cannot_be_kept_fail_their_step_at_once(app: Piecework) -> None:
    def too_much(step: Step) -> None:
        step["text"] = "x" * 2_000_000

    def strange(step: Step) -> None:
        step["when"] = object()

    def spoiled(step: Step) -> None:
        step["list"] = []
        step["list"].append({1, 2})

    for step in (too_much, strange, spoiled):
        op = Declared(app, step.__name__, {"main": [step]}).start()
        drain(app)
        assert op.story == [f"main/{step.__name__}/1 failed"]
        assert op.globals == {}


@pytest.mark.elsewhere(shelf=())
def test_the_timeout_of_a_step_is_its_own(app: Piecework) -> None:
    async def quick(step: Step) -> None:
        await asyncio.sleep(0.2)

    async def slow(step: Step) -> None:
        await asyncio.sleep(60)

    op = Declared(app, "fulfilment", {"main": [quick, a_step(slow, timeout=0.1)]}, timeout=30, attempts=1).start()
    drain(app)
    assert op.walked == ["main/quick"]
    assert op.record.error is not None
    assert op.record.error.type == "piecework.errors.JobTimeout"
    assert "timeout of 0.1 s" in op.record.error.message


@pytest.mark.elsewhere(shelf=())
def test_async_steps_and_plain_ones_follow_each_other(app: Piecework) -> None:
    async def fetch(step: Step) -> None:
        await asyncio.sleep(0)
        step["page"] = step["url"] + "!"

    def keep(step: Step) -> None:
        step["kept"] = step["page"]

    op = Declared(app, "fulfilment", {"main": [fetch, keep, a_step(fetch, name="again")]}).start(url="/")
    drain(app)
    assert op.walked == ["main/fetch", "main/keep", "main/again"]
    assert op.globals == {"url": "/", "page": "/!", "kept": "/!"}


# ── tasks as steps ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
def test_a_task_as_a_step_takes_globals_by_name_and_its_result_becomes_one(app: Piecework) -> None:
    @app.task(name="charge")
    def charge(amount: int, currency: str = "EUR") -> str:
        return f"{amount} {currency}"

    @app.task(name="send")
    async def send(charged: str) -> None:
        assert charged == "5 EUR"

    steps = [a_step(charge, into="charged"), send, a_step(charge, name="again")]
    op = Declared(app, "fulfilment", {"main": [steps[0], a_step(send), steps[2]]}).start(amount=5, other=1)
    drain(app)
    assert op.state == "completed"
    assert op.globals == {"amount": 5, "other": 1, "charged": "5 EUR", "again": "5 EUR"}


@pytest.mark.elsewhere(shelf=())
def test_a_task_whose_global_is_missing_or_of_another_kind_fails_its_step(app: Piecework) -> None:
    @app.task(name="charge")
    def charge(amount: int) -> None:
        raise AssertionError("not to be called")

    declared = Declared(app, "fulfilment", {"main": [a_step(charge)]})
    missing, other = declared.start(price=5), declared.start(amount="five")
    drain(app)
    for op, said in ((missing, "needs the global 'amount'; there are: 'price'"), (other, "Expected `int`, got `str`")):
        assert op.story == ["main/charge/1 failed"]
        assert op.record.error is not None
        assert said in op.record.error.message


# ── what does not end ────────────────────────────────────────────────────────────────────────────


def test_a_running_step_is_asked_to_stop_and_the_operation_is_cancelled_there(app: Piecework) -> None:
    began: list[bool] = []

    def long(step: Step) -> None:
        began.append(True)
        until(lambda: current.cancelled, "the stop has reached the step that runs now")
        current.check()

    op = Declared(app, "fulfilment", {"main": [check_end, long, check_end_again]}).start()
    with app.worker(concurrency=2):
        until(lambda: began)
        assert app.store.cancel(Filter(ids=(op.id,)), reason="changed our minds", by="a test") == 1
        until(lambda: op.record.state.finished)
    assert op.state == "cancelled"
    assert op.walked == ["main/check_end"]
    assert op.record.cursor == "main/long/2"


def check_end_again(step: Step) -> None:
    """Another end of a plan."""


def test_a_store_that_refuses_the_end_of_a_step_has_its_worker_forget_the_operation(
    app: Piecework, caplog: pytest.LogCaptureFixture
) -> None:
    """Its session was buried meanwhile: another has the operation, and its steps are not walked twice."""
    ran: list[str] = []

    def lose(step: Step) -> None:
        ran.append("lose")
        if len(ran) == 1:
            (worker,) = {r.worker for r in app.store.get([op.id])}
            assert worker is not None
            assert app.store.reap(worker) == [op.id]

    op = Declared(app, "fulfilment", {"main": [lose, noted(ran, "next")]}).start()
    with caplog.at_level(logging.WARNING):
        drain(app)
    assert "the store refused its outcome" in caplog.text
    assert ran == ["lose", "lose", "next"]
    assert op.walked == ["main/lose", "main/next"]


def test_a_refused_end_does_not_have_its_worker_forget_the_run_that_it_fetched_since(
    app: Piecework, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    def lose(step: Step) -> None:
        ran.append(op.record.run)
        if len(ran) == 1:
            assert app.store.reap(op.record.worker or "") == [op.id]
            until(lambda: len(ran) > 1, "the same worker to fetch it again")
        else:
            until(lambda: "refused its outcome" in caplog.text, "the first run to be refused")

    op = Declared(app, "fulfilment", {"main": [lose, noted([], "next")]}).start()
    with caplog.at_level(logging.WARNING):
        drain(app)
    assert ran == [1, 2]
    assert op.state == "completed"
    assert op.walked == ["main/lose", "main/next"]


@pytest.mark.elsewhere(shelf=())
def test_what_is_given_up_on_is_said_of_steps_too(app: Piecework) -> None:
    def fail(step: Step) -> None:
        raise KeyError("gone")

    op = Declared(app, "fulfilment", {"main": [fail]}, give_up_on=(LookupError,)).start()
    drain(app)
    assert op.story == ["main/fail/1 failed"]
