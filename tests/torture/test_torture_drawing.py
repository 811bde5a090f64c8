"""What a reader of the report sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from torturekit import words

from piecework.torture import drawing
from piecework.torture.drawing import draw, progress
from piecework.torture.faults import Faults
from piecework.torture.ledger import Kind
from piecework.torture.report import Report, make
from piecework.torture.run import Options
from piecework.torture.verdict import Verdict, Word
from piecework.torture.watch import Now

KINDS = dict.fromkeys((Kind.KILLED_CHILD, Kind.CONTINUED, Kind.LOST_REQUEST, Kind.LOST_REPLY, Kind.REFUSED, Kind.REPLAYED), 1234)  # fmt: skip


def report(verdict: Verdict) -> Report:
    return make(
        verdict, KINDS, trees=7, url="sqlite:///x.db", queue="torture-1", seed=3, lease=2, seconds=61.2, stalls=0.5, load=1.5, folder="/f"
    )  # fmt: skip


def drawn(found: Report, *, kept: bool = False) -> list[str]:
    out = Console(file=io.StringIO(), width=100, highlight=False)
    draw(found, kept=kept, console=out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def test_a_sound_report_ends_with_one_plain_sentence() -> None:
    verdict = Verdict(Faults())
    verdict.in_flight = 99
    lines = drawn(report(verdict))
    assert lines[0] == "sqlite:///x.db, queue torture-1, seed 3, lease 2 s, 61.2 s"
    assert lines[-1].endswith("every job ended as it should, and was recorded once.")
    assert any("worker processes killed" in line and "1,234" in line for line in lines)
    assert all(any(word.value in line for line in lines) for word in Word)


def test_a_broken_promise_is_told_with_its_jobs() -> None:
    verdict = Verdict(Faults())
    for n in range(30):
        verdict.blame(Word.LOST, f"job {n}: the store does not have it")
    text = "\n".join(drawn(report(verdict), kept=True))
    assert "job 19: the store does not have it" in text
    assert "job 20: " not in text  # so many are told one by one, and all are counted
    assert "are in /f" in text
    assert text.endswith("The store broke its promises: lost (30).")
    assert words(verdict) == {Word.LOST}


def test_without_a_terminal_a_line_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawing, "LINE_SECONDS", 0.0)
    with progress(Options("sqlite:///x.db")) as show:
        show(Now("faults", 12.0, stored=5000, finished=4000, killed=11, killed_trees=2, frozen=1))
    said = capsys.readouterr().err
    assert said.strip() == "12 s  faults: 4,000 of 5,000 jobs ended; 11 workers killed, 2 trees, 1 stopped"


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(drawing, "LINE_SECONDS", 0.0)
    with progress(Options("sqlite:///x.db"), quiet=True) as show:
        show(Now("faults", 12.0, stored=5000, finished=4000, killed=11, killed_trees=2, frozen=1))
    assert capsys.readouterr() == ("", "")
