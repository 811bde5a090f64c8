"""An app whose jobs do to their process whatever a job can do to it. Never called directly; workers import it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from piecework import Cancel, Fail, Piecework, Retry, current

app = Piecework(os.environ.get("HOUSE_URL", "sqlite:///jobs.db"), lease=float(os.environ.get("HOUSE_LEASE", "20")))
FOLDER = Path(os.environ.get("HOUSE_FOLDER", "."))

usleep = ctypes.PyDLL(None).usleep  # unlike CDLL it keeps the interpreter's lock


def close_stdin() -> None:
    os.close(0)


def close_stderr() -> None:
    sys.stderr.close()


def lose_stdout() -> None:
    sys.stdout = None  # type: ignore[assignment]


def print_to_a_closed_stream() -> None:
    if sys.stdout is not None:  # another job may have taken it away
        sys.stdout.close()


def lose_the_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


def fork_and_return() -> None:
    os.fork()


def fork_and_exit() -> None:
    if os.fork() == 0:
        sys.exit(3)


def fork_and_raise() -> None:
    if os.fork() == 0:
        raise ValueError("in the copy")


def fork_and_stay() -> None:
    """The copy outlives the job; the test ends it."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    (FOLDER / f"copy {pid}").touch()


def leak_threads() -> None:
    for n in range(500):
        threading.Thread(target=threading.Event().wait, daemon=n % 2 == 0).start()


def leave_a_thread_that_dies() -> None:
    def die() -> None:
        raise SystemExit(9)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()


def hold_the_interpreter() -> None:
    """In C, for longer than the lease of a second."""
    usleep(2_500_000)


def match_for_long() -> None:
    """A pattern that goes wrong, with the interpreter's lock held: about as long as the lease."""
    for n in range(18, 40):
        began = time.monotonic()
        re.match(r"(a|aa)+$", "a" * n + "b")
        if time.monotonic() - began > 0.5:
            return


def change_signals() -> None:
    """Only a main thread may; elsewhere this is an error of the job."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def change_group() -> None:
    os.setpgid(0, 0)


def lower_recursion() -> None:
    sys.setrecursionlimit(max(60, len_of_stack() + 5))


def len_of_stack() -> int:
    frame, n = sys._getframe(), 0
    while frame is not None:
        frame, n = frame.f_back, n + 1  # type: ignore[assignment]
    return n


def change_time() -> None:
    time.time = lambda: 0.0


def close_everything() -> None:
    os.closerange(0, 256)


def close_what_is_not_its_own() -> None:
    """All but the standard streams: the store's file, the sockets to the supervisor and to the processes."""
    os.closerange(3, 256)


def write_on_every_socket() -> None:
    for number in range(3, 64):
        try:
            os.fstat(number)
            socket.socket(fileno=os.dup(number)).send(b"\0\0\0\4junk\n")
        except OSError:
            continue


def empty_the_environment() -> None:
    os.environ.clear()


def disable_gc() -> None:
    gc.disable()


def take_memory() -> None:
    bytearray(1 << 62)


def hold_much_memory() -> None:
    bytearray(300 << 20)


def short_timeouts() -> None:
    socket.setdefaulttimeout(0.001)


def silence_logging() -> None:
    logging.getLogger().handlers.clear()
    logging.shutdown()


def break_logging() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no log")

    logging.getLogger().addHandler(Broken())


def exit_now() -> None:
    sys.exit("bye")


def interrupt() -> None:
    raise KeyboardInterrupt


def end_a_generator() -> None:
    raise GeneratorExit


HARMS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        close_stdin,
        close_stderr,
        lose_stdout,
        print_to_a_closed_stream,
        lose_the_folder,
        fork_and_return,
        fork_and_exit,
        fork_and_raise,
        fork_and_stay,
        leak_threads,
        leave_a_thread_that_dies,
        match_for_long,
        change_signals,
        change_group,
        lower_recursion,
        change_time,
        empty_the_environment,
        disable_gc,
        take_memory,
        hold_much_memory,
        short_timeouts,
        silence_logging,
        break_logging,
        exit_now,
        interrupt,
        end_a_generator,
        close_everything,
        close_what_is_not_its_own,
        write_on_every_socket,
        hold_the_interpreter,
    )
}


# ── errors that bite ─────────────────────────────────────────────────────────────────────────────


