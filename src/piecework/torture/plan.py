"""What the processes of one torture must agree on, handed to the workers in an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from piecework.errors import UsageError

VARIABLE = "PIECEWORK_TORTURE"


class Plan(msgspec.Struct, frozen=True):
    """Where the jobs and the ledger are, and how often a worker's words are to be lost."""

    url: str
    ledger: str
    queue: str  # a name that no other queue of the store has
    owner: int = 0  # the process that leads the torture; without it nobody would end the workers
    lease: float = 2.0
    seed: int = 0
    lose: float = 0.0  # the share of calls whose request is lost, and of those whose reply is
    forge: float = 0.0  # the share of trips beside which a stale settlement is sent

    def environ(self) -> dict[str, str]:
        return {VARIABLE: msgspec.json.encode(self).decode()}


def current_plan(environ: Mapping[str, str] = os.environ) -> Plan:
    """The plan of the torture that started this process. Raises `UsageError` where none did."""
    text = environ.get(VARIABLE)
    if text is None:
        raise UsageError("this app is run by `piecework torture`, which says where its jobs are")
    return msgspec.json.decode(text, type=Plan)
