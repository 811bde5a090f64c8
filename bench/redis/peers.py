"""Others on Redis, in the same run and on the same server: Celery, Dramatiq, Huey, RQ and SAQ, where they are installed.

Each has a module of its own with the same no-op, and one worker, set as its documentation recommends for throughput: none has
less than its defaults. A job says that it ended with a 16-byte record in a file; what counts is the time from the first record
to the last.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from bench.reading import NotExact, Reading
from bench.worker import ROOT

RECORD = struct.Struct("=qd")  # a job's number, and when it ended
PATIENCE = 300.0

WORKERS = {
    "celery": ["celery", "-A", "bench.redis.peer_celery", "worker", "-c", "2", "--prefetch-multiplier", "100"],
    "dramatiq": ["dramatiq", "bench.redis.peer_dramatiq", "--processes", "1", "--threads", "8"],
    "huey": ["huey.bin.huey_consumer", "bench.redis.peer_huey.app", "--workers", "8", "--quiet"],
    "rq": ["bench.redis.peer_rq"],
    "saq": ["saq", "bench.redis.peer_saq.settings"],
}

SAID = {  # what was measured
    "celery": "Celery (one worker with two processes, 100 messages fetched ahead for each, no results)",
    "dramatiq": "Dramatiq (one process, 8 threads)",
    "huey": "Huey (one process, 8 threads, no results)",
    "rq": "RQ (its worker that does not fork, no results)",
    "saq": "SAQ (one process, 100 coroutines)",
}

SLOW = {"celery", "rq"}


def jobs_of(name: str, n: int) -> int:
    """How many jobs a peer gets: a quarter where each takes a millisecond and more."""
    return n // 4 if name in SLOW else n


def installed() -> list[str]:
    return [name for name in WORKERS if find_spec(name) is not None]


def drain(name: str, port: int, n: int) -> Reading:
    """Jobs a second of one worker process of a peer."""
    with tempfile.TemporaryDirectory(prefix="piecework-bench-") as folder:
        records = Path(folder) / "records"
        records.touch()
        os.environ |= {"BENCH_PEER_PORT": str(port), "BENCH_PEER_RECORDS": str(records)}
        importlib.import_module(f"bench.redis.peer_{name}").enqueue(n)
        _work(WORKERS[name], records, n)
        ends = list(RECORD.iter_unpack(records.read_bytes()))
    if len(ends) > n:  # which is theirs to tell: piecework's own jobs are counted to the last one
        print(f"  {name} ran {len(ends) - n} of {n:,} jobs more than once", file=sys.stderr)
    moments = [moment for _, moment in ends]
    return Reading((n - 1) / (max(moments) - min(moments)))


def _work(command: list[str], records: Path, n: int) -> None:
    """Runs a worker until all have ended; it is looked at by the file's size, until that may be all."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with records.with_name("log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "PYTHONPATH": path, "C_FORCE_ROOT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + PATIENCE
    try:
        while not _all_ended(records, n):
            if worker.poll() is not None or time.monotonic() > end:
                raise NotExact(f"{command[0]}: {records.with_name('log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGINT)
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _all_ended(records: Path, n: int) -> bool:
    if records.stat().st_size < n * RECORD.size:
        return False
    return {number for number, _ in RECORD.iter_unpack(records.read_bytes())} == set(range(n))


# ── in the peers' own modules ────────────────────────────────────────────────────────────────────


def port() -> int:
    return int(os.environ["BENCH_PEER_PORT"])


def note(number: int) -> None:
    """What a job does: it says that it ended."""
    os.write(_file(), RECORD.pack(number, time.time()))


def _file() -> int:
    if os.getpid() not in _files:
        _files[os.getpid()] = os.open(os.environ["BENCH_PEER_RECORDS"], os.O_WRONLY | os.O_APPEND)
    return _files[os.getpid()]


_files: dict[int, int] = {}
