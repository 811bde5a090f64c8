"""The ledger: records of many writers, what a kill leaves of them, and how they are joined with what the store says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from support import until

from piecework.ids import new_ids
from piecework.job import State
from piecework.torture.books import Fact
from piecework.torture.join import joined
from piecework.torture.ledger import NOBODY, PAGE, RECORD, Kind, Ledger, packed, read, unpacked


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    (id,) = new_ids(1)
    before = time.monotonic()
    ledger.note(Kind.START, id, 3)
    ledger.note(Kind.KILLED_CHILD, pid=4_000_000)
    own, other = read(ledger.path)
    assert (own.kind, own.run, own.pid, unpacked(own.job)) == (Kind.START, 3, os.getpid(), id)
    assert before <= own.at <= other.at <= time.monotonic()
    assert (other.kind, other.pid, other.job) == (Kind.KILLED_CHILD, 4_000_000, NOBODY)


def test_records_do_not_cross_a_page_of_memory() -> None:
    assert 4096 % RECORD.size == 0
    assert PAGE % RECORD.size == 0


def test_a_torn_tail_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.note_all([(Kind.START, None, n) for n in range(5)])
    with ledger.path.open("ab") as file:
        file.truncate(5 * RECORD.size - 7)
    assert [entry.run for entry in read(ledger.path)] == [0, 1, 2, 3]


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.note_all([])
    assert not ledger.path.exists()


WRITER = """
import sys
from piecework.torture.ledger import Kind, Ledger
ledger = Ledger(sys.argv[1])
n = 0
while True:
    n += 1
    ledger.note_all([(Kind.START, None, n % 60000)] * 500)
"""


def test_writers_that_are_killed_leave_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(3)]
    try:
        until(lambda: path.exists() and path.stat().st_size > 3_000_000, "they write")
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    assert path.stat().st_size % RECORD.size == 0
    counted = Counter((entry.kind, entry.pid, entry.job) for entry in read(path))
    assert set(counted) <= {(Kind.START, writer.pid, NOBODY) for writer in writers}


def test_a_join_in_many_shares_finds_what_a_join_in_one_does(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ids = new_ids(300)
    for run in (1, 2):
        ledger.note_all([(Kind.START, id, run) for id in ids])
    ledger.note(Kind.KILLED_TREE, pid=1)
    facts = [Fact(id, "some.task", State.COMPLETED, 2, history=(1,)) for id in ids[:-1]]
    one = {id: (fact, entries) for id, fact, entries in joined(ledger.path, facts, tmp_path)}
    many = {id: (fact, entries) for id, fact, entries in joined(ledger.path, facts, tmp_path, share_bytes=2048)}
    assert one == many
    assert set(one) == {packed(id) for id in ids}
    assert one[packed(ids[0])][0] == facts[0]
    assert [entry.run for entry in one[packed(ids[0])][1]] == [1, 2]
    assert one[packed(ids[-1])][0] is None
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]
