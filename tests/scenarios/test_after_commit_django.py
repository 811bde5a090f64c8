"""Jobs that are held until a transaction of Django has committed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionProxy
from tests.callers import OfDjango

from piecework import Piecework, Task
from piecework.errors import BadOption, StoreUnavailable

Double = Task[Any, Any, Any]


@pytest.fixture
def shelf() -> str:
    return "sqlite"


@pytest.fixture
def django(tmp_path: Path) -> Iterator[Any]:
    """Django's connection to a database of the caller's own, which the store knows nothing of."""
    caller = OfDjango(f"sqlite:///{tmp_path}/data.db")
    yield caller.given
    caller.close()


def stored(app: Piecework) -> list[int]:
    return [job.arguments["n"] for job in app.jobs.where()]


def test_a_job_is_stored_when_the_outermost_block_has_committed(app: Piecework, double: Double, django: Any) -> None:
    held = double.using(after_commit=django)
    using = django.alias
    with transaction.atomic(using=using):
        held.later(1)
        with suppress(RuntimeError), transaction.atomic(using=using):
            held.later(2)
            raise RuntimeError("undo")
        with transaction.atomic(using=using):
            held.later(3)
        assert stored(app) == []
    assert stored(app) == [1, 3]
    with suppress(RuntimeError), transaction.atomic(using=using):
        held.later(4)
        raise RuntimeError("undo")
    held.later(5)  # outside of a transaction there is nothing to wait for
    assert stored(app)[2:] == [5]


def test_durable_blocks_and_decorated_views(app: Piecework, double: Double, django: Any) -> None:
    held = double.using(after_commit=django)

    @transaction.atomic(using=django.alias, durable=True)  # as ATOMIC_REQUESTS wraps a view
    def view(n: int, *, fail: bool = False) -> None:
        held.later(n)
        with transaction.atomic(using=django.alias, savepoint=False):
            held.later(n + 1)
        assert len(stored(app)) in (0, 2)
        if fail:
            raise RuntimeError("a view that fails")

    view(1)
    with pytest.raises(RuntimeError, match="a view that fails"):
        view(3, fail=True)
    assert stored(app) == [1, 2]


def test_a_block_that_was_marked_for_rollback_forgets(app: Piecework, double: Double, django: Any) -> None:
    with transaction.atomic(using=django.alias):
        double.using(after_commit=django).later(1)
        transaction.set_rollback(True, using=django.alias)
    assert stored(app) == []


def test_each_database_has_a_commit_of_its_own(app: Piecework, double: Double, django: Any, tmp_path: Path) -> None:
    other = OfDjango(f"sqlite:///{tmp_path}/other.db")
    with transaction.atomic(using=django.alias):
        with transaction.atomic(using=other.alias):
            double.using(after_commit=django).later(1)
            double.using(after_commit=other.given).later(2)
        assert stored(app) == [2]
        double.using(after_commit=other.given).later(3)  # which is in no transaction by now
        assert stored(app) == [2, 3]
    assert stored(app) == [2, 3, 1]
    other.close()


def test_the_default_connection_goes_by_its_proxy(app: Piecework, double: Double, django: Any) -> None:
    proxy = ConnectionProxy(connections, django.alias)  # as `django.db.connection` is one
    with transaction.atomic(using=django.alias):
        double.using(after_commit=proxy).later(1)
        assert stored(app) == []
    assert stored(app) == [1]


def test_without_a_transaction_it_is_stored_at_once_or_the_call_raises(
    app: Piecework, double: Double, django: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = double.using(key="once").later(1)
    assert double.using(after_commit=django, key="once").later(1) == first

    def away(jobs: Any, **where: Any) -> list[str]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(app.store, "add", away)
    with pytest.raises(StoreUnavailable, match="away"):
        double.using(after_commit=django).later(2)


def test_a_connection_whose_commits_are_made_by_hand_is_refused(app: Piecework, double: Double, django: Any) -> None:
    transaction.set_autocommit(False, using=django.alias)
    try:
        with pytest.raises(BadOption, match="cannot tell when this connection commits"):
            double.using(after_commit=django).later(1)
        with transaction.atomic(using=django.alias):
            double.using(after_commit=django).later(2)
        assert stored(app) == []
        transaction.commit(using=django.alias)
    finally:
        transaction.set_autocommit(True, using=django.alias)
    assert stored(app) == [2]


def test_one_that_cannot_be_added_drops_no_other_and_stops_no_callback(
    app: Piecework, double: Double, django: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add, called = app.store.add, []

    def failing(jobs: Any, **where: Any) -> list[str]:
        if jobs[0].args == '{"n":2}':
            raise StoreUnavailable("away")
        return add(jobs, **where)

    monkeypatch.setattr(app.store, "add", failing)
    held = double.using(after_commit=django)
    with caplog.at_level(logging.ERROR), transaction.atomic(using=django.alias):
        jobs = [held.later(n) for n in (1, 2, 3)]
        transaction.on_commit(lambda: called.append(True), using=django.alias)
    assert (stored(app), called) == ([1, 3], [True])
    assert [record.name for record in caplog.records] == ["piecework.aftercommit"]
    assert jobs[1].id in caplog.text


@pytest.mark.parametrize("robust", [False, True])
def test_a_callback_of_others_that_raises_loses_no_job(
    app: Piecework, double: Double, django: Any, robust: bool
) -> None:
    """It stops other callbacks unless it is `robust`, as Django tells."""
    called: list[int] = []

    def raises() -> None:
        raise RuntimeError("not mine")

    def work() -> None:
        with transaction.atomic(using=django.alias):
            double.using(after_commit=django).later(1)
            transaction.on_commit(raises, using=django.alias, robust=robust)
            double.using(after_commit=django).later(2)
            transaction.on_commit(lambda: called.append(3), using=django.alias)
            double.using(after_commit=django).later(4)

    with nullcontext() if robust else pytest.raises(RuntimeError, match="not mine"):
        work()
    assert (stored(app), called) == ([1, 2, 4], [3] if robust else [])
    with transaction.atomic(using=django.alias):
        double.using(after_commit=django).later(5)
    assert stored(app) == [1, 2, 4, 5]


def test_hooks_that_django_refuses_to_run_have_nothing_stored(app: Piecework, double: Double, django: Any) -> None:
    with transaction.atomic(using=django.alias):
        double.using(after_commit=django).later(1)
        with pytest.raises(TransactionManagementError):
            connections[django.alias].run_and_clear_commit_hooks()
        assert stored(app) == []
    assert stored(app) == [1]


def test_a_job_added_by_another_callback_is_stored(app: Piecework, double: Double, django: Any) -> None:
    held = double.using(after_commit=django)

    def more() -> None:
        held.later(2)
        with transaction.atomic(using=django.alias):
            held.later(3)

    with transaction.atomic(using=django.alias):
        held.later(1)
        transaction.on_commit(more, using=django.alias)
    assert stored(app) == [1, 2, 3]


def test_tests_within_a_transaction_capture_it(app: Piecework, double: Double, django: Any) -> None:
    """`TestCase` runs each test in a block that it rolls back; `captureOnCommitCallbacks` calls what was held."""
    from django.test import TestCase

    with transaction.atomic(using=django.alias):
        with TestCase.captureOnCommitCallbacks(using=django.alias) as callbacks:
            double.using(after_commit=django).later(1)
        assert (len(callbacks), stored(app)) == (1, [])
        with TestCase.captureOnCommitCallbacks(using=django.alias, execute=True):
            double.using(after_commit=django).later(2)
        assert stored(app) == [2]
        transaction.set_rollback(True, using=django.alias)
    assert stored(app) == [2]
    assert django.alias in connections
