"""Objects and rows by the command line: one process calls later, another one works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piecework import Piecework

SCRIPT = """
import os
from dataclasses import dataclass
from piecework import Piecework

app = Piecework("sqlite:///jobs.db")


@app.task(queue="objects")
@dataclass
class Process:
    some_id: str
    n: int = 1

    def call(self, more: int, *, queue: str = "") -> list:
        return [type(self).__name__, self.some_id, self.n + more, queue]


@app.task(pool="process")
class Elsewhere:
    def __init__(self, name: str) -> None:
        self.name = name

    def call(self) -> list:
        return [self.name, os.getpid()]

    async def wait(self) -> int:
        return os.getpid()


class Child(Process):
    async def wait(self) -> str:
        return "waited " + self.some_id


if __name__ == "__main__":
    jobs = [app.later(Process("a", n=2).call, 3, queue="q"), app.later(Child("b").call, 1), app.later(Child("c").wait)]
    jobs += [app.later(Elsewhere("d").call), app.later(Elsewhere("e").wait)]
    print(*(job.id for job in jobs))
"""

SQLALCHEMY = """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from piecework import Piecework
from piecework.integrations.sqlalchemy import rows

app = Piecework("sqlite:///jobs.db")
engine = create_engine("sqlite:///shop.db")
rows(app, sessionmaker(engine))


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@app.task
class Mailer:
    def __init__(self, user: User) -> None:
        self.user = user

    def send(self, other: User | None = None) -> list:
        return [self.user.name, other is self.user]


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        user = User(id=7, name="Ada")
        session.add(user)
        session.commit()
        print(app.later(Mailer(user).send, user).id)
"""

DJANGO = """
import django
from django.conf import settings

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}, INSTALLED_APPS=[])
django.setup()

from django.db import connection, models
from piecework import Piecework

app = Piecework("sqlite:///jobs.db")


class User(models.Model):
    name = models.CharField(max_length=9)

    class Meta:
        app_label = "shop"


@app.task
class Mailer:
    def __init__(self, user: User) -> None:
        self.user = user

    def send(self, other: User | None = None) -> list:
        return [self.user.name, other is self.user]


if __name__ == "__main__":
    with connection.schema_editor() as editor:
        editor.create_model(User)
    user = User.objects.create(name="Ada")
    print(app.later(Mailer(user).send, user).id)
"""


@pytest.fixture
def run(folder: Path) -> Callable[[str, str], list[str]]:
    """Runs a script as the main module, and returns the ids that it prints."""

    def run(name: str, source: str) -> list[str]:
        (folder / f"{name}.py").write_text(source)
        done = subprocess.run(
            [sys.executable, f"{name}.py"],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


def results(folder: Path, ids: list[str]) -> list[Any]:
    app = Piecework(f"sqlite:///{folder}/jobs.db")
    records = [app.jobs.get(id).record() for id in ids]
    app.close()
    return [
        json.loads(record.result) if record.result else (record.state, record.reason or record.error)
        for record in records
    ]


def test_classes_of_a_script_that_is_the_main_module_run_in_another_process(
    folder: Path, run: Callable[[str, str], list[str]], spawn: Callable[..., Any]
) -> None:
    ids = run("scripted", SCRIPT)
    done = spawn("work", "scripted:app", "--burst")
    assert done.code == 0, done.err
    *others, (name, process), worker = results(folder, ids)
    assert others == [["Process", "a", 5, "q"], ["Child", "b", 2, ""], "waited c"]
    assert name == "d"
    assert process != worker  # by the class's pool, but for a coroutine


def test_a_worker_that_runs_another_script_says_which_task_it_does_not_know(
    folder: Path, run: Callable[[str, str], list[str]], spawn: Callable[..., Any]
) -> None:
    ids = run("scripted", SCRIPT)
    (folder / "other.py").write_text('from piecework import Piecework\napp = Piecework("sqlite:///jobs.db")\n')
    done = spawn("work", "other:app", "--burst")
    assert done.code == 0, done.err
    assert [(state, "unknown task 'scripted." in reason) for state, reason in results(folder, ids)] == [
        ("parked", True)
    ] * 5


@pytest.mark.parametrize("source", [SQLALCHEMY, DJANGO], ids=["sqlalchemy", "django"])
def test_rows_are_loaded_in_another_process(
    folder: Path, run: Callable[[str, str], list[str]], spawn: Callable[..., Any], source: str
) -> None:
    ids = run("shop_rows", source)
    done = spawn("work", "shop_rows:app", "--burst")
    assert done.code == 0, done.err
    assert results(folder, ids) == [["Ada", True]]
