"""A program that does one thing about the distributed job ``t``, and may die while it does.

    python crashparts.py URL push LEDGER       pushes some items and notes in the ledger what it handed over
    python crashparts.py URL work LEDGER       ends every open part, and notes which answers were true
    python crashparts.py URL race SEED         says when it is ready, waits, and ends all parts in an order of its own, some twice
    python crashparts.py URL stop|resume -

    python crashparts.py URL serve             does what each line that it reads says, in a fork, and prints its exit code

It imports what a worker of any other queue imports. A third argument arms a failpoint, once the store is set up.
"""

from __future__ import annotations

import os
import random
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from piecework import failpoints
from piecework.distributed import DistributedJob, distributed_job
from piecework.errors import AlreadyClosed
from piecework.job import NewJob

ITEMS = 6
PARTS_RACED = 30


def follow_up(id: str) -> NewJob:
    return NewJob(id=id, task="report", args="{}")


def main(url: str, what: str, argument: str, *points: str) -> None:
    plain = distributed_job(url, "t")
    job = DistributedJob(plain._parts, "t", then=follow_up("then"), otherwise=follow_up("otherwise"))
    plain._parts.now()  # the connection is open, and what is armed next strikes in the verb itself
    assert plain.exists or what == "push"
    for point in points:
        failpoints.arm(point)
    if what == "push":
        with suppress(AlreadyClosed):  # the run before came to its end, and died behind the commit that says so
            job.push_each(range(ITEMS), lambda item, part: note(argument, part))
    elif what == "work":
        for part in job.open_parts():
            note(argument, f"{part} {bool(job.done(part))}")
    elif what == "race":
        race(job, int(argument))
    elif what == "stop":
        job.stop("a test says so")
    else:
        job.resume()


def note(ledger: str, line: str) -> None:
    with Path(ledger).open("a") as file:
        file.write(line + "\n")


def race(job: DistributedJob, seed: int) -> None:
    draw = random.Random(seed)
    parts = [str(n) for n in range(PARTS_RACED)]
    parts += draw.sample(parts, PARTS_RACED // 4)
    draw.shuffle(parts)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(bool(job.done(part)) for part in parts), flush=True)


def serve(url: str) -> None:
    """Starting an interpreter takes a hundred times as long as what it then does."""
    distributed_job(url, "t")  # imports the driver, and opens nothing
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                main(url, *line.split())
                code = 0
            finally:
                traceback.print_exc() if code else None
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1]) if sys.argv[2] == "serve" else main(*sys.argv[1:])
