"""A distributed job whose parts are done by a Celery worker: python examples/parts_celery.py

Celery's broker is a folder here, so that nothing else is needed; any other will do. The worker knows nothing of
piecework but the light door, a URL and a token.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery

from piecework.distributed import distributed_job

FOLDER = os.environ.get("PARTS_FOLDER") or tempfile.mkdtemp()
URL = f"sqlite:///{FOLDER}/jobs.db"

queue = Celery("parts_celery", broker="filesystem://")
queue.conf.broker_transport_options = {
    name: f"{FOLDER}/{kind}"
    for name, kind in (
        ("data_folder_in", "messages"),
        ("data_folder_out", "messages"),
        ("control_folder", "control"),
    )
}
queue.conf.worker_enable_remote_control = False


@queue.task(name="word_count")
def word_count(token: str, part: str, text: str) -> None:
    job = distributed_job(URL, token)
    if not job.stopped:
        job.done(part, len(text.split()))


def main() -> None:
    for kind in ("messages", "control"):
        Path(FOLDER, kind).mkdir()
    job = distributed_job(URL, "words")
    texts = ["one", "one two", "one two three", "", "one two"]
    job.push_each(texts, lambda text, part: word_count.delay(job.token, part, text))
    worker = start_worker()
    try:
        while not job.finished:
            if worker.poll() is not None:
                raise SystemExit(f"Celery's worker has ended with {worker.returncode}")
            time.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait()
    print(f"{job.state}: {sum(words for _, words in job.results())} words in {job.total} parts")


def start_worker() -> subprocess.Popen[Any]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "celery",
        "-A",
        "parts_celery",
        "--workdir",
        str(Path(__file__).parent),
    ]
    options = [
        "worker",
        "--pool=solo",
        "--loglevel=ERROR",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    return subprocess.Popen([*command, *options], env={**os.environ, "PARTS_FOLDER": FOLDER}, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    import shutil

    try:
        main()
    finally:
        shutil.rmtree(FOLDER)
