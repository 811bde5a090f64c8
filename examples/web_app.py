"""A web application that works off its own jobs: one process, one file, no broker.

Run it: ``python examples/web_app.py``; or serve it: ``uvicorn examples.web_app:asgi``

It is written in plain ASGI, so that it needs nothing but piecework. With FastAPI the last lines would be
``web = FastAPI(lifespan=worker_lifespan(jobs, concurrency=4))`` and ``web.add_route("/health", health(jobs))``.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from piecework import Piecework
from piecework.asgi import health, with_worker

folder = tempfile.TemporaryDirectory()
jobs = Piecework(f"sqlite:///{Path(folder.name) / 'jobs.db'}")


@jobs.task
def greet(name: str) -> str:
    return f"hello {name}"


async def web(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """GET /greet/ada stores a job and waits for it; /health says who works."""
    assert scope["type"] == "http"  # it knows nothing of lifespan events, and need not
    if scope["path"] == "/health":
        await health(jobs)(scope, receive, send)
        return
    job = await greet.alater(scope["path"].rpartition("/")[2])
    body = json.dumps({"job": job.id, "said": await job.aresult(timeout=10)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


asgi = with_worker(web, jobs, concurrency=4, name="web")


# ── what a server does, in short ─────────────────────────────────────────────────────────────────


async def get(path: str) -> tuple[int, Any]:
    answer: list[Any] = []

    async def send(message: Any) -> None:
        answer.append(message)

    await asgi({"type": "http", "method": "GET", "path": path, "headers": []}, None, send)
    return answer[0]["status"], json.loads(answer[1]["body"])


async def main() -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    serving = asyncio.create_task(asgi({"type": "lifespan"}, events.get, answers.put))
    await events.put({"type": "lifespan.startup"})
    print((await answers.get())["type"])

    print((await get("/greet/ada"))[1]["said"])
    while (await get("/health"))[0] != 200:  # the worker tells of itself with its first beat, after a second
        await asyncio.sleep(0.1)
    (worker,) = (await get("/health"))[1]["workers"]
    print(f"{worker['name']} polled {worker['polled_seconds_ago']:.0f} seconds ago")

    await events.put({"type": "lifespan.shutdown"})
    print((await answers.get())["type"])
    await serving
    jobs.close()
    folder.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
