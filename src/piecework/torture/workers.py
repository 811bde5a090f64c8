"""What `piecework work` imports when it is tortured: the app, its store behind a bad line."""

from __future__ import annotations

import os
import signal
import threading
import time

from piecework.torture.dice import Dice
from piecework.torture.faulty import faulty
from piecework.torture.jobs import Jobs
from piecework.torture.ledger import Ledger
from piecework.torture.plan import current_plan

LOOK_SECONDS = 1.0


def _end_with(owner: int) -> None:
    """Ends this whole tree when the torture is gone. That is the guardian's task; but the torture may be killed in the
    moment after it started this tree, before it has told the guardian of it."""
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            os.killpg(os.getpgrp(), signal.SIGKILL)


_plan = current_plan()
_ledger = Ledger(_plan.ledger)
_dice = Dice(_plan.seed).fork(f"worker {os.getpid()}")

app = Jobs(_plan, _ledger, lambda store: faulty(store, _ledger, _dice, lose=_plan.lose, forge=_plan.forge)).app
threading.Thread(target=_end_with, args=(_plan.owner,), name="torture-guard", daemon=True).start()
