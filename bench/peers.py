"""Others on SQLite, for orders of magnitude: Huey for jobs and DBOS for operations, where they are installed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from bench.reading import NAME, USER, NotExact, Reading
from bench.worker import ROOT

THREADS = 4
RECORD = struct.Struct("=qd")  # a job's number, and when it ended
PATIENCE = 120.0


def installed() -> bool:
    return find_spec("huey") is not None and find_spec("dbos") is not None


def dbos_steps(path: Path, operations: int, steps: int) -> Reading:
    """Steps a second of DBOS in a process of its own, which starts the workflows and runs them in its threads."""
    command = [sys.executable, "-m", "bench.peers_dbos", str(path), str(operations), str(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE * 5, check=False)
    if done.returncode != 0:
        raise NotExact(f"DBOS: {done.stderr[-2000:]}")
    return Reading(float(done.stdout.split()[-1]))


def huey_label(synchronous: str) -> str:
    """Huey knows FULL and OFF, nothing between."""
    return f"Huey on SQLite, {THREADS} threads" + (", synchronous OFF" if synchronous == "NORMAL" else "")


def huey_drain(path: Path, n: int, synchronous: str) -> Reading:
    """Jobs a second of one consumer with threads; each job says that it ended with a 16-byte record in a file."""
    records = path.with_suffix(".records")
    records.touch()
    told = {"BENCH_HUEY_DB": str(path), "BENCH_HUEY_RECORDS": str(records), "BENCH_HUEY_SYNCHRONOUS": synchronous}
    os.environ.update(told)
    from bench.peers_huey import build

    _, done = build()
    for number in range(n):
        done(number, USER, NAME)
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "bench.peers_huey.app"]
    command += ["--workers", str(THREADS), "--worker-type", "thread", "--quiet"]
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with path.with_suffix(".log").open("wb") as log:
        consumer = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(consumer, records, n)
    finally:
        consumer.send_signal(signal.SIGINT)
        try:
            consumer.wait(10)
        except subprocess.TimeoutExpired:
            consumer.kill()
            consumer.wait()
    ends = list(RECORD.iter_unpack(records.read_bytes()))
    if sorted(number for number, _ in ends) != list(range(n)):
        raise NotExact(f"Huey ended {len(ends)} jobs of {n}")
    moments = [moment for _, moment in ends]
    return Reading((n - 1) / (max(moments) - min(moments)))


def _wait(consumer: subprocess.Popen[bytes], records: Path, n: int) -> None:
    """Looks at the records' size only; the queue's own file is left alone."""
    end = time.monotonic() + PATIENCE
    while records.stat().st_size < n * RECORD.size:
        if consumer.poll() is not None or time.monotonic() > end:
            return
        time.sleep(0.1)
