"""A TCP proxy between a store and its server, for every protocol in which a client asks and a server answers.

It knows nothing of what passes. A *message* is what a client had sent when the proxy read from it. With `arm` the n-th
message from now on meets the end of its connection: `Cut.BEFORE` it reached the server, or `Cut.AFTER` the server had done
what it says, and before any of the answer came back. In both cases the server has finished with the connection when the
client learns of it, so that a test looks at what is final.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

CHUNK = 1 << 18
LOOK_SECONDS = 0.01  # how often it is looked for more while all is stalled
_HARD = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class Cut(Enum):
    """On which side of a message its connection is cut."""

    BEFORE = "before"  # the server never gets it
    AFTER = "after"  # the server has done it, and nobody hears the answer


class Proxy:
    """Listens on a free port of this machine and passes everything on to a server, until it is told otherwise.

    Example::

        with Proxy(server.port) as proxy:
            proxy.arm(1, Cut.AFTER)
            client(proxy.port).send("COMMIT")  # is done, and raises
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._lock = threading.Condition()
        self._pairs: set[_Pair] = set()
        self._listener: socket.socket | None = None
        self._listens: threading.Thread | None = None
        self._stalled = self._slams = False
        self._armed: tuple[int, Cut] | None = None
        self._for_good = False
        self.accepted = 0  # connections, ever
        self.passed = 0  # messages of clients, since `arm`
        self.struck = False  # whether the armed message came by
        self._held: dict[_Pair, bytes] = {}  # what clients have said since `stall`
        # Bound and deaf: while nobody listens, clients are refused, and nobody else gets the port.
        self._holder = self._bound(0)
        self.port = int(self._holder.getsockname()[1])
        self.serve()

    def _bound(self, port: int) -> socket.socket:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", port))
        return s

    # ── what a test does ─────────────────────────────────────────────────────────────────────────

    def serve(self) -> None:
        """Passes everything on: the end of `refuse`, `slam` and `stall`."""
        with self._lock:
            self._slams = self._stalled = False
            self._lock.notify_all()
            if self._listener is None:
                self._listener = self._bound(self.port)
                self._listener.listen(256)
                self._listens = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
                self._listens.start()

    def refuse(self) -> None:
        """Nobody listens: what is connected is cut, and whoever comes is refused."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            assert self._listens is not None
            self._listens.join()
            listener.close()
        self.cut()

    def slam(self) -> None:
        """Whoever is connected or comes is accepted, counted and cut at once."""
        with self._lock:
            self._slams = True
        self.cut()

    def stall(self) -> None:
        """Everything is accepted, and nothing is passed on, in either direction."""
        with self._lock:
            self._stalled = True

    @property
    def held(self) -> bytes:
        """What clients have said since `stall`, as far as it has come here, one after the other."""
        with self._lock:
            return b"".join(self._held.values())

    def cut(self) -> None:
        """Ends what is connected now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.cut()

    def arm(self, message: int, cut: Cut, *, for_good: bool = False) -> None:
        """The n-th message from now on, of whichever connection, meets a cut: the first one is 1.

        `for_good`: whoever comes after that is slammed, until `serve`.
        """
        with self._lock:
            self._armed, self.passed, self.struck, self._for_good = (message, cut), 0, False, for_good

    def disarm(self) -> None:
        with self._lock:
            self._armed = None

    @contextmanager
    def cutting(self, message: int, cut: Cut, *, for_good: bool = False) -> Iterator[None]:
        """Armed inside the block."""
        self.arm(message, cut, for_good=for_good)
        try:
            yield
        finally:
            self.disarm()

    @property
    def connected(self) -> int:
        """How many connections stand."""
        return len(self._pairs)

    def close(self) -> None:
        self.refuse()
        self._holder.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── on threads ───────────────────────────────────────────────────────────────────────────────

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # no listener any more
                return
            with self._lock:
                self.accepted += 1
                slams = self._slams
            if slams:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:  # nobody is there: the client learns it as it would without a proxy in between
                _reset(client)
                continue
            pair = _Pair(self, client, server)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def _gone(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)

    def _wait_for_flow(self, pair: _Pair) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._stalled or pair.is_cut)

    def _hold(self, pair: _Pair, data: bytes) -> bytes:
        """Waits for the end of a stall; returns what the client has said by then, who may have hung up since."""
        with self._lock:
            while self._stalled and not pair.is_cut:
                data = self._held[pair] = data + pair.said_since()
                self._lock.wait(LOOK_SECONDS)
            self._held.pop(pair, None)
        return data

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify_all()

    def _judge(self) -> Cut | None:
        """What becomes of one message of a client."""
        with self._lock:
            self.passed += 1
            if self._armed is None or self.passed != self._armed[0]:
                return None
            self.struck = True
            self._slams = self._for_good
            return self._armed[1]


class _Pair:
    """One client's connection and the one to the server that belongs to it, with a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.is_cut = False
        self._silent = False  # nothing of what the server says is passed on any more
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._up = threading.Thread(target=self._pump_up, daemon=True)
        self._down = threading.Thread(target=self._pump_down, daemon=True)

    def start(self) -> None:
        self._down.start()
        self._up.start()

    def cut(self) -> None:
        """From outside, at once: both ends learn of it."""
        self.is_cut = True
        self._proxy._wake()
        for s in (self._client, self._server):
            _shut(s, socket.SHUT_RDWR)

    def said_since(self) -> bytes:
        """What the client has said and nobody has read, without waiting for it."""
        try:
            return self._client.recv(CHUNK, socket.MSG_DONTWAIT)
        except OSError:  # nothing, or it is gone
            return b""

    def _pump_up(self) -> None:
        try:
            while data := self._client.recv(CHUNK):
                data = self._proxy._hold(self, data)
                if self.is_cut:
                    break
                cut = self._proxy._judge()
                # Silent before the server has it: its answer must not be faster than we are.
                self._silent = self._silent or cut is not None
                if cut is not Cut.BEFORE:
                    self._server.sendall(data)
                if cut is not None:
                    break
        except OSError:  # one of the two hung up
            pass
        finally:
            # The server reads what it was sent, does it, finds the end and hangs up; only then the client learns of it.
            _shut(self._server, socket.SHUT_WR)
            self._down.join()
            _reset(self._client)
            self._server.close()
            self._proxy._gone(self)

    def _pump_down(self) -> None:
        try:
            while data := self._server.recv(CHUNK):
                self._proxy._wait_for_flow(self)
                if not self._silent and not self.is_cut:
                    self._client.sendall(data)
        except OSError:
            pass
        finally:
            _shut(self._client, socket.SHUT_RDWR)


def _shut(s: socket.socket, how: int) -> None:
    try:
        s.shutdown(how)
    except OSError:  # the other side was first
        pass


def _reset(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HARD)
    s.close()
