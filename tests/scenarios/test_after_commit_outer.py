"""Sessions of SQLAlchemy that are part of a transaction which others end: what is held waits for that one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, create_engine, event, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

from piecework import Piecework, Task
from piecework.errors import BadOption, JobNotFound

Double = Task[Any, Any, Any]
Mode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
JOINED: tuple[Mode, ...] = ("conditional_savepoint", "rollback_only", "create_savepoint")
joined = pytest.mark.parametrize("mode", JOINED)


class Base(DeclarativeBase):
    pass


class Fact(Base):
    __tablename__ = "fact"
    n = Column(Integer, primary_key=True)


@pytest.fixture
def shelf() -> str:
    return "sqlite"


@pytest.fixture
def engine(data: str) -> Iterator[Engine]:
    engine = create_engine(data, poolclass=NullPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection in whose transaction something has been written."""
    with engine.connect() as connection:
        write(connection, 100)
        yield connection


def write(on: Session | Connection, n: int) -> None:
    on.execute(text(f"INSERT INTO fact VALUES ({n})"))


def stored(app: Piecework) -> list[int]:
    return sorted(job.arguments["n"] for job in app.jobs.where())


def facts(engine: Engine) -> list[int]:
    with engine.connect() as another:
        return list(another.execute(text("SELECT n FROM fact ORDER BY n")).scalars())


@joined
def test_a_session_within_a_transaction_waits_for_that_one(
    app: Piecework, double: Double, connection: Connection, engine: Engine, mode: Mode
) -> None:
    with Session(connection, join_transaction_mode=mode) as session:
        double.using(after_commit=session).later(0)  # before it has done anything
        write(session, 1)
        double.using(after_commit=session).later(1)
        session.commit()
        assert stored(app) == []
        write(session, 2)
        double.using(after_commit=session).later_many([(2,), (3,)])
        session.commit()
    assert (stored(app), facts(engine)) == ([], [])
    connection.commit()
    assert facts(engine) == [1, 2, 100]
    assert stored(app) == [0, 1, 2, 3]
    write(connection, 5)
    connection.commit()
    assert stored(app) == [0, 1, 2, 3]  # once


@joined
def test_and_is_forgotten_where_that_is_rolled_back(
    app: Piecework, double: Double, connection: Connection, engine: Engine, mode: Mode
) -> None:
    with Session(connection, join_transaction_mode=mode) as session:
        write(session, 1)
        job = double.using(after_commit=session).later(1)
        session.commit()
    connection.rollback()
    write(connection, 2)
    connection.commit()
    assert (stored(app), facts(engine)) == ([], [2])
    with pytest.raises(JobNotFound, match="until its transaction commits, or was forgotten"):
        job.record()


def test_a_session_that_takes_the_transaction_over_ends_it_itself(
    app: Piecework, double: Double, connection: Connection, engine: Engine
) -> None:
    with Session(connection, join_transaction_mode="control_fully") as session:
        write(session, 1)
        double.using(after_commit=session).later(1)
        session.commit()
        assert (stored(app), facts(engine)) == ([1], [1, 100])


def test_the_savepoints_of_a_connection_take_their_own_with_them(
    app: Piecework, double: Double, connection: Connection
) -> None:
    def by_a_session(n: int) -> None:
        with Session(connection) as session:
            write(session, n)
            double.using(after_commit=session).later(n)
            session.commit()

    early = connection.begin_nested()  # before anything is held
    by_a_session(1)
    inner = connection.begin_nested()
    by_a_session(2)
    inner.commit()
    early.rollback()
    by_a_session(3)
    undone = connection.begin_nested()
    by_a_session(4)
    with connection.begin_nested():
        by_a_session(5)
    undone.rollback()
    with connection.begin_nested():
        by_a_session(6)
    assert stored(app) == []
    connection.commit()
    assert stored(app) == [3, 6]


def test_the_savepoints_of_a_joined_session_do_too(app: Piecework, double: Double, connection: Connection) -> None:
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        write(session, 1)
        double.using(after_commit=session).later(1)
        with suppress(RuntimeError), session.begin_nested():
            double.using(after_commit=session).later(2)
            raise RuntimeError("undo")
        with session.begin_nested():
            double.using(after_commit=session).later(3)
        session.commit()
        write(session, 2)
        double.using(after_commit=session).later(4)
        session.rollback()
        write(session, 2)
        double.using(after_commit=session).later(5)
        # closed without a commit
    connection.commit()
    assert stored(app) == [1, 3]


