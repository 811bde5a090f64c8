"""An operation: named steps, each run, recorded and retried by itself. It goes on where it failed, and repeats no step.

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


# ── the steps ────────────────────────────────────────────────────────────────────────────────────


def charge_credit_card(step: Step) -> None:
    """Reads and sets the operation's globals, and says where it goes on."""
    kind = SUBSCRIPTIONS[step["subscription_id"]]
    step["charge_id"] = f"charge of subscription {step['subscription_id']}"
    if kind == "red":
        step.jump_to("red")  # the first step of that branch
    elif kind == "blue":
        step.jump_to("blue", SetUpBlueSubscription)  # one step of a branch
    # A jump does not end the step: it says what is next when this has ended.


def refund(step: Step) -> None:
    """Takes back what `charge_credit_card` did, where the operation fails for good."""
    step["refunded"] = step["charge_id"]


def set_up_subscription(step: Step) -> None:
    if SUBSCRIPTIONS[step["subscription_id"]] == "broken" and outage:
        raise ConnectionError("the provisioning service does not answer")


def send_email_receipt(step: Step) -> None:
    step["receipt"] = f"{step['charge_id']}, {step.get('colour', 'no colour')}"


def set_up_red_subscription(step: Step) -> None:
    step["colour"] = "red"


def mix_blue(step: Step) -> None:
    step["mixed"] = True


class SetUpBlueSubscription:
    """A step may be a class."""

    @staticmethod
    def call(step: Step) -> None:
        step["colour"] = "blue"
        step.jump_to("main", send_email_receipt)  # back to the main branch


# ── the plans ────────────────────────────────────────────────────────────────────────────────────

fulfil = app.operation(
    "fulfilment",
    main=[charge_credit_card, step(set_up_subscription, attempts=1), send_email_receipt],
    red=branch(set_up_red_subscription, then="main/send_email_receipt"),  # where the branch goes on
    blue=[mix_blue, SetUpBlueSubscription],
)

careful = app.operation(
    "careful_fulfilment",
    main=[step(charge_credit_card, undo=refund), step(set_up_subscription, attempts=1), send_email_receipt],
    red=branch(set_up_red_subscription, then="main/send_email_receipt"),
    blue=[SetUpBlueSubscription],
)


def show(operation: Operation) -> None:
    print(f"         {', '.join(f'{s.name} {s.state}/{s.attempts}' for s in operation.steps if s.branch == 'main')}")


def main() -> None:
    print(f"now:     {fulfil(subscription_id=1)['receipt']}")

    with app.worker(concurrency=4):
        for number in (1, 2, 3):
            operation = fulfil.later(subscription_id=number)
            print(f"later:   {operation.result(timeout=30)['receipt']}")
            print(f"         {' → '.join(run.name for run in operation.runs())}")

        found = fulfil.where(subscription_id=2).first()
        assert found is not None
        print(f"found:   {found.globals}")

        resume_where_it_failed()
        undo_what_was_done()

        twice = fulfil.using(key="order-7")
        assert twice.later(subscription_id=1) == twice.later(subscription_id=1)
        print("once:    two starts with one key are one operation")


def resume_where_it_failed() -> None:
    global outage
    operation = fulfil.later(subscription_id=4)
    try:
        operation.result(timeout=30)
    except JobFailed:
        print(f"failed:  {operation.status}")
    error = operation.error
    assert error is not None
    print(f"         {error.type}: {error.message}, with {len(error.traceback.splitlines())} lines of traceback")
    show(operation)
    outage = False
    operation.retry("the service answers again", by="ann")  # goes on at the failed step
    print(f"resumed: {operation.result(timeout=30)['receipt']}")
    show(operation)
    for event in operation.timeline():
        print(f"         {event.what} {event.step}{f' by {event.by}' if event.what == 'retried' else ''}")


def undo_what_was_done() -> None:
    global outage
    outage = True
    operation = careful.later(subscription_id=4)
    try:
        operation.result(timeout=30)
    except JobFailed:
        print(f"undone:  {operation.globals['refunded']} was given back")


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
