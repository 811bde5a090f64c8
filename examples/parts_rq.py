"""A distributed job whose parts are done by a worker of RQ: python examples/parts_rq.py redis://localhost:6379/0

RQ keeps its queue in Redis. The distributed job is kept in a file here: it may live elsewhere than the queue.
"""

from __future__ import annotations

import sys
import tempfile

from redis import Redis
from rq import Queue, SimpleWorker

from piecework.distributed import distributed_job


def shout(url: str, token: str, part: str, text: str) -> None:
    """What RQ's worker runs; it finds it by its name, `parts_rq.shout`."""
    job = distributed_job(url, token)
    if not job.stopped:
        job.done(part, text.upper())


def main(url: str, broker: str) -> None:
    redis = Redis.from_url(broker)
    queue = Queue("shouts", connection=redis)
    job = distributed_job(url, "shouts")
    words = ["to", "be", "or", "not"]
    job.push_each(words, lambda word, part: queue.enqueue("parts_rq.shout", url, job.token, part, word))
    SimpleWorker([queue], connection=redis).work(burst=True, logging_level="ERROR")
    print(f"{job.state}: {' '.join(word for _, word in job.results())}")


if __name__ == "__main__":
    broker = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0"
    with tempfile.TemporaryDirectory() as folder:
        main(f"sqlite:///{folder}/jobs.db", broker)
