"""The proxy through which the tests break connections: what it cuts, and what the server has done by then."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from tests.proxy import Cut, Proxy
from tests.support import until


class Echo:
    """A server that notes each line and answers with it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                con, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(con,), daemon=True).start()

    def _answer(self, con: socket.socket) -> None:
        with con, con.makefile("rb") as lines:
            for line in lines:
                self.lines.append(line.strip())
                con.sendall(line)

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed before
            return
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    """A connection that the proxy has taken up: the system alone accepts before it does."""
    before = proxy.accepted
    con = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    until(lambda: proxy.accepted > before, "it was taken up")
    return con


def turned_away(proxy: Proxy) -> bool:
    """Whether a connection ends before anything was answered."""
    try:
        with connected(proxy) as con:
            return asked(con, b"a") == b""
    except ConnectionResetError:
        return True


def asked(con: socket.socket, line: bytes) -> bytes:
    """What came back; nothing where the connection ended."""
    try:
        con.sendall(line + b"\n")
        return con.recv(100).strip()
    except ConnectionError:
        return b""


def test_it_passes_on_what_both_say(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as one, connected(proxy) as two:
        assert [asked(one, b"a"), asked(two, b"b"), asked(one, b"c")] == [b"a", b"b", b"c"]
        assert (proxy.accepted, proxy.connected) == (2, 2)
    until(lambda: proxy.connected == 0, "both are gone")
    assert echo.lines == [b"a", b"b", b"c"]


@pytest.mark.parametrize(("cut", "done"), [(Cut.BEFORE, [b"a"]), (Cut.AFTER, [b"a", b"b"])])
def test_the_armed_message_is_the_last_of_its_connection(proxy: Proxy, echo: Echo, cut: Cut, done: list[bytes]) -> None:
    with connected(proxy) as con, proxy.cutting(2, cut):
        assert asked(con, b"a") == b"a"
        assert not proxy.struck
        assert asked(con, b"b") == b""
        assert proxy.struck
        assert echo.lines == done, "what the server has done is final when the client learns of the cut"
    with connected(proxy) as con:
        assert asked(con, b"c") == b"c"


def test_after_a_cut_for_good_nobody_comes_in(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as con, proxy.cutting(1, Cut.AFTER, for_good=True):
        assert asked(con, b"a") == b""
    assert turned_away(proxy)
    proxy.serve()
    with connected(proxy) as con:
        assert asked(con, b"b") == b"b"
    assert echo.lines == [b"a", b"b"]


def test_a_stall_holds_everything_until_it_is_over(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as con:
        proxy.stall()
        con.sendall(b"a\n")
        con.settimeout(0.1)
        with pytest.raises(TimeoutError):
            con.recv(100)
        assert echo.lines == []
        con.settimeout(10)
        proxy.serve()
        assert con.recv(100) == b"a\n"


def test_who_is_refused_never_comes_in_and_others_do_later(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as con:
        proxy.refuse()
        assert asked(con, b"a") == b""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
    assert proxy.accepted == 1
    proxy.serve()
    with connected(proxy) as con:
        assert asked(con, b"b") == b"b"
    assert echo.lines == [b"b"]


def test_who_is_slammed_is_counted(proxy: Proxy, echo: Echo) -> None:
    proxy.slam()
    assert all(turned_away(proxy) for _ in range(3))
    assert (proxy.accepted, echo.lines) == (3, [])
    proxy.serve()
    with connected(proxy) as con:
        assert asked(con, b"b") == b"b"


def test_what_is_cut_while_it_is_stalled_ends(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as con:
        until(lambda: proxy.connected, "it stands")
        proxy.stall()
        con.sendall(b"a\n")
        proxy.cut()
        assert asked(con, b"b") == b""
    until(lambda: proxy.connected == 0, "it is gone")
    proxy.serve()
    assert echo.lines == []


def test_a_server_that_is_away_looks_away(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    assert turned_away(proxy)
