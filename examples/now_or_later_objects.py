"""Now or later for objects: the class stays as it is, and so does the code that calls it.

Run it: ``python examples/now_or_later_objects.py``
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from piecework import Piecework, current
from piecework.errors import UsageError

folder = tempfile.TemporaryDirectory()
app = Piecework(f"sqlite:///{Path(folder.name) / 'jobs.db'}")
USERS = {"ee6f1d66-b4e5-11e6-80f5-76304dec7eb7": "Ada"}


@app.task(queue="process")
class SomeProcess:
    """An ordinary class. The argument that it is constructed with is all that travels."""

    def __init__(self, some_id: str) -> None:
        self.user = USERS.get(some_id, some_id)  # looked up again by the worker, which constructs it anew

    def call(self, greeting: str = "hello") -> str:
        return f"{greeting} {self.user}, {'in the background' if current.inside else 'right here'}"

    async def wait(self) -> str:
        return f"waited for {self.user}"

    def _secret(self) -> None: ...


@dataclass
class Child(SomeProcess):
    """A child needs no decorator: it runs as itself."""

    first: int
    second: int = 2

    def __post_init__(self) -> None:
        super().__init__(f"{self.first}/{self.second}")

    def call(self, greeting: str = "hello") -> str:
        return f"the child says: {super().call(greeting)}"


@app.task(attempts=5)
@dataclass(frozen=True)
class Welcome:
    """A mail, which is delivered now or later."""

    user: str

    def deliver(self) -> str:
        return f"delivered to {self.user}"


def main() -> None:
    process = SomeProcess("ee6f1d66-b4e5-11e6-80f5-76304dec7eb7")
    print(f"now:    {process.call('good morning')}")
    print(f"        {Welcome('Ada').deliver()}")

    with app.worker(concurrency=2):
        job = app.later(process.call, "good morning")
        print(f"later:  {job.result(timeout=30)}")
        print(f"        {app.later(Welcome('Ada').deliver).result(timeout=30)}")
        print(f"        stored as {job.task} with {job.record().args}")

        soon = app.using(queue="low", delay=0.1).later(Child(1, second=3).call)
        print(f"child:  {soon.result(timeout=30)}")
        print(f"async:  {app.later(process.wait).result(timeout=30)}")

    try:
        app.later(process._secret)
    except UsageError as refused:
        print(f"wrong:  {refused}")


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
