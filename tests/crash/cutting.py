"""The play of a verb whose connection is cut at every message: the same for each store behind a server.

What is left must be what the verb leaves when nothing breaks; and where the server stays away the caller is told so, and
sends the same call again.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pytest
from cutverbs import PARTS, Call, add_first_ever, renew
from tests.proxy import Cut, Proxy
from tests.support import until

from piecework.errors import StoreUnavailable
from piecework.store import Store
from piecework.testing import FrozenClock
from piecework.testing.conformance import kit
from piecework.testing.conformance.kit import a_session, assert_sound

Verb = Callable[[Store], Call]


class Stage(ABC):
    """Sets the scene, calls, and tells what is left, of one store behind a server."""

    may_be_told: tuple[Verb, ...] = ()  # verbs whose caller may be told also of a cut behind which the server is there
    answers_vary: tuple[Verb, ...] = ()  # verbs that may answer otherwise where they are sent again

    def __init__(self, proxy: Proxy, open_at: Callable[[str, FrozenClock], Store], urls: tuple[str, str]) -> None:
        """`urls` are the server's own, and that of the proxy before it."""
        self.proxy = proxy
        self.clock = FrozenClock()
        self._open_at = open_at
        self._through = urls[1]
        self.direct = open_at(urls[0], self.clock)

    @abstractmethod
    def empty(self) -> None:
        """Takes all away that is in the store."""

    @abstractmethod
    def rows(self) -> Any:
        """All that is in the store."""

    def set(self, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> Call:
        """An emptied store with what the verb is about; the same ids and claims each time."""
        numbers = itertools.count(1)
        monkeypatch.setattr(kit, "new_id", lambda: f"id{next(numbers)}")
        monkeypatch.setattr(kit, "_claims", itertools.count(1))
        self.empty()
        for session in kit.SESSIONS:
            self.direct.enlist(a_session(session))
        return verb(self.direct)

    def sender(self, verb: Verb) -> Store:
        """A store whose messages pass the proxy."""
        until(lambda: self.proxy.connected == 0, "the sender before has said goodbye, which is a message, too")
        self.proxy.serve()
        sender = self._open_at(self._through, self.clock)
        if verb is not add_first_ever:
            sender.counts()  # it has a connection
        return sender

    def left(self) -> Any:
        assert_sound(self.direct)
        return self.rows()

    def close(self) -> None:
        self.direct.close()


def play(stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: Verb) -> None:
    """Cuts the verb's connection before its first message, and behind each, until there is none left to be cut."""
    call = stage.set(verb, monkeypatch)
    sender = stage.sender(verb)
    answers, once = [call(sender)], stage.left()
    answers.append(call(sender))  # sent a second time, it may say that there was nothing left to do
    twice = stage.left()
    assert verb is renew or once == twice
    assert verb not in PARTS or answers[0] == answers[1]
    sender.close()
    for done in itertools.count():  # messages that the server has
        call = stage.set(verb, monkeypatch)
        sender = stage.sender(verb)
        for_good = done % 2 == 0  # the caller sends it again; else the store does
        with stage.proxy.cutting(max(1, done), Cut.AFTER if done else Cut.BEFORE, for_good=for_good):
            try:
                answer = call(sender)
                told = False
            except StoreUnavailable:
                told = True
                stage.proxy.serve()
                answer = call(sender)
            struck = stage.proxy.struck
        sender.close()
        where = f"cut when the server had {done} messages"
        assert told == (struck and for_good) or (struck and verb in stage.may_be_told), where
        assert answer in answers or verb in stage.answers_vary, where
        assert stage.left() in (once, twice), where
        if not struck:
            break
    assert done > 1, "no message was cut"
