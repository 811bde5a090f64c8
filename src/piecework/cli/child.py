"""One worker process: imports the app, says hello to its supervisor, works until told to stop.

Not for calling by hand; `piecework work` starts it.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import nullcontext
from typing import Any

import msgspec

from piecework.app import Piecework
from piecework.appref import AppPlace, load_app, pool_command
from piecework.cli.common import set_up_logging
from piecework.engine.child import BYE, EXIT_BROKEN_APP, EXIT_FENCED, WORN, Hello
from piecework.engine.exits import die_with_parent, leave_signals_to_the_supervisor
from piecework.engine.mending import steady_loggers
from piecework.engine.process import PoolSettings
from piecework.engine.slate import Slate
from piecework.engine.worker import Stopping, Worker
from piecework.errors import LeaseLost, PieceworkError

log = logging.getLogger("piecework.worker")

GC_THRESHOLDS = 20_000, 20, 20
NOTICE_SECONDS = 1.0  # how soon it is noticed that a job has closed the socket to the supervisor
SWITCH_SECONDS = 0.0005  # how long a job's Python code may keep the worker's own threads from running


class Told(msgspec.Struct):
    """What the supervisor's command line says."""

    reference: str
    concurrency: int
    queues: list[str] | None
    burst: bool
    pool_size: int
    max_jobs: int | None
    max_memory: int | None  # bytes
    app_dir: str | None
    log_level: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="piecework.cli.child")
    parser.add_argument("told")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--slate", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    args = parser.parse_args()
    die_with_parent()
    leave_signals_to_the_supervisor()
    told = msgspec.json.decode(args.told, type=Told)
    set_up_logging(told.log_level)
    steady_loggers()
    control = socket.socket(fileno=args.fd)
    for handle in (args.fd, args.slate):
        os.set_inheritable(handle, False)  # what a job starts must not hold them when this process is gone
    os.register_at_fork(after_in_child=control.close)
    environment, folder = dict(os.environ), os.getcwd()
    place = AppPlace(told.reference, told.app_dir, told.log_level)
    app = load(place)
    settings = app.settings
    hello = Hello(settings.url, settings.lease, settings.keep_completed_seconds, len(app.registry))
    control.sendall(msgspec.json.encode(hello) + b"\n")
    told_more = b""
    while b"\n" not in told_more:
        data = control.recv(4096)
        if not data:
            os._exit(1)
        told_more += data
    first, _, told_more = told_more.partition(b"\n")
    control.settimeout(NOTICE_SECONDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what the app's modules made stays; looking through it again and again costs a busy worker about a tenth of its time
    gc.set_threshold(*GC_THRESHOLDS)
    welcome = json.loads(first)
    slate = Slate(args.slate, args.slots)
    worker = Worker(
        app.registry,
        app.store,
        app.clock,
        name=welcome["worker"],
        concurrency=told.concurrency,
        queues=told.queues,
        burst=told.burst,
        max_payload=settings.max_payload,
        slate=slate,
        lease=settings.lease,
        processes=PoolSettings(
            pool_command(place),
            told.pool_size,
            environment,
            folder,
            told.max_jobs,
            told.max_memory,
        ),
        on_worn=lambda: control.sendall(WORN + b"\n"),
    )
    worker.beaten(welcome["beaten"])
    worker.run_alone(welcome["alone"])
    signal.signal(signal.SIGTERM, lambda *_: worker.stop(Stopping.DRAIN))
    threading.Thread(
        target=_obey, args=(control, told_more, worker, slate), name="piecework-control", daemon=True
    ).start()
    with nullcontext() if app.outbox is None else app.outbox.carrier(burst=told.burst):
        code = _work(worker)
    control.sendall(BYE + b"\n")
    _end(code)


def load(place: AppPlace) -> Piecework:
    """The app; a process that cannot import it says why, and ends."""
    try:
        return load_app(place.reference, place.folder)
    except PieceworkError as error:
        sys.stderr.write(f"piecework: {error}\n")
    except BaseException:
        traceback.print_exc()
        sys.stderr.write(f"piecework: the app {place.reference!r} could not be imported\n")
    _end(EXIT_BROKEN_APP)
    raise AssertionError


def _work(worker: Worker) -> int:
    try:
        worker.run()
    except LeaseLost as error:
        log.warning("stopping: %s", error)
        return EXIT_FENCED
    except Exception:
        log.exception("the worker's own loop failed; its supervisor takes its jobs back")
        return 1
    return 0


def _obey(control: socket.socket, said: bytes, worker: Worker, slate: Slate) -> None:
    """Follows the supervisor's words; when they end it is gone, and nobody beats for this process any more."""
    while True:
        *lines, said = said.split(b"\n")
        for line in lines:
            _follow(json.loads(line), worker)
        try:
            data = control.recv(4096)
        except TimeoutError:
            continue
        except OSError as error:
            log.error("a job has closed the socket to the supervisor (%s); this process ends", error)
            # Whose end could not be recorded is charged: most likely it closed the store's file as well.
            for slot, id in enumerate(worker.unsettled()[: slate.slots]):
                slate.write(slot, id)
            _end(1)
        if not data:
            _end(1)
        said += data


def _follow(said: dict[str, Any], worker: Worker) -> None:
    if "beaten" in said:  # by the monotonic clock, which is the machine's and not a process's own
        worker.beaten(said["beaten"])
    elif "alone" in said:
        worker.run_alone(said["alone"])
    else:
        worker.stop(Stopping.DRAIN if said["stop"] == "drain" else Stopping.NOW)


def _end(code: int) -> None:
    """Ends the process without waiting for threads that a job may have left behind."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a job may have closed it
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
