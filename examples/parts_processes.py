"""A distributed job whose parts are done by plain processes, which import nothing of piecework but its light door.

python examples/parts_processes.py
"""

from __future__ import annotations

import multiprocessing
import tempfile

from piecework.distributed import distributed_job


def square(work: tuple[str, str, str, int]) -> tuple[str, bool]:
    """What a process does with a part; the answer of `done` is true for the one that finished the job."""
    url, token, part, number = work
    job = distributed_job(url, token)
    return part, not job.stopped and bool(job.done(part, number * number))


def main(url: str) -> None:
    job = distributed_job(url, "squares")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        work = ((url, job.token, part, number) for number, part in job.push_each(range(20)))
        answers = list(pool.imap_unordered(square, work))
    print(
        f"{job.state}: {job.total} parts, {len(answers)} answers, {sum(last for _, last in answers)} of them the last"
    )
    print(f"the sum of the squares is {sum(result for _, result in job.results())}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(f"sqlite:///{folder}/jobs.db")
