"""An app for real workers: jobs that are killed, that hang and that kill themselves, and say how they stand meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from piecework import Piecework, current
from piecework.errors import ProcessDied

FOLDER = Path(os.environ["FRAMEWORK_FOLDER"])
app = Piecework(os.environ["FRAMEWORK_URL"], lease=2)


def note(name: str) -> None:
    """Leaves word of a process that runs something, one line for each time."""
    with (FOLDER / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def noted(name: str) -> list[int]:
    path = FOLDER / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def lives(pid: int) -> bool:
    """Whether a process still runs, and does not only wait to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@app.task(identity=lambda user_id, number: user_id, one_per_identity=True, attempts=2)
def validate_card(user_id: int, number: str) -> None:
    """The first time it waits for its end, which is not its own."""
    current.set_status({"phase": "asking the bank", "run": current.run})
    note("validating")
    while current.run == 1 and not (FOLDER / "go").exists():
        time.sleep(0.01)
    current.set_status({"success": True, "run": current.run})


@app.task(identity="n", pool="process", timeout=0.5, grace=0, attempts=2, retry=0)
def hangs(n: int) -> None:
    """It does not listen to anybody; and says whether another still runs."""
    others = [pid for pid in noted("hanging") if lives(pid)]
    note("hanging")
    current.set_status({"attempt": current.attempt, "others": others})
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # whatever is raised in it
            continue


def die_once() -> int:
    if current.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return current.attempt


listed = app.task(name="listed", pool="process", retry_on=ProcessDied, retry=0, attempts=3)(die_once)
unlisted = app.task(name="unlisted", pool="process", retry_on=ConnectionError, retry=0, attempts=3)(die_once)
