"""Scripts, sent to where their keys are: a few connections for each process, however many threads ask, and none across a fork.

Every script is one transaction of the server. Which server, and that a lost connection is opened again, is the driver's
to know; that a call is sent again after that is safe, because every verb is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import redis
from redis import exceptions as driver_errors
from redis.sentinel import MasterNotFoundError

from piecework.errors import StoreError, StoreRefused, StoreUnavailable
from piecework.failpoints import failpoint
from piecework.store.redis.connecting import Driver, connect, is_cluster, let_go
from piecework.store.redis.scripts import script
from piecework.store.redis.url import Place

FREE_SECONDS = 30.0  # how long a call waits for a free connection of its own process

# What a fork copied into this process. It is the parent's: not used, not closed, not forgotten.
_inherited: list[object] = []

_TRY_AGAIN = {
    "OOM": "is out of memory: nothing was stored; give it more (maxmemory), or prune and delete jobs that have ended",
    "LOADING": "is loading its data after a start",
    "READONLY": "is a replica, which cannot be written to; name the master, or its Sentinels, in the URL",
    "MISCONF": "cannot write its data to disk, and takes nothing more until it can; look into its log",
    "NOREPLICAS": "has fewer replicas than it must have (min-replicas-to-write)",
    "MASTERDOWN": "is a replica that has lost its master",
    "CLUSTERDOWN": "is a Cluster that is not whole",
    "TRYAGAIN": "is a Cluster that is moving this data right now",
    "MOVED": "is a Cluster that is moving this data right now",
    "ASK": "is a Cluster that is moving this data right now",
    "BUSY": "is held up by somebody's script",
    "UNBLOCKED": "changed its role",
}
_REFUSED = {
    "NOAUTH": "wants a user and password that it knows; put them into the URL: redis://user:password@host",
    "WRONGPASS": "wants a user and password that it knows; put them into the URL: redis://user:password@host",
    "NOPERM": "does not let this user do that; allow it the keys and channels with its prefix, and +@all or the commands of "
    "scripts (+@scripting, +@read, +@write, +time, +info, +config|get, +subscribe, +publish), for a database other "
    "than 0 +select, and on a Cluster +cluster|slots and +command",
    "WRONGTYPE": "has other people's data under piecework's keys; choose another prefix: ?prefix=…",
    "CROSSSLOT": "refused keys of several slots",
}


class Call(NamedTuple):
    """A script by its title, with the keys that it touches and what it is told."""

    title: str
    keys: Sequence[bytes | str]
    args: Sequence[bytes | str | int | float] = ()

    def by_name(self) -> tuple[Any, ...]:
        return ("EVALSHA", script(self.title).sha, len(self.keys), *self.keys, *self.args)

    def in_full(self) -> tuple[Any, ...]:
        return ("EVAL", script(self.title).text, len(self.keys), *self.keys, *self.args)


class Client:
    """The server, or the servers, as this process sees them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.servers = 0  # that were met, each life by itself: one more may not know what the one before was told
        self._lives: dict[str, str] = {}
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._driver: Driver | None = None
        self._connecting = threading.Lock()
        self._turns = threading.BoundedSemaphore(self.place.connections)

    def _leave_fork_behind(self) -> None:
        if os.getpid() != self._pid:
            _inherited.append((self._driver, self._connecting, self._turns))
            self._reset()

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def script(self, title: str) -> Callable[..., Any]:
        """A function that runs the script of this title: ``run(keys, *args)`` gives what the script returns."""
        script(title)  # a title that is not there is noticed here

        def run(keys: Sequence[bytes | str], *args: bytes | str | int | float) -> Any:
            return self.call(Call(title, keys, args))

        return run

    def call(self, call: Call) -> Any:
        """Runs one script.

        Raises `StoreUnavailable` where it may be sent again, and was applied wholly or not at all.
        """
        with self.talking() as driver, _points([call]):
            try:
                return driver.execute_command(*call.by_name())
            except driver_errors.NoScriptError:  # the server was started again, or somebody flushed its scripts
                return driver.execute_command(*call.in_full())

    def together(self, calls: Sequence[Call]) -> list[Any]:
        """Runs scripts in one trip, each a transaction of its own; the first error is raised once all have been sent."""
        if len(calls) == 1:
            return [self.call(calls[0])]
        with self.talking() as driver, _points(calls):
            answers = _piped(driver, [call.by_name() for call in calls])
            unknown = [n for n, answer in enumerate(answers) if isinstance(answer, driver_errors.NoScriptError)]
            if unknown:
                again = _piped(driver, [calls[n].in_full() for n in unknown])
                for n, answer in zip(unknown, again, strict=True):
                    answers[n] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

    def command(self, *words: Any) -> Any:
        """A command of the server itself, on one server or on any node."""
        with self.talking() as driver:
            if is_cluster(driver):
                return driver.execute_command(*words, target_nodes="default-node")
            return driver.execute_command(*words)

    @property
    def is_cluster(self) -> bool:
        """Whether keys live on several servers. Asks, where nobody has yet."""
        with self.talking() as driver:
            return is_cluster(driver)

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def talking(self) -> Iterator[Driver]:
        """A turn on one of the few connections, with the driver's errors in the store's words."""
        self._leave_fork_behind()
        turns = self._turns
        if not turns.acquire(timeout=FREE_SECONDS):
            raise StoreUnavailable(
                f"all {self.place.connections} connections of this process to {self.place.shown} were busy for "
                f"{FREE_SECONDS:g} s"
            )
        driver = None
        try:
            driver = self.driver()
            yield driver
        except (redis.RedisError, driver_errors.RedisClusterException) as error:
            self.explain(error)
        except OSError as error:  # a name that is not known, a certificate that does not fit
            self._tell_unreached(str(error), error)
        finally:
            if driver is not None and driver is not self._driver:
                let_go(driver)  # this was closed meanwhile
            turns.release()

    def driver(self) -> Driver:
        """The driver's client; connects where that was not done yet. Its errors are the driver's."""
        self._leave_fork_behind()
        with self._connecting:
            if self._driver is None:
                self._driver = connect(self.place, self._meet)
            return self._driver

    def _meet(self, server: str, life: str) -> None:
        if self._lives.get(server) != life:
            self._lives[server] = life
            self.servers += 1

    def close(self) -> None:
        """Lets go of the connections, of those that other threads talk on when they have done so.

        The next call opens new ones.
        """
        self._leave_fork_behind()
        with self._connecting:
            driver, self._driver = self._driver, None
        if driver is not None:
            let_go(driver)

    def explain(self, error: Exception) -> NoReturn:
        """Turns the driver's error into the store's."""
        error = _refusal_behind(error)
        shown, said = self.place.shown, _said(error)
        code = said.split(" ", 1)[0] if said.split(" ", 1)[0].isupper() else ""
        if code in ("READONLY", "MASTERDOWN"):
            self.close()  # another server may be the master by now
        if code in _REFUSED or isinstance(error, redis.AuthenticationError | driver_errors.AuthorizationError):
            what = _REFUSED.get(code, _REFUSED["WRONGPASS"])
            raise StoreError(f"the store {shown} {what} ({said})") from error
        if code in _TRY_AGAIN:
            raise StoreUnavailable(f"the store {shown} {_TRY_AGAIN[code]} ({said})") from error
        if isinstance(error, redis.TimeoutError):
            raise StoreUnavailable(f"the store {shown} did not answer within {self.place.timeout:g} s") from error
        if "Cluster mode is not enabled" in said:
            raise StoreError(
                f"the store {shown} is one server and no Cluster; leave +cluster out of the URL"
            ) from error
        if isinstance(error, MasterNotFoundError):
            self._explain_no_master(error)
        if "unknown command 'EVALSHA'" in said:
            raise StoreError(
                f"the store {shown} runs no scripts; where it is a Sentinel, say redis+sentinel://host/mymaster, and where its "
                "configuration renames EVALSHA, take that out"
            ) from error
        if "unknown command 'SENTINEL'" in said:
            raise StoreError(f"the store {shown} is no Sentinel; leave +sentinel out of the URL") from error
        if isinstance(error, redis.ConnectionError | driver_errors.RedisClusterException):
            self._tell_unreached(said, error)
        raise StoreError(f"the store {shown} failed: {said}") from error

    def _explain_no_master(self, error: Exception) -> NoReturn:
        """The driver tells of each Sentinel why it did not answer, behind all that it knows of the connection to it."""
        shown, said = self.place.shown, str(error)
        if "AuthenticationError" in said:
            raise StoreError(
                f"the Sentinels of the store {shown} want a user and password that they know; put them into the URL: "
                "?sentinel_user=…&sentinel_password=…"
            ) from error
        whys = ", ".join(why.split(", <redis", 1)[0] for why in said.split(")> - ")[1:])
        raise StoreUnavailable(
            f"the store {shown} cannot be reached: no Sentinel names a master {self.place.service!r}"
            + (f" ({whys})" if whys else "; that may be wrong in the URL, or it is being failed over")
        ) from error

    def _tell_unreached(self, said: str, error: Exception) -> NoReturn:
        if any(words in said for words in _NOT_THIS_TLS):
            raise StoreRefused(f"the store {self.place.shown} does not let us in: {said}") from error
        raise StoreUnavailable(f"the store {self.place.shown} cannot be reached: {said}") from error


