"""An operation: named steps, each run, recorded and retried by itself. It resumes where it failed, and never repeats a step.

Run it: ``python examples/fulfilment.py``
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from piecework import Operation, Piecework, Step, branch, step
from piecework.errors import JobFailed

SUBSCRIPTIONS = {1: "plain", 2: "red", 3: "blue", 4: "broken"}

folder = tempfile.TemporaryDirectory()
app = Piecework(f"sqlite:///{Path(folder.name) / 'jobs.db'}")
outage = True


def charge_credit_card(step: Step) -> None:
    """Reads and sets the operation's globals, and says where it goes on."""
    kind = SUBSCRIPTIONS[step["subscription_id"]]
    step["charge_id"] = f"charge of subscription {step['subscription_id']}"
    if kind == "red":
        step.jump_to("red")  # the first step of that branch
    elif kind == "blue":
        step.jump_to(set_up_blue)  # one step of a branch
    # A jump does not end the step: it says what is next when this has ended.


def set_up_subscription(step: Step) -> None:
    if SUBSCRIPTIONS[step["subscription_id"]] == "broken" and outage:
        raise ConnectionError("the provisioning service does not answer")


def email_receipt(step: Step) -> None:
    step["receipt"] = f"{step['charge_id']}, {step.get('colour', 'no colour')}"


def set_up_red(step: Step) -> None:
    step["colour"] = "red"


def blue_paint(step: Step) -> None:
    step["painted"] = True


def set_up_blue(step: Step) -> None:
    step["colour"] = "blue"
    step.jump_to("main", email_receipt)


def refund(step: Step) -> None:
    """Takes back what `charge_credit_card` did, where the operation fails for good."""
    step["refunded"] = step["charge_id"]


fulfil = app.operation(
    "fulfilment",
    main=[
        step(charge_credit_card, undo=refund),
        step(set_up_subscription, attempts=1),
        email_receipt,
    ],
    red=branch(set_up_red, then="main/email_receipt"),  # where the branch goes on
    blue=[blue_paint, set_up_blue],
)

onboard = app.operation("onboarding", main=[charge_credit_card, step(set_up_subscription, attempts=1), email_receipt],
                        red=[set_up_red], blue=[set_up_blue])  # fmt: skip


def show(operation: Operation) -> None:
    print(f"         {', '.join(f'{s.name} {s.state}/{s.attempts}' for s in operation.steps if s.branch == 'main')}")


def main() -> None:
    global outage
    print(f"now:     {fulfil(subscription_id=1)['receipt']}")

    with app.worker(concurrency=4):
        for number in (1, 2, 3):
            operation = fulfil.later(subscription_id=number)
            print(f"later:   {operation.result(timeout=30)['receipt']}")
            print(f"         {' → '.join(step.name for step in operation.steps if step.state == 'completed')}")

        found = fulfil.where(subscription_id=2).first()
        assert found is not None
        print(f"found:   {found.globals}")

        operation = onboard.later(subscription_id=4)
        try:
            operation.result(timeout=30)
        except JobFailed as error:
            print(f"failed:  {error}")
        show(operation)
        outage = False
        operation.retry()  # goes on at the failed step
        print(f"resumed: {operation.result(timeout=30)['receipt']}")
        show(operation)

        outage = True
        operation = fulfil.later(subscription_id=4)
        try:
            operation.result(timeout=30)
        except JobFailed:
            print(f"undone:  {operation.globals['refunded']} was given back")

        twice = fulfil.using(key="order-7")
        assert twice.later(subscription_id=1) == twice.later(subscription_id=1)
        print("once:    two starts with one key are one operation")


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
