"""A status asked for by user, and a queue that is a table: what the users of a framework for background jobs do all day.

A credit card is checked in the background, and a page asks how it stands, by user. Then somebody looks into a queue of
thousands. Run it: ``python examples/card_status.py``
"""

from __future__ import annotations

import os
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from piecework import Duplicate, Piecework, current

folder = tempfile.TemporaryDirectory()
app = Piecework(os.environ.get("PIECEWORK_URL") or f"sqlite:///{Path(folder.name) / 'jobs.db'}")
bank_answers = threading.Event()


@app.task(identity=lambda user_id, number, attrs: user_id, one_per_identity=True, queue="cards", tags="checkout")
def validate_card(user_id: int, number: str, attrs: dict[str, str]) -> None:
    """What is known of a user's card, at once and in the end."""
    current.set_status({"phase": "asking the bank"})
    bank_answers.wait(30)
    errors = [] if "expires" in attrs else ["Credit expire date not given"]
    current.set_status({"success": not errors, "errors": errors})


@app.task(queue="metrics", tags="metrics", attempts=1, identity="shop")
def update_metrics(shop: str, n: int) -> None:
    if shop == "acme" and n % 500 == 0:
        raise ValueError(f"no such metric: {n}")


def main() -> None:
    ask_for_a_status()
    look_into_a_queue()


def ask_for_a_status() -> None:
    print(f"before:  {validate_card.in_progress(7)}, {validate_card.status(7)}")
    job = validate_card.later(7, "4123-5682-3821-1111", {})
    print(f"called:  {validate_card.in_progress(7)}, {validate_card.status(7)}")
    with app.worker(concurrency=2):
        while not (status := validate_card.status(7)):
            threading.Event().wait(0.01)
        print(f"running: {validate_card.in_progress(7)}, {status}")
        assert validate_card.later(7, "another click", {}) == job
        refuse_a_second(job)
        bank_answers.set()
        job.result(timeout=30)
    print(f"ended:   {validate_card.in_progress(7)}, {validate_card.status(7)}")
    print(f"nobody:  {validate_card.in_progress(8)}, {validate_card.status(8)}")


def refuse_a_second(job: Any) -> None:
    try:
        validate_card.using(on_duplicate="raise").later(7, "another click", {})
    except Duplicate as error:
        print(f"once:    a second one was refused; the first is {'the same' if error.job_id == job.id else 'another'}")


def look_into_a_queue() -> None:
    """Thousands of jobs, asked by queue, tag, identity, state and time; looking changes nothing."""
    begun = datetime.now(UTC) - timedelta(seconds=1)
    update_metrics.later_many([(("acme", "duff")[n % 2], n) for n in range(3000)])
    six = [update_metrics.using(queue="low").later("duff", n) for n in (5, 9, 3, 3, 9, 3)]
    low = app.jobs.where(queue="low")
    print(f"peek:    {[job.arguments['n'] for job in low.page(limit=10)]}")
    print(f"page:    {[job.arguments['n'] for job in low.page(after=six[1].id, limit=2)]}")
    print(f"tagged:  {app.jobs.where(tags='metrics').count():,} in all, {low.count()} in the queue low")

    app.worker(concurrency=4, burst=True).run()

    failed = app.jobs.where(tags="metrics", identity="acme", state="failed", finished_after=begun)
    errors = [job.error.message for job in failed.page(limit=1) if job.error]
    print(f"failed:  {[job.arguments['n'] for job in failed]}, as {errors}")
    elsewhere = app.jobs.where(queue="low", state="failed").count()
    print(f"monitor: {app.jobs.where(queue='metrics', state='failed').count()} failed in metrics, {elsewhere} in low")
    for queue in app.jobs.queues():
        print(f"queue:   {queue.name}: {', '.join(f'{n:,} {state}' for state, n in queue.counts.items())}")
    print(f"retried: {failed.retry('the metrics are there now')}")


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