@contextmanager
def _points(calls: Sequence[Call]) -> Iterator[None]:
    """Where a test can kill this process: before something is written and after it."""
    writes = any(script(call.title).writes for call in calls)
    if writes:
        failpoint("store.before_commit")
    yield
    if writes:
        failpoint("store.after_commit")


def _piped(driver: Driver, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The answers, errors among them, each in its place."""
    if is_cluster(driver):
        pipeline = driver.pipeline()
        for (
            words
        ) in commands:  # by its first key; the driver itself would ask the server where the keys of a script are
            pipeline.execute_command(*words, target_nodes=driver.get_node_from_key(words[3]))
    else:
        pipeline = driver.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers


def _refusal_behind(error: Exception) -> Exception:
    """What no other try will change, out of the words of a Cluster's client: that no node can be reached, or is a Cluster's."""
    behind: BaseException | None = error
    while isinstance(behind, driver_errors.RedisClusterException):
        behind = behind.__cause__ or behind.__context__
    return behind if isinstance(behind, redis.AuthenticationError | driver_errors.NoPermissionError) else error


def _said(error: Exception) -> str:
    """The first line of what the server or the driver said, with the code that the driver takes off; it names no password."""
    said = str(error).strip().split("\n")[0] or type(error).__name__
    code = "NOPERM" if _WITHIN in said else _CODES.get(type(error))
    return said if code is None or said.startswith(code) else f"{code} {said}"


# The other end's certificate is not one that is trusted, or of another name; or it answers without TLS. (Redis itself
# does not: it waits for the end of a line, and looks like a server that is stuck.)
_NOT_THIS_TLS = ("WRONG_VERSION_NUMBER", "CERTIFICATE_VERIFY_FAILED")
_WITHIN = "user executing the script can't"  # what a script's own command is refused with, under no code of its own

_CODES: dict[type, str] = {
    redis.OutOfMemoryError: "OOM",
    redis.ReadOnlyError: "READONLY",
    redis.BusyLoadingError: "LOADING",
    driver_errors.ClusterError: "TRYAGAIN",  # the driver has done so for a while ("TTL exhausted")
    driver_errors.ClusterDownError: "CLUSTERDOWN",
    driver_errors.TryAgainError: "TRYAGAIN",
    driver_errors.MasterDownError: "MASTERDOWN",
    driver_errors.MovedError: "MOVED",
    driver_errors.AskError: "ASK",
    driver_errors.ClusterCrossSlotError: "CROSSSLOT",
    driver_errors.NoPermissionError: "NOPERM",
    driver_errors.AuthenticationError: "WRONGPASS",
}
