"""piecework inside an ASGI application: a worker for as long as the server runs, and a health endpoint.

Plain ASGI, so it goes with Starlette, FastAPI, Django, Litestar and any server; none of them is imported. A worker
begins when the application's own startup is done, and is left before its shutdown begins, so jobs may use what the
application has opened. Each server process runs a worker of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import msgspec

from piecework.health import MAX_AGE, Health, look
from piecework.options import check_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from piecework.app import Piecework
    from piecework.engine.embedded import EmbeddedWorker

__all__ = ["health", "with_worker", "worker_lifespan"]

log = logging.getLogger("piecework.asgi")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

LOOK_SECONDS = 5.0  # how long a health endpoint waits for the store


class WorkerKeywords(TypedDict, total=False):
    """The options of the worker: those of ``app.worker``."""

    concurrency: int
    queues: Sequence[str] | None
    name: str
    shutdown_timeout: float


def worker_lifespan(
    jobs: Piecework, lifespan: Lifespan | None = None, **options: Unpack[WorkerKeywords]
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """A lifespan for Starlette and FastAPI that runs a worker of `jobs` while the application serves.

    `lifespan` is the application's own, if it has one: entered first, left last, its state passed on. Options are those
    of ``app.worker``; leaving waits up to `shutdown_timeout` seconds for what runs. A worker that cannot start fails
    the startup of the application. Raises `BadOption`.

    Example: ``web = FastAPI(lifespan=worker_lifespan(jobs, concurrency=4))``
    """
    worker = jobs.worker(**options)

    @asynccontextmanager
    async def around(application: Any) -> AsyncIterator[Any]:
        async with nullcontext() if lifespan is None else lifespan(application) as state, worker:
            yield state

    return around


def with_worker(application: ASGIApp, jobs: Piecework, **options: Unpack[WorkerKeywords]) -> ASGIApp:
    """Any ASGI application, with a worker of `jobs` that runs while the server does.

    Whether the application takes part in lifespan events itself does not matter; the server must send them, as servers
    do unless told otherwise. Options are those of ``app.worker``. A worker that cannot start is told to the server as
    ``lifespan.startup.failed``. Raises `BadOption`.

    Example: ``asgi = with_worker(get_asgi_application(), jobs, concurrency=4)``
    """
    return _WithWorker(application, jobs.worker(**options))


class _WithWorker:
    def __init__(self, application: ASGIApp, worker: EmbeddedWorker) -> None:
        self._application = application
        self._worker = worker
        self._asked = False  # the server sent lifespan events, or it was said that it does not

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        first, self._asked = not self._asked, True
        if scope["type"] == "lifespan":
            await _Lifespan(self._application, self._worker, receive, send).run(scope)
            return
        if first:
            log.warning("the server sends no lifespan events, so no worker runs in this process")
        await self._application(scope, receive, send)


class _Lifespan:
    """Stands between a server and an application while they agree on startup and shutdown."""

    def __init__(self, application: ASGIApp, worker: EmbeddedWorker, receive: Receive, send: Send) -> None:
        self._application = application
        self._worker = worker
        self._receive_next = receive
        self._send_on = send
        self._asked = False  # the server has asked for the startup
        self._answered = False  # the server knows what came of it
        self._runs = False  # the worker
        self._failed = False  # the worker did not start: the application shuts down again, unseen by the server
        self._ending = False  # the server has asked for the shutdown
        self._ended = False  # … and knows that it is done

    async def run(self, scope: MutableMapping[str, Any]) -> None:
        try:
            try:
                await self._application(scope, self._receive, self._send)
            except Exception as error:
                if self._answered:
                    raise
                log.info("the application takes no part in lifespan events (%s: %s)", type(error).__name__, error)
            await self._finish()
        finally:
            await self._leave()  # where the application or the server broke off

    async def _finish(self) -> None:
        """Does for the application whatever it did not do itself."""
        if not self._asked:
            await self._receive()
        if not self._answered:
            await self._send({"type": "lifespan.startup.complete"})
        if self._runs and not self._ending:
            await self._receive()
        if self._ending and not self._ended:
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _receive(self) -> Message:
        if self._failed:
            return {"type": "lifespan.shutdown"}
        message = await self._receive_next()
        if message["type"] == "lifespan.startup":
            self._asked = True
        elif message["type"] == "lifespan.shutdown":
            self._ending = True
            await self._leave()
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if not kind.startswith("lifespan."):
            raise RuntimeError(f"{kind} is no answer to a lifespan event")
        if self._failed:
            return
        if kind == "lifespan.startup.complete":
            message = await self._enter(message)
        self._answered = self._answered or kind.startswith("lifespan.startup.")
        self._ended = self._ended or kind.startswith("lifespan.shutdown.")
        await self._send_on(message)

    async def _enter(self, complete: Message) -> Message:
        try:
            await self._worker.__aenter__()
        except Exception as error:
            log.exception("the worker could not start")
            self._failed = True
            return {"type": "lifespan.startup.failed", "message": f"the piecework worker could not start: {error}"}
        self._runs = True
        return complete

    async def _leave(self) -> None:
        if self._runs:
            self._runs = False
            await self._worker.__aexit__(None, None, None)


# ── health ───────────────────────────────────────────────────────────────────────────────────────


def health(jobs: Piecework, *, max_age: float = MAX_AGE) -> ASGIApp:
    """An ASGI application that says who works: 200 while the store is there and a worker polled lately, else 503.

    The JSON names the store, each worker with ``polled_seconds_ago``, and the number of jobs in each state; no task,
    argument or result. A worker is called silent after `max_age` seconds. Raises `BadOption`.

    Example: ``web.add_route("/health", health(jobs))``; elsewhere than in Starlette and FastAPI, mount it.
    """
    return _HealthEndpoint(jobs, check_seconds(max_age, "health: max_age"))


class _HealthEndpoint:
    """A class, not a function: Starlette's routes take a function for a view of requests."""

    def __init__(self, jobs: Piecework, max_age: float) -> None:
        self._jobs = jobs
        self._max_age = max_age

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _nothing_to_do(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["method"] not in ("GET", "HEAD"):
            await _respond(send, 405, b"", allow=b"GET, HEAD")
        else:
            found = await self._look()
            body = msgspec.json.encode(found)
            await _respond(send, 200 if found.ok else 503, body, hide=scope["method"] == "HEAD")

    async def _look(self) -> Health:
        jobs = self._jobs
        try:
            return await asyncio.wait_for(jobs.edge.call(look, jobs.store, max_age=self._max_age), LOOK_SECONDS)
        except TimeoutError:
            said = f"it did not answer within {LOOK_SECONDS:g} s"
            return Health(status="no store", store=jobs.store.url, error=said)


async def _respond(send: Send, status: int, body: bytes, *, hide: bool = False, **headers: bytes) -> None:
    fields = {
        "content-type": b"application/json",
        "content-length": str(len(body)).encode(),
        "cache-control": b"no-store",
        **headers,
    }
    listed = [(name.encode(), value) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": b"" if hide else body})


async def _nothing_to_do(receive: Receive, send: Send) -> None:
    """Takes part in lifespan events, for who serves the endpoint by itself."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
