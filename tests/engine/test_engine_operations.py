"""Operations on real workers: the sequence of steps, what a failure leaves, and the way through branches."""

from __future__ import annotations

from ops import Declared

from piecework import Piecework
from piecework.stepping import Step
from piecework.testing import drain


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
    assert op.globals == {"subscription_id": 7, "charge_id": "ch_7"}
    assert op.record.finished_at == op.lines[-1].finished_at
