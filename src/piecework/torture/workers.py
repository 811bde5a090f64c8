"""What `piecework work` imports when it is tortured: the app, its store behind a bad line."""

from __future__ import annotations

import os

from piecework.torture.dice import Dice
from piecework.torture.faulty import faulty
from piecework.torture.jobs import Jobs
from piecework.torture.ledger import Ledger
from piecework.torture.plan import current_plan

_plan = current_plan()
_ledger = Ledger(_plan.ledger)
_dice = Dice(_plan.seed).fork(f"worker {os.getpid()}")

app = Jobs(_plan, _ledger, lambda store: faulty(store, _ledger, _dice, lose=_plan.lose, forge=_plan.forge)).app