def test_a_session_on_a_connection_without_a_transaction_ends_its_own(
    app: Piecework, double: Double, engine: Engine
) -> None:
    with engine.connect() as connection, Session(connection) as session:
        double.using(after_commit=session).later(0)
        write(session, 1)
        double.using(after_commit=session).later(1)
        session.rollback()
        write(session, 2)
        double.using(after_commit=session).later(2)
        session.commit()
        assert stored(app) == [2]


def test_a_session_of_several_databases_waits_for_those_it_has_joined(
    app: Piecework, double: Double, connection: Connection
) -> None:
    with Session(binds={Fact: connection}) as session:
        session.add(Fact(n=1))
        double.using(after_commit=session).later(1)
        session.commit()
        assert stored(app) == []
        connection.rollback()
        write(connection, 2)
        session.add(Fact(n=3))
        double.using(after_commit=session).later(3)
        session.commit()
    connection.commit()
    assert stored(app) == [3]


def test_connections_are_taken_themselves(app: Piecework, double: Double, connection: Connection) -> None:
    double.using(after_commit=connection).later(1)
    with suppress(RuntimeError), connection.begin_nested():
        double.using(after_commit=connection).later(2)
        raise RuntimeError("undo")
    assert stored(app) == []
    connection.commit()
    assert stored(app) == [1]
    with pytest.raises(BadOption, match="has begun none"):
        double.using(after_commit=connection).later(3)
    with connection.begin():
        double.using(after_commit=connection).later(4)
    assert stored(app) == [1, 4]


def test_what_is_closed_or_cut_off_has_committed_nothing(app: Piecework, double: Double, engine: Engine) -> None:
    with engine.connect() as connection:
        write(connection, 1)
        double.using(after_commit=connection).later(1)
        connection.invalidate()
        with pytest.raises(PendingRollbackError):
            connection.commit()
        connection.rollback()
        write(connection, 2)
        double.using(after_commit=connection).later(2)
    with Session(engine) as session:
        write(session, 3)
        double.using(after_commit=session).later(3)
        session.connection().invalidate()
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
        write(session, 4)
        double.using(after_commit=session).later(4)
        session.invalidate()
        write(session, 5)
        double.using(after_commit=session).later(5)
        session.commit()
    assert (stored(app), facts(engine)) == ([5], [5])


def test_a_commit_that_fails_adds_nothing(app: Piecework, double: Double, engine: Engine) -> None:
    def refuse(connection: Connection) -> None:
        raise RuntimeError("no commit today")

    with engine.connect() as connection:
        write(connection, 1)
        double.using(after_commit=connection).later(1)
        event.listen(connection, "commit", refuse)
        with pytest.raises(RuntimeError, match="no commit today"):
            connection.commit()
    assert (stored(app), facts(engine)) == ([], [])


def test_a_constraint_that_speaks_up_at_the_commit_adds_nothing(app: Piecework, double: Double, engine: Engine) -> None:
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = on"))
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE note (n INTEGER REFERENCES fact DEFERRABLE INITIALLY DEFERRED)"),
        )

    def work(on: Session | Connection) -> None:
        on.execute(text("INSERT INTO note VALUES (99)"))
        double.using(after_commit=on).later(1)

    def by_a_session() -> None:
        with Session(engine) as session, session.begin():
            work(session)

    def by_a_session_within() -> None:
        with engine.begin() as connection, Session(connection) as session:
            work(session)
            session.commit()

    def by_a_connection() -> None:
        with engine.begin() as connection:
            work(connection)

    for way in (by_a_session, by_a_session_within, by_a_connection):
        with pytest.raises(IntegrityError):
            way()
    assert stored(app) == []


