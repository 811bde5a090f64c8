"""A worker inside an ASGI application, and its health endpoint: by protocol, under Starlette, and under a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from support import books, until

from piecework import Piecework
from piecework.asgi import health, with_worker, worker_lifespan
from piecework.errors import BadOption, StoreUnavailable
from piecework.job import SessionRecord, State

SAID: list[str] = []


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Piecework]:
    SAID.clear()
    jobs = Piecework(f"sqlite:///{tmp_path}/jobs.db")
    yield jobs
    jobs.close()


@pytest.fixture
def double(jobs: Piecework) -> Any:
    @jobs.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    return double


class Server:
    """The server's side of lifespan events."""

    def __init__(self, application: Any) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.asked: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(application({"type": "lifespan"}, self.asked.get, self.sent.put))

    async def ask(self, event: str) -> dict[str, Any]:
        """Sends an event and returns what was answered."""
        await self.asked.put({"type": f"lifespan.{event}"})
        return dict(await asyncio.wait_for(self.sent.get(), 20))

    async def end(self) -> None:
        await asyncio.wait_for(self.task, 20)
        assert self.sent.empty()


async def takes_part(scope: Any, receive: Any, send: Any) -> None:
    """An application with a startup and a shutdown of its own."""
    for event in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{event}"
        SAID.append(event)
        await send({"type": f"lifespan.{event}.complete"})


