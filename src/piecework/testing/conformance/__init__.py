"""The store's contract as tests: whoever writes a store proves it with them. Needs pytest.

A suite is a class of tests, and takes two fixtures: `store`, migrated and empty, and `clock`, a
`piecework.testing.FrozenClock` by which that store tells the time.

    from piecework.testing.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def clock(self): return FrozenClock()

        @pytest.fixture
        def store(self, clock): ...

A store that writes on a caller's connection proves that with `WithinConformance` (and a fixture `transaction`), one
that cannot with `NoWithinConformance`; one that opens a transaction for a run, with `TransactionConformance`. Each theme
is a class of its own, for those who build a store verb by verb.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{theme}"
        for theme in (
            "kit",
            "enqueue",
            "work",
            "batches",
            "liveness",
            "operations",
            "signals",
            "races",
            "standing",
            "operators",
            "reads",
            "parts",
            "waiting",
            "within",
        )
    )
)

from piecework.testing.conformance.batches import (  # noqa: E402
    FailureConformance,
    FanInConformance,
    NestingConformance,
    SealedNumberConformance,
)
from piecework.testing.conformance.deleting import DeleteConformance  # noqa: E402
from piecework.testing.conformance.enqueue import AddConformance, PiecesConformance, SealConformance  # noqa: E402
from piecework.testing.conformance.kit import assert_sound  # noqa: E402
from piecework.testing.conformance.liveness import ReapConformance, SessionConformance  # noqa: E402
from piecework.testing.conformance.operations import (  # noqa: E402
    AdvanceConformance,
    GlobalsConformance,
    KeepConformance,
    OperationKeepConformance,
    OperationKeyConformance,
    OperationResultConformance,
    OperationStartConformance,
)
from piecework.testing.conformance.operators import (  # noqa: E402
    CancelConformance,
    PauseConformance,
    PruneConformance,
    RepairConformance,
    ResumeConformance,
    RetryConformance,
)
from piecework.testing.conformance.parts import PartsConformance  # noqa: E402
from piecework.testing.conformance.races import RaceConformance  # noqa: E402
from piecework.testing.conformance.reads import (  # noqa: E402
    AttemptsConformance,
    BatchReadConformance,
    CountConformance,
    FindConformance,
    GetConformance,
    OldestConformance,
    PurityConformance,
)
from piecework.testing.conformance.signals import (  # noqa: E402
    AmendConformance,
    DeedConformance,
    SignalConformance,
    StepSplitConformance,
    UndoConformance,
)
from piecework.testing.conformance.standing import (  # noqa: E402
    LabelConformance,
    StandingConformance,
    StatusConformance,
    TimeConformance,
)
from piecework.testing.conformance.waiting import CloseConformance, SchemaConformance, WaitConformance  # noqa: E402
from piecework.testing.conformance.within import NoWithinConformance, TransactionConformance, WithinConformance  # noqa: E402
from piecework.testing.conformance.work import (  # noqa: E402
    ExchangeConformance,
    ExpiryConformance,
    FetchConformance,
    ReportConformance,
    SettleConformance,
)


class StoreConformance(
    AddConformance,
    PiecesConformance,
    SealConformance,
    FetchConformance,
    ExpiryConformance,
    SettleConformance,
    ExchangeConformance,
    ReportConformance,
    FanInConformance,
    SealedNumberConformance,
    FailureConformance,
    NestingConformance,
    SessionConformance,
    ReapConformance,
    CancelConformance,
    RetryConformance,
    ResumeConformance,
    PruneConformance,
    DeleteConformance,
    RepairConformance,
    PauseConformance,
    GetConformance,
    FindConformance,
    CountConformance,
    BatchReadConformance,
    AttemptsConformance,
    OldestConformance,
    PurityConformance,
    LabelConformance,
    TimeConformance,
    StatusConformance,
    StandingConformance,
    OperationStartConformance,
    OperationKeyConformance,
    OperationResultConformance,
    AdvanceConformance,
    KeepConformance,
    GlobalsConformance,
    OperationKeepConformance,
    SignalConformance,
    UndoConformance,
    AmendConformance,
    DeedConformance,
    StepSplitConformance,
    RaceConformance,
    PartsConformance,
    WaitConformance,
    CloseConformance,
    SchemaConformance,
):
    """The whole contract but `within=`."""


__all__ = [
    "LabelConformance",
    "TimeConformance",
    "StatusConformance",
    "StandingConformance",
    "UndoConformance",
    "StepSplitConformance",
    "RaceConformance",
    "SignalConformance",
    "AmendConformance",
    "DeedConformance",
    "OperationStartConformance",
    "OperationKeyConformance",
    "OperationResultConformance",
    "OperationKeepConformance",
    "KeepConformance",
    "GlobalsConformance",
    "AdvanceConformance",
    "AddConformance",
    "AttemptsConformance",
    "BatchReadConformance",
    "CancelConformance",
    "CloseConformance",
    "CountConformance",
    "DeleteConformance",
    "ExchangeConformance",
    "ExpiryConformance",
    "FailureConformance",
    "FanInConformance",
    "FetchConformance",
    "FindConformance",
    "GetConformance",
    "NestingConformance",
    "NoWithinConformance",
    "TransactionConformance",
    "OldestConformance",
    "PartsConformance",
    "PauseConformance",
    "PiecesConformance",
    "PruneConformance",
    "PurityConformance",
    "ReapConformance",
    "RepairConformance",
    "ReportConformance",
    "ResumeConformance",
    "RetryConformance",
    "SchemaConformance",
    "SealConformance",
    "SealedNumberConformance",
    "SessionConformance",
    "SettleConformance",
    "StoreConformance",
    "WaitConformance",
    "WithinConformance",
    "assert_sound",
]
