"""Ids: unique, in order, and valid UUIDs of version 7."""

from __future__ import annotations

import os
import threading
import time
import uuid

import pytest

from piecework import ids
from piecework.ids import new_id, new_ids, short_token


def test_an_id_is_a_uuid_of_version_7() -> None:
    for id in [new_id(), *new_ids(1000)]:
        parsed = uuid.UUID(id)
        assert str(parsed) == id
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


def test_an_id_begins_with_the_milliseconds_of_now() -> None:
    before = time.time_ns() // 1_000_000
    id = new_id()
    after = time.time_ns() // 1_000_000
    assert before <= int(id.replace("-", "")[:12], 16) <= after


def test_ids_come_in_order_one_by_one_and_in_bulk() -> None:
    made = [id for n in range(300) for id in (new_id(), *new_ids(n % 7))]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_no_ids_are_no_ids() -> None:
    assert new_ids(0) == []


def test_ids_do_not_go_back_when_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ids._Source()
    now = time.time_ns()
    monkeypatch.setattr("piecework.ids.time.time_ns", lambda: now)
    (first,) = source.take(1)
    monkeypatch.setattr("piecework.ids.time.time_ns", lambda: now - 3600 * 10**9)
    later = source.take(3)
    assert [first, *later] == sorted({first, *later})


def test_ids_of_many_threads_are_different_and_each_thread_sees_its_own_in_order() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def make(n: int) -> None:
        barrier.wait()
        for _ in range(500):
            made[n].append(new_id())
            made[n].extend(new_ids(3))

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(own == sorted(own) for own in made)
    assert len({id for own in made for id in own}) == 8 * 500 * 4


def test_ids_of_forked_processes_are_different() -> None:
    """All of them begin from one state of one source, copied by the fork."""
    new_id()
    made = new_ids(0)
    readers = []
    for _ in range(4):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, "\n".join(new_ids(200)).encode())
            os._exit(0)
        os.close(write)
        readers.append((child, read))
    made += new_ids(200)
    for child, read in readers:
        with os.fdopen(read) as pipe:
            made += pipe.read().splitlines()
        assert os.waitpid(child, 0)[1] == 0
    assert len(made) == 1000
    assert len(set(made)) == 1000


def test_session_tokens_are_short_and_different() -> None:
    tokens = {short_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 12 and int(token, 16) >= 0 for token in tokens)