async def asserts(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def asks_and_raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise NotImplementedError("no lifespan here")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def answers_http(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def starts_only(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def goes_silently(scope: Any, receive: Any, send: Any) -> None:
    await starts_only(scope, receive, send)
    await receive()


ANY = [takes_part, asserts, asks_and_raises, returns, answers_http, starts_only, goes_silently]


# ── the protocol ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("inner", ANY, ids=lambda inner: inner.__name__)
async def test_the_worker_runs_from_startup_to_shutdown(jobs: Piecework, double: Any, inner: Any) -> None:
    """Whether the application takes part in lifespan events wholly, partly or not at all."""
    server = Server(with_worker(inner, jobs, concurrency=2))
    assert await server.ask("startup") == {"type": "lifespan.startup.complete"}
    job = await double.alater(4)
    assert await job.aresult(timeout=10) == 8
    assert await server.ask("shutdown") == {"type": "lifespan.shutdown.complete"}
    await server.end()
    assert jobs.store.sessions() == []


async def test_the_worker_begins_after_the_applications_startup_and_ends_before_its_shutdown(jobs: Piecework) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        for event in ("startup", "shutdown"):
            await receive()
            SAID.append(f"{event} with {len(jobs.store.sessions())} workers")
            await send({"type": f"lifespan.{event}.complete"})

    server = Server(with_worker(inner, jobs))
    await server.ask("startup")
    assert len(jobs.store.sessions()) == 1
    await server.ask("shutdown")
    await server.end()
    assert SAID == ["startup with 0 workers", "shutdown with 0 workers"]


async def test_a_worker_that_cannot_start_fails_the_startup(jobs: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the application, which had started, is shut down again."""

    def away(session: Any) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(jobs.store, "enlist", away)
    server = Server(with_worker(takes_part, jobs))
    answer = await server.ask("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "the store is away" in answer["message"]
    await server.end()
    assert SAID == ["startup", "shutdown"]


async def test_an_application_whose_own_startup_fails_gets_no_worker(jobs: Piecework) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    server = Server(with_worker(inner, jobs))
    assert await server.ask("startup") == {"type": "lifespan.startup.failed", "message": "no database"}
    with pytest.raises(RuntimeError, match="no database"):
        await server.end()
    assert not jobs.store.is_set_up()


async def test_an_application_that_breaks_off_takes_the_worker_along(jobs: Piecework) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await starts_only(scope, receive, send)
        raise RuntimeError("broken off")

    server = Server(with_worker(inner, jobs))
    assert (await server.ask("startup"))["type"] == "lifespan.startup.complete"
    with pytest.raises(RuntimeError, match="broken off"):
        await server.end()
    assert jobs.store.sessions() == []


async def test_a_server_that_cancels_takes_the_worker_along(jobs: Piecework) -> None:
    server = Server(with_worker(takes_part, jobs))
    await server.ask("startup")
    server.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.end()
    assert jobs.store.sessions() == []


async def test_a_shutdown_waits_for_what_runs(jobs: Piecework) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    @jobs.task(name="slow")
    async def slow() -> str:
        loop.call_soon_threadsafe(begun.set)
        await asyncio.sleep(0.2)
        return "done"

    server = Server(with_worker(takes_part, jobs))
    await server.ask("startup")
    job = await slow.alater()
    await begun.wait()
    await server.ask("shutdown")
    assert job.state is State.COMPLETED
    await server.end()


async def test_a_server_without_lifespan_events_is_told_once(jobs: Piecework, caplog: pytest.LogCaptureFixture) -> None:
    served = with_worker(returns, jobs)
    for _ in range(3):
        await served({"type": "http"}, None, None)
    assert caplog.text.count("no lifespan events") == 1


@pytest.mark.parametrize("make", [lambda jobs: with_worker(returns, jobs, concurrency=0), lambda jobs: worker_lifespan(jobs, concurrency=0), lambda jobs: worker_lifespan(jobs, queues="default"), lambda jobs: health(jobs, max_age=float("nan"))])  # fmt: skip
def test_a_bad_option_is_told_where_it_is_given(jobs: Piecework, make: Callable[[Piecework], Any]) -> None:
    with pytest.raises(BadOption):
        make(jobs)


# ── Starlette ────────────────────────────────────────────────────────────────────────────────────


async def test_a_lifespan_goes_around_the_applications_own(jobs: Piecework, double: Any) -> None:
    @asynccontextmanager
    async def mine(web: Starlette) -> AsyncIterator[dict[str, Any]]:
        SAID.append(f"open, {len(jobs.store.sessions())} workers")
        yield {"greeting": "hello"}
        SAID.append(f"close, {len(jobs.store.sessions())} workers")

    async def ask(request: Request) -> JSONResponse:
        job = await double.alater(3)
        return JSONResponse([request.state.greeting, await job.aresult(timeout=10)])

    web = Starlette(routes=[Route("/", ask)], lifespan=worker_lifespan(jobs, mine, concurrency=2))
    state: dict[str, Any] = {}

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await web({**scope, "state": state}, receive, send)

    server = Server(served)
    assert (await server.ask("startup"))["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as client:
        assert (await client.get("/")).json() == ["hello", 6]
    assert (await server.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
    await server.end()
    assert SAID == ["open, 0 workers", "close, 0 workers"]


async def test_a_lifespan_whose_worker_cannot_start_fails_the_startup(tmp_path: Path) -> None:
    jobs = Piecework(f"sqlite:///{tmp_path}/no/such/folder/jobs.db")
    server = Server(Starlette(lifespan=worker_lifespan(jobs)))
    answer = await server.ask("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "does not exist" in answer["message"]
    with pytest.raises(Exception, match="does not exist"):
        await server.end()


# ── health ───────────────────────────────────────────────────────────────────────────────────────


async def ask(application: Any, path: str = "/", method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
        return await client.request(method, path)


async def test_health_says_who_works_and_when_they_polled(jobs: Piecework, double: Any) -> None:
    web = Starlette(routes=[Route("/health", health(jobs)), Mount("/mounted", health(jobs))])
    async with jobs.worker(name="web-1"):
        assert await (await double.alater(1)).aresult(timeout=10) == 2
        while (answer := await ask(web, "/health")).status_code == 503:
            await asyncio.sleep(0.01)
        assert answer.status_code == 200
        found = answer.json()
        (worker,) = found["workers"]
        assert (found["status"], found["error"], found["jobs"]) == ("ok", None, {"completed": 1})
        assert (worker["name"], worker["pid"], worker["host"]) == ("web-1", os.getpid(), socket.gethostname())
        assert 0 <= worker["polled_seconds_ago"] < 10
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
    gone = await ask(web, "/mounted/")
    assert (gone.status_code, gone.json()["status"], gone.json()["workers"]) == (503, "silent", [])


async def test_health_of_a_worker_that_stopped_polling(jobs: Piecework, double: Any) -> None:
    double.later(1)
    jobs.store.enlist(SessionRecord(id="dead", beat=0, started_at=1.0, seen_at=1.0, name="w", host="h", pid=1))
    jobs.store.renew("dead", polled=31.0)
    assert (await ask(health(jobs))).status_code == 503
    assert (await ask(health(jobs, max_age=60))).status_code == 200


async def test_health_where_there_is_no_store_creates_none(tmp_path: Path) -> None:
    jobs = Piecework(f"sqlite:///{tmp_path}/jobs.db")
    answer = await ask(health(jobs))
    assert (answer.status_code, answer.json()["status"]) == (503, "no store")
    assert list(tmp_path.iterdir()) == []


async def test_health_while_the_store_is_away(jobs: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise StoreUnavailable("the store is away")

    jobs.store.migrate()
    monkeypatch.setattr(jobs.store, "sessions", away)
    answer = await ask(health(jobs))
    assert (answer.status_code, answer.json()["error"]) == (503, "the store is away")


async def test_health_while_the_store_hangs(jobs: Piecework, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr("piecework.asgi.LOOK_SECONDS", 0.05)
    monkeypatch.setattr(jobs.store, "is_set_up", lambda: go.wait(20))
    answer = await ask(health(jobs))
    assert (answer.status_code, answer.json()["status"]) == (503, "no store")
    go.set()


async def test_health_answers_head_and_refuses_the_rest(jobs: Piecework) -> None:
    head = await ask(health(jobs), method="HEAD")
    assert (head.status_code, head.content) == (503, b"")
    assert int(head.headers["content-length"]) > 0
    post = await ask(health(jobs), method="POST")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")


async def test_health_served_by_itself_takes_part_in_lifespan_events(jobs: Piecework) -> None:
    server = Server(health(jobs))
    assert (await server.ask("startup"))["type"] == "lifespan.startup.complete"
    assert (await server.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
    await server.end()


# ── a real server ────────────────────────────────────────────────────────────────────────────────

WEB = """
import threading

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from piecework import Piecework
from piecework.asgi import health, with_worker, worker_lifespan

jobs = Piecework("sqlite:///jobs.db")


@jobs.task
def double(n: int) -> int:
    return 2 * n


@jobs.task
async def slow() -> str:
    import asyncio, pathlib
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return "drained"


async def start(request):
    name = request.path_params["name"]
    job = await (double.alater(21) if name == "double" else slow.alater())
    return JSONResponse(job.id)


async def result(request):
    return JSONResponse(await (await jobs.jobs.aget(request.path_params["id"])).aresult(timeout=20))


routes = [Route("/start/{name}", start), Route("/result/{id}", result), Route("/health", health(jobs))]
by_lifespan = Starlette(routes=routes, lifespan=worker_lifespan(jobs, concurrency=2, name="web"))
wrapped = with_worker(Starlette(routes=routes), jobs, concurrency=2, name="web")


async def bare(scope, receive, send):
    assert scope["type"] == "http"
    await Starlette(routes=routes)(scope, receive, send)


wrapped_bare = with_worker(bare, jobs, concurrency=2, name="web")
broken = with_worker(bare, Piecework("sqlite:///no/such/folder/jobs.db"))
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def served(folder: Path, name: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (folder / "web.py").write_text(WEB)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", f"web:{name}", "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join([str(folder), *(path for path in sys.path if path)]),
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def answers(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=20)
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("name", ["by_lifespan", "wrapped", "wrapped_bare"])
def test_under_a_real_server_requests_enqueue_the_worker_runs_and_sigterm_drains(tmp_path: Path, name: str) -> None:
    with served(tmp_path, name) as (process, url):
        job = until(lambda: answers(f"{url}/start/double"), "the server serves").json()
        assert httpx.get(f"{url}/result/{job}", timeout=20).json() == 42
        found = until(
            lambda: (a := httpx.get(f"{url}/health")).status_code == 200 and a.json(), "the worker has polled"
        )
        assert [(w["name"], w["pid"]) for w in found["workers"]] == [("web", process.pid)]
        slow = httpx.get(f"{url}/start/slow").json()
        until((tmp_path / "begun").exists, "the job runs")
        process.send_signal(signal.SIGTERM)
        until(lambda: answers(f"{url}/health") is None, "it serves no more")
        assert process.poll() is None  # it waits for the job
        (tmp_path / "go").touch()
        assert process.wait(20) in (0, -signal.SIGTERM)
    jobs = Piecework(f"sqlite:///{tmp_path}/jobs.db")
    assert jobs.jobs.get(slow).result(timeout=0) == "drained"
    assert jobs.store.sessions() == []
    assert books(tmp_path / "jobs.db") == []
    jobs.close()


def test_under_a_real_server_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    with served(tmp_path, "broken") as (process, _):
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert "/no/such/folder does not exist" in process.stderr.read()