class Mine(BaseException):
    pass


class NoWords(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class ExitsWhenRead(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoTraceback(Exception):
    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no traceback")


class NoClass(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class")


class HostileMeta(type):
    def __instancecheck__(cls, other: object) -> bool:
        raise RuntimeError("no instances")

    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError("no attributes")


class Hostile(Exception, metaclass=HostileMeta):
    pass


class HollowRetry(Retry):
    def __init__(self) -> None:
        """Leaves out what a Retry is made of."""


class ExitsWhenMade(msgspec.Struct):
    """An argument that ends whoever decodes it."""

    n: int = 0

    def __post_init__(self) -> None:
        if self.n:
            raise SystemExit(self.n)


ERRORS: dict[str, Callable[[], BaseException]] = {
    "its own BaseException": Mine,
    "no words": NoWords,
    "exits when read": ExitsWhenRead,
    "no traceback": NoTraceback,
    "no class": NoClass,
    "hostile": lambda: type.__call__(Hostile),
    "a verdict that is hollow": HollowRetry,
    "NUL": lambda: ValueError("a\x00b"),
    "a lone surrogate": lambda: ValueError("a\ud800b"),
    "ten megabytes": lambda: ValueError("x" * 10_000_000),
    "a reason of surrogates": lambda: Fail("a\x00\ud800"),
    "a cancel of surrogates": lambda: Cancel("a\x00\ud800"),
    "a group": lambda: BaseExceptionGroup("several", [ValueError("one"), Mine()]),
}


def throw(name: str) -> None:
    current.progress(10**300, float("1e300"), "\x00\ud800")
    raise ERRORS[name]()


# ── the three places ─────────────────────────────────────────────────────────────────────────────


@app.task(name="thread", attempts=1)
def in_a_thread(harm: str) -> None:
    HARMS[harm]()


@app.task(name="loop", attempts=1)
async def on_the_loop(harm: str) -> None:
    HARMS[harm]()


@app.task(name="process", attempts=1, pool="process")
def in_a_process(harm: str) -> None:
    HARMS[harm]()


@app.task(name="throw-thread", attempts=1)
def throw_in_a_thread(name: str) -> None:
    throw(name)


@app.task(name="throw-loop", attempts=1)
async def throw_on_the_loop(name: str) -> None:
    throw(name)


@app.task(name="throw-process", attempts=1, pool="process")
def throw_in_a_process(name: str) -> None:
    throw(name)


@app.task(name="made-thread", attempts=1)
def made_in_a_thread(argument: ExitsWhenMade) -> None:
    pass


@app.task(name="made-loop", attempts=1)
async def made_on_the_loop(argument: ExitsWhenMade) -> None:
    pass


@app.task(name="made-process", attempts=1, pool="process")
def made_in_a_process(argument: ExitsWhenMade) -> None:
    pass


@app.task(name="good-thread", attempts=1)
def good_in_a_thread(n: int) -> int:
    return n + 1


@app.task(name="good-loop", attempts=1)
async def good_on_the_loop(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@app.task(name="good-process", attempts=1, pool="process")
def good_in_a_process(n: int) -> int:
    return n + 1


@app.task(name="neighbour", attempts=1)
def neighbour(gate: str) -> int:
    """Runs beside the harm, until the gate opens."""
    while not Path(gate).exists():
        time.sleep(0.005)
    return os.getpid()


@app.task(name="aneighbour", attempts=1)
async def aneighbour(gate: str) -> int:
    while not Path(gate).exists():
        await asyncio.sleep(0.005)
    return os.getpid()


@app.task(name="neighbour-process", attempts=1, pool="process")
def neighbour_in_a_process(gate: str) -> int:
    while not Path(gate).exists():
        current.check()
        time.sleep(0.005)
    return os.getpid()


IN = {"thread": in_a_thread, "loop": on_the_loop, "process": in_a_process}
THROW = {"thread": throw_in_a_thread, "loop": throw_on_the_loop, "process": throw_in_a_process}
MADE = {"thread": made_in_a_thread, "loop": made_on_the_loop, "process": made_in_a_process}
GOOD = {"thread": good_in_a_thread, "loop": good_on_the_loop, "process": good_in_a_process}
BESIDE = {"thread": neighbour, "loop": aneighbour, "process": neighbour_in_a_process}
