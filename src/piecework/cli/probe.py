"""`piecework work --health`: the supervisor says over HTTP whether its workers live. Standard library only.

The supervisor runs no user code, so it answers whatever the jobs do. `/` and `/ready` ask whether jobs are being taken;
`/live` asks whether a restart would help, which it would not where only the store is away.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from piecework.engine.supervisor import Supervisor
from piecework.errors import UsageError

log = logging.getLogger("piecework.health")

SILENT_SECONDS = 15.0  # a worker polls about once a second, whatever its jobs do
HUNG_SECONDS = 60.0  # no call of the store's may take so long: the loop itself hangs


def parse_address(text: str) -> tuple[str, int]:
    """``8080`` means 127.0.0.1; ``0.0.0.0:8080`` and ``[::1]:8080`` say where else. Raises `UsageError`."""
    host, colon, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535 or (colon and not host):
        raise UsageError(f"--health {text!r}: write PORT or HOST:PORT, such as 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def report(supervisor: Supervisor) -> dict[str, Any]:
    """What is known of the workers; `status` is ok, starting, silent, hung or stopping."""
    pulses = supervisor.pulses()
    polled = [pulse.polled_ago for pulse in pulses if pulse.polled_ago is not None]
    hung = [
        ago for ago in (supervisor.pulse.turned_ago(), *(p.turned_ago for p in pulses)) if (ago or 0) > HUNG_SECONDS
    ]
    silent = [p for p in pulses if (p.age if p.polled_ago is None else p.polled_ago) > SILENT_SECONDS]
    status = (
        "hung" if hung else
        "stopping" if supervisor.is_stopping else
        "silent" if silent else
        "ok" if polled else
        "starting"
    )  # fmt: skip
    return {
        "status": status,
        "polled_seconds_ago": round(max(polled), 3) if polled else None,
        "session": supervisor.session,
        "workers": [
            {"worker": p.worker, "pid": p.pid, "polled_seconds_ago": None if p.polled_ago is None else round(p.polled_ago, 3)}
            for p in pulses
        ],
    }  # fmt: skip


def serve(address: tuple[str, int], supervisor: Supervisor) -> ThreadingHTTPServer:
    """Answers on threads until it is closed. Raises `UsageError` where the address cannot be had."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0  # a client that says nothing holds a thread no longer
        server_version, sys_version = "piecework", ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            found = report(supervisor)
            path = self.path.partition("?")[0]
            fine = {"/": ("ok",), "/ready": ("ok",), "/live": ("ok", "starting", "silent", "stopping")}.get(path)
            if fine is None:
                self.send_error(404)
                return
            said = json.dumps(found).encode() + b"\n"
            self.send_response(200 if found["status"] in fine else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if body:
                self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

        def server_bind(self) -> None:
            """Without HTTPServer's look-up of the host's full name, which may take seconds and is not used."""
            TCPServer.server_bind(self)
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    try:
        server = Server(address, Handler)
    except OSError as error:
        raise UsageError(f"--health: cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, name="piecework-health", daemon=True).start()
    host, port = server.server_address[:2]
    log.info("health on http://%s:%d/", f"[{host!s}]" if ":" in str(host) else host, port)
    return server
