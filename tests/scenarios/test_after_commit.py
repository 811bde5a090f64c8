"""Jobs that are held until the caller's transaction has committed, in whatever database that is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from piecework import Piecework, Task
from piecework.errors import BadOption, JobNotFound, StoreUnavailable

Double = Task[Any, Any, Any]


@pytest.fixture
def shelf() -> str:
    return "sqlite"


@pytest.fixture
def session(data: str) -> Iterator[Session]:
    engine = create_engine(data, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE fact (n)"))
    with Session(engine) as session:
        yield session
    engine.dispose()


def write(session: Session, n: int = 1) -> None:
    session.execute(text(f"INSERT INTO fact VALUES ({n})"))


def stored(app: Piecework) -> list[Any]:
    return [job.record().args for job in app.jobs.where()]


@pytest.mark.parametrize("shelf", ["sqlite", "redis"])
def test_a_job_is_stored_when_its_session_has_committed(app: Piecework, double: Double, session: Session) -> None:
    held = double.using(after_commit=session)
    write(session)
    job = held.later(21)
    held.later_many([(1,), (2,)])
    assert stored(app) == []
    with pytest.raises(JobNotFound, match=job.id):
        job.record()
    session.commit()
    assert stored(app) == ['{"n":21}', '{"n":1}', '{"n":2}']
    write(session)
    session.commit()
    assert len(stored(app)) == 3  # once


def test_a_rollback_forgets_it(app: Piecework, double: Double, session: Session) -> None:
    write(session)
    double.using(after_commit=session).later(1)
    session.rollback()
    write(session)
    double.using(after_commit=session).later(2)
    session.commit()
    assert stored(app) == ['{"n":2}']


def test_closing_a_session_forgets_it_too(app: Piecework, double: Double, session: Session) -> None:
    write(session)
    double.using(after_commit=session).later(1)
    session.close()
    write(session)
    session.commit()
    assert stored(app) == []


def test_a_failing_statement_that_rolls_the_whole_back_forgets_it(
    app: Piecework, double: Double, session: Session
) -> None:
    with suppress(RuntimeError), session.begin():
        write(session)
        double.using(after_commit=session).later(1)
        raise RuntimeError("changed my mind")
    write(session)
    session.commit()
    assert stored(app) == []


def test_a_session_that_has_not_begun_yet_holds_for_what_it_begins(
    app: Piecework, double: Double, session: Session
) -> None:
    double.using(after_commit=session).later(1)
    write(session)
    session.rollback()
    double.using(after_commit=session).later(2)
    write(session)
    session.commit()
    assert stored(app) == ['{"n":2}']


def test_savepoints_take_their_own_with_them(app: Piecework, double: Double, session: Session) -> None:
    held = double.using(after_commit=session)
    write(session)
    held.later(1)
    undone = session.begin_nested()
    held.later(2)
    undone.rollback()
    with session.begin_nested():
        held.later(3)
    assert stored(app) == []  # a savepoint that is let go has committed nothing
    outer = session.begin_nested()
    with session.begin_nested():
        held.later(4)
    outer.rollback()  # what was let go within it goes along
    held.later(5)
    session.commit()
    assert stored(app) == ['{"n":1}', '{"n":3}', '{"n":5}']


def test_one_that_cannot_be_added_is_told_and_drops_no_other(
    app: Piecework, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add = app.store.add
    lost = double.using(after_commit=session)

    def failing(jobs: Any, **where: Any) -> list[str]:
        if jobs[0].args == '{"n":2}':
            raise StoreUnavailable("away")
        return add(jobs, **where)

    monkeypatch.setattr(app.store, "add", failing)
    write(session)
    jobs = [lost.later(n) for n in (1, 2, 3)]
    with caplog.at_level(logging.ERROR, "piecework.aftercommit"):
        session.commit()
    assert stored(app) == ['{"n":1}', '{"n":3}']
    assert [record.message.count(jobs[1].id) for record in caplog.records] == [1]
    assert session.execute(text("SELECT count(*) FROM fact")).scalar() == 1


@pytest.mark.parametrize("by", ["commit", "block", "savepoint"])
@pytest.mark.parametrize("of", ["the session", "the class", "every session", "before ours"])
def test_a_listener_of_the_callers_that_raises_loses_no_job(
    app: Piecework, double: Double, session: Session, of: str, by: str
) -> None:
    """SQLAlchemy calls those of classes first, and none after one that raises."""

    class Mine(Session): ...

    def raises(session: Session) -> None:
        if not session.in_nested_transaction():
            raise RuntimeError("not mine")

    session = Mine(session.get_bind())
    target = {"the class": Mine, "every session": Session}.get(of, session)

    def work() -> None:
        double.using(after_commit=session).later(1)
        event.listen(target, "after_commit", raises, insert=of == "before ours")
        if by == "savepoint":
            session.begin_nested()
        write(session)
        session.commit()

    def work_in_a_block() -> None:
        with session.begin():
            double.using(after_commit=session).later(1)
            event.listen(target, "after_commit", raises, insert=of == "before ours")
            write(session)

    with pytest.raises(RuntimeError, match="not mine"):
        (work_in_a_block if by == "block" else work)()
    event.remove(target, "after_commit", raises)
    session.close()
    assert stored(app) == ['{"n":1}']
    with session:
        assert session.execute(text("SELECT count(*) FROM fact")).scalar() == 1
        double.using(after_commit=session).later(2)
        session.commit()
    assert stored(app) == ['{"n":1}', '{"n":2}']


def test_a_listener_that_raises_before_the_commit_has_nothing_stored(
    app: Piecework, double: Double, session: Session
) -> None:
    def raises(session: Session) -> None:
        raise RuntimeError("not mine")

    event.listen(session, "before_commit", raises)
    write(session)
    double.using(after_commit=session).later(1)
    with pytest.raises(RuntimeError, match="not mine"):
        session.commit()
    session.rollback()
    assert stored(app) == []


def test_scoped_and_asynchronous_sessions(app: Piecework, double: Double, session: Session, data: str) -> None:
    scoped = scoped_session(sessionmaker(session.get_bind()))
    scoped.execute(text("INSERT INTO fact VALUES (1)"))
    double.using(after_commit=scoped).later(1)
    assert stored(app) == []
    scoped.commit()
    scoped.remove()
    assert stored(app) == ['{"n":1}']

    async def main() -> None:
        engine = create_async_engine(data.replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)
        async with AsyncSession(engine) as awaited:
            await awaited.execute(text("INSERT INTO fact VALUES (2)"))
            await double.using(after_commit=awaited).alater(2)
            await double.using(after_commit=awaited).alater_many([(3,)])
            assert len(stored(app)) == 1
            await awaited.commit()
            await double.using(after_commit=awaited).alater(4)
            await awaited.rollback()
        await engine.dispose()

    asyncio.run(main())
    assert stored(app) == ['{"n":1}', '{"n":2}', '{"n":3}']


def test_the_handle_says_where_the_job_is(app: Piecework, double: Double, session: Session) -> None:
    held = double.using(after_commit=session)
    job = held.later(1)
    for ask in (job.record, lambda: app.jobs.get(job.id), lambda: job.result(timeout=0)):
        with pytest.raises(JobNotFound, match="it is held until its transaction commits"):
            ask()
    session.rollback()
    with pytest.raises(JobNotFound, match="or was forgotten with it"):
        job.record()
    job = held.later(2)
    session.commit()
    assert app.jobs.get(job.id) == job
    assert job.state == "available"


def test_the_handle_of_a_duplicate_leads_to_the_job_that_is_there(
    app: Piecework, double: Double, session: Session
) -> None:
    first = double.using(key="once").later(1)
    held = double.using(after_commit=session, key="once")
    read, cancelled = held.later(2), held.later(3)
    one, other = double.using(after_commit=session, key="twice").later(4), held.using(key="twice").later(5)
    session.commit()
    assert read.record().id == first.id
    assert read == first
    assert other.arguments == {"n": 4}
    assert other == one
    assert cancelled.cancel()
    assert first.state == "cancelled"
    with pytest.raises(BadOption, match='on_duplicate="raise" cannot be kept with after_commit='):
        held.using(on_duplicate="raise").later(6)


def test_a_job_is_cancelled_while_it_is_held(app: Piecework, double: Double, session: Session) -> None:
    held = double.using(after_commit=session)
    one, (two, three) = held.later(1), held.later_many([(2,), (3,)])
    assert one.cancel()
    assert two.cancel()
    assert not two.cancel()
    session.commit()
    assert stored(app) == ['{"n":3}']
    assert not one.cancel()
    assert three.cancel()
    with pytest.raises(JobNotFound, match="cancelled while it was held"):
        one.record()


def test_the_handle_of_a_lost_job_says_so(
    app: Piecework, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(jobs: Any, **where: Any) -> list[str]:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(app.store, "add", away)
        job = double.using(after_commit=session).later(1)
        session.commit()
    with pytest.raises(JobNotFound, match="was lost: .* StoreUnavailable: away"):
        job.result(timeout=0)
    assert not job.cancel()


@pytest.mark.parametrize("nothing", [object(), "default", True, {}])
def test_what_has_no_transaction_is_refused(app: Piecework, double: Double, nothing: Any) -> None:
    with pytest.raises(BadOption, match="after_commit= takes a Session"):
        double.using(after_commit=nothing).later(1)
    assert stored(app) == []


def test_it_is_said_once_in_whose_transaction(app: Piecework, double: Double, session: Session) -> None:
    with pytest.raises(BadOption, match="not both"):
        double.using(after_commit=session, within=session)
    with pytest.raises(BadOption, match="does not apply to a piece"):
        double.using(after_commit=session).piece(1)
