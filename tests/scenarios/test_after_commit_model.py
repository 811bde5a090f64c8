"""Random walks through transactions of SQLAlchemy: a job was added for just those rows that were committed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from piecework import Piecework
from piecework.job import NewJob

MODES = ("conditional_savepoint", "rollback_only", "create_savepoint", "control_fully")
DEEP = 3


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite with savepoints that are ones: its driver is not to begin and end transactions by itself."""
    engine = create_engine(f"sqlite:///{tmp_path}/data.db", poolclass=NullPool)
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE fact (n)"))
    yield engine
    engine.dispose()


class Walk:
    """One program by chance: it writes rows, each with its job, within connections, sessions and savepoints."""

    def __init__(self, seed: int, engine: Engine, app: Piecework) -> None:
        self.chance = random.Random(seed)
        self.engine = engine
        self.task: Any = app.task(name=f"walk{seed}")(lambda n: n)
        self.said: list[str] = []
        self.n = 0

    def run(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            if self.chance.random() < 0.3:
                self.session(self.engine)
            else:
                self.connection()

    def say(self, *words: str) -> str:
        """One of the words, which is noted."""
        self.said.append(self.chance.choice(words))
        return self.said[-1]

    def connection(self) -> None:
        with self.engine.connect() as connection:
            try:
                self.block(connection, 0)
                getattr(connection, self.say("commit", "commit", "rollback"))()
            except InvalidRequestError:  # a session has ended the savepoint in which it was
                self.said.append("given up")

    def session(self, on: Engine | Connection) -> None:
        mode: Any = self.say(*MODES)
        with Session(on, join_transaction_mode=mode) as session:
            for _ in range(self.chance.randint(1, 3)):
                self.block(session, 1)
                if (end := self.say("commit", "commit", "rollback", "go on")) != "go on":
                    getattr(session, end)()

    def block(self, on: Session | Connection, depth: int) -> None:
        for _ in range(self.chance.randint(0, 3)):
            what = self.chance.random()
            if what < 0.5 or depth > DEEP:
                self.write(on)
            elif what < 0.75:
                savepoint = on.begin_nested()
                self.block(on, depth + 1)
                getattr(savepoint, self.say("commit", "rollback"))()
            elif isinstance(on, Connection):
                self.session(on)

    def write(self, on: Session | Connection) -> None:
        self.n += 1
        self.said.append(f"write {self.n}")
        on.execute(text(f"INSERT INTO fact VALUES ({self.n})"))
        self.task.using(after_commit=on).later(self.n)


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")
@pytest.mark.parametrize("first", range(0, 80, 20))
def test_a_job_is_added_for_each_row_that_was_committed_and_no_other(
    tmp_path: Path, engine: Engine, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, added = Piecework(f"sqlite:///{tmp_path}/jobs.db"), []

    def add(jobs: list[NewJob], **where: Any) -> list[str]:
        added.extend(json.loads(job.args)["n"] for job in jobs)
        return [job.id for job in jobs]

    monkeypatch.setattr(app.store, "add", add)
    total = 0
    for seed in range(first, first + 20):
        walk = Walk(seed, engine, app)
        walk.run()
        with engine.begin() as connection:
            rows = list(connection.execute(text("SELECT n FROM fact ORDER BY n")).scalars())
            connection.execute(text("DELETE FROM fact"))
        assert sorted(added) == rows, f"seed {seed}: {'; '.join(walk.said)}"
        total += len(rows)
        added.clear()
    assert total > 20
