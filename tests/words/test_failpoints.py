"""Failpoints: parsed strictly, and silent unless armed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from piecework import failpoints
from piecework.errors import StoreUnavailable
from piecework.failpoints import NAMES, arm, failpoint


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints._armed.clear()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_unarmed_point_does_nothing(name: str) -> None:
    failpoint(name)


def test_an_armed_point_raises_at_its_passage_and_not_again() -> None:
    arm("split.before_seal=raise:3")
    failpoint("split.before_seal")
    failpoint("split.before_seal")
    with pytest.raises(StoreUnavailable):
        failpoint("split.before_seal")
    failpoint("split.before_seal")


def test_without_a_number_the_first_passage_is_meant() -> None:
    arm("worker.after_fetch=raise")
    with pytest.raises(StoreUnavailable):
        failpoint("worker.after_fetch")


def test_several_points_are_armed_at_once_and_do_not_touch_each_other() -> None:
    arm("worker.after_fetch=raise:1,store.before_commit=raise:2")
    failpoint("store.before_commit")
    with pytest.raises(StoreUnavailable):
        failpoint("worker.after_fetch")
    with pytest.raises(StoreUnavailable):
        failpoint("store.before_commit")
    failpoint("runner.running")


def test_an_empty_text_arms_nothing() -> None:
    arm("")
    arm(",,")
    assert failpoints._armed == {}


@pytest.mark.parametrize(
    "text",
    [
        "no.such.point=kill:1",
        "worker.after_fetch",
        "worker.after_fetch=",
        "worker.after_fetch=explode:1",
        "worker.after_fetch=kill:often",
        "=kill:1",
        "worker.after_fetch=kill:0",
        "worker.after_fetch=kill:-1",
        "worker.after_fetch=kill:1:2",
        "worker.after_fetch=delay:1",
        "worker.after_fetch=delay:1:",
        "worker.after_fetch=delay:1:long",
        "worker.after_fetch=delay:1:-2",
    ],
)
def test_a_text_that_means_nothing_is_refused_and_told(text: str) -> None:
    with pytest.raises(ValueError, match="PIECEWORK_FAILPOINTS") as refused:
        arm(text)
    assert text in str(refused.value)


def test_a_delay_waits_at_its_passage_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(failpoints.time, "sleep", slept.append)
    arm("store.after_commit=delay:2:0.25")
    failpoint("store.after_commit")
    assert slept == []
    failpoint("store.after_commit")
    assert slept == [0.25]
    assert "failpoint store.after_commit: delay" in caplog.text


def test_kill_kills_the_process_at_its_passage() -> None:
    code = (
        "from piecework.failpoints import failpoint\n"
        "for n in range(5):\n"
        "    print(n, flush=True)\n"
        "    failpoint('compose.running')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PIECEWORK_FAILPOINTS": "compose.running=kill:3", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]