def test_two_phases(app: Piecework, double: Double, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is stored after the second one. SQLite has none: it is told what they come to."""
    said: list[str] = []

    def do(what: str) -> Any:
        def done(connection: Connection, xid: Any, *more: Any, **_: Any) -> None:
            said.append(f"{what}, {len(stored(app))} stored")
            if what in ("commit", "rollback"):
                getattr(engine.dialect, f"do_{what}")(connection.connection)

        return done

    for what in ("begin", "prepare", "commit", "rollback"):
        monkeypatch.setattr(engine.dialect, f"do_{what}_twophase", do(what))
    with Session(engine, twophase=True) as session:
        write(session, 1)
        double.using(after_commit=session).later(1)
        session.prepare()
        double.using(after_commit=session).later(2)
        session.commit()
    assert stored(app) == [1, 2]
    with engine.connect() as connection:
        for n, end in enumerate(("commit", "rollback"), start=3):
            transaction = connection.begin_twophase()
            write(connection, n)
            double.using(after_commit=connection).later(n)
            transaction.prepare()
            getattr(transaction, end)()
    assert stored(app) == [1, 2, 3]
    assert said[:3] == ["begin, 0 stored", "prepare, 0 stored", "commit, 0 stored"]
    assert "commit, 2 stored" in said


@pytest.mark.parametrize("held_before", [False, True])
@pytest.mark.parametrize(
    "name", ["before_commit", "before_flush", "after_flush", "after_begin", "after_transaction_create", "after_commit"]
)
def test_a_job_is_held_in_whatever_happens_on_the_way_to_a_commit(
    app: Piecework, double: Double, engine: Engine, name: str, held_before: bool
) -> None:
    asked: list[bool] = []

    def once(*_: Any) -> None:
        if not asked:
            asked.append(True)
            double.using(after_commit=session).later(2)

    with Session(engine) as session:
        if held_before:
            double.using(after_commit=session).later(1)
        event.listen(session, name, once)
        session.add(Fact())
        session.commit()
    assert stored(app) == [1, 2][not held_before :]


def test_a_job_is_held_by_the_transaction_that_is_open_when_it_is_asked_for(
    app: Piecework, double: Double, engine: Engine
) -> None:
    """Before its first statement, too: a rollback then forgets it."""
    with Session(engine) as session:
        double.using(after_commit=session).later(1)
        session.rollback()
        write(session, 1)
        session.commit()
        double.using(after_commit=session).later(2)
        session.close()
        write(session, 2)
        session.commit()
        double.using(after_commit=session).later(3)
        session.commit()
    assert stored(app) == [3]


def test_a_session_that_is_to_be_begun_by_hand_is_not_begun_for_a_job(
    app: Piecework, double: Double, engine: Engine
) -> None:
    with Session(engine, autobegin=False) as session:
        with pytest.raises(BadOption, match="begin it first"):
            double.using(after_commit=session).later(1)
        with session.begin():
            double.using(after_commit=session).later(2)
    assert stored(app) == [2]


@pytest.mark.parametrize("held_before", [False, True])
@pytest.mark.parametrize("on", ["session", "class"])
def test_a_job_added_by_another_listener_to_the_commit_is_stored(
    app: Piecework, double: Double, engine: Engine, held_before: bool, on: str
) -> None:
    class Own(Session):
        pass

    def more(session: Session) -> None:
        double.using(after_commit=session).later(2)

    with Own(engine) as session:
        write(session, 1)
        if held_before:
            double.using(after_commit=session).later(1)
        event.listen(Own if on == "class" else session, "after_commit", more)
        session.commit()
        assert [job.arguments["n"] for job in app.jobs.where()] == [1, 2][not held_before :]
    assert stored(app) == [1, 2][not held_before :]


def test_and_within_a_transaction_of_others_it_waits_for_that(
    app: Piecework, double: Double, connection: Connection
) -> None:
    def more(session: Session) -> None:
        double.using(after_commit=session).later(2)

    with Session(connection) as session:
        write(session, 1)
        event.listen(session, "after_commit", more)
        session.commit()
    assert stored(app) == []
    connection.commit()
    assert stored(app) == [2]


def test_asynchronous_ones(app: Piecework, double: Double, engine: Engine, data: str) -> None:
    async def main() -> None:
        awaited = create_async_engine(data.replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)
        async with awaited.connect() as connection:
            for mode in JOINED:
                await connection.execute(text("INSERT INTO fact VALUES (NULL)"))
                async with AsyncSession(connection, join_transaction_mode=mode) as session:
                    await double.using(after_commit=session).alater(1)
                    await session.execute(text("INSERT INTO fact VALUES (NULL)"))
                    await double.using(after_commit=session).alater(2)
                    await session.commit()
                await double.using(after_commit=connection).alater(3)
                assert stored(app) == []
                if mode == "create_savepoint":
                    await connection.commit()
                else:
                    await connection.rollback()
        await awaited.dispose()

    asyncio.run(main())
    assert stored(app) == [1, 2, 3]


def test_nothing_is_kept_of_what_is_over(app: Piecework, double: Double, engine: Engine) -> None:
    from piecework.aftercommit import sqlalchemy

    with engine.connect() as connection:
        for end in (connection.commit, connection.rollback):
            write(connection, 0) if end == connection.rollback else None
            connection.begin() if not connection.in_transaction() else None
            double.using(after_commit=connection).later(1)
            end()
    gc.collect()
    assert not sqlalchemy._lines
    assert not app.held
