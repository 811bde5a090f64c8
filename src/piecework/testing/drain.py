"""Running what is due, here and now: for tests and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from piecework.app import Piecework


def drain(app: Piecework, *, concurrency: int = 4) -> int:
    """Runs everything that is due, and what follows from it, and returns how many runs that took.

    A real worker on the app's real store; it returns when nothing is due and nothing runs. Jobs that wait for a later
    time (retries with a delay, too) are left.

    Example::

        job = send_report.later(42)
        assert drain(app) == 1
        assert job.result(timeout=0) == "sent"
    """
    worker = app.worker(concurrency=concurrency, burst=True)
    return worker.run()
