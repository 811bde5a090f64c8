"""How the parts of a distributed job are pushed: streamed in bites, none handed over before it is registered.

Parts are named by their number. The last one is handed over only when the job is closed, so that whoever ends it learns
that it was the last. A producer that is run again goes through the same items: parts that have ended are passed over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TypeVar

from msgspec.structs import replace

from piecework.errors import BadOption, BadPart, StoreError
from piecework.errortext import clean, describe
from piecework.ids import short_token
from piecework.parts import PartState, Push
from piecework.store.protocol import Parts

log = logging.getLogger("piecework.distributed")

T = TypeVar("T")

LARGEST_BITE = 500  # items that are registered by one trip
QUICK = 0.05  # seconds; items that come slower are registered and handed over one by one
NAMES_A_PUSH = 5000
LONGEST_NAME = 500  # characters
LARGEST_NUMBER = 10 ** (LONGEST_NAME - 1)  # with its sign it is not longer than a name


def check_part(part: object) -> str:
    """A part's name: text, or a whole number, which is the same as its text."""
    if isinstance(part, int) and not isinstance(part, bool):
        if not -LARGEST_NUMBER < part < LARGEST_NUMBER:  # its text could not name the part
            raise BadPart(f"a part that is named by a number has at most {LONGEST_NAME - 1} digits")
        return str(int(part))
    if not isinstance(part, str):
        raise BadPart(f"a part is named by text or a whole number, not by {type(part).__name__} {part!r:.100}")
    if not part or len(part) > LONGEST_NAME or clean(part, LONGEST_NAME) != part:
        raise BadPart(f"a part's name has 1 to {LONGEST_NAME} characters that can be stored, unlike {part!r:.100}")
    return str.__str__(part)  # of a subclass nobody knows whether a store takes it


def check_items(items: object, what: str) -> Iterator[object]:
    """The iterator of what a producer was given; a bare string would be taken for the list of its letters."""
    if isinstance(items, str | bytes | bytearray) or not isinstance(items, Iterable):
        raise BadPart(
            f"{what} must be an iterable and not a bare string, but was {type(items).__name__} {items!r:.100}"
        )
    return iter(items)


def check_each(each: object) -> None:
    """Refuses what `push_each` could not call for each pair, or whose call would not do anything."""
    if each is not None and not callable(each):
        raise BadOption(
            f"push_each: each is called with an item and a part; {type(each).__name__} {each!r:.100} cannot be"
        )
    if iscoroutinefunction(each):
        raise BadOption(
            f"push_each: each is a coroutine function, which nobody would await ({each!r:.100}); loop over the pairs instead: "
            "for item, part in job.push_each(items): await …"
        )


def length_of(items: object) -> int | None:
    """How many items there will be, where they can tell that."""
    if not isinstance(items, Sized):
        return None
    try:
        return len(items)
    except OverflowError:  # more than fit in a machine's word, such as `range(10**30)`
        return None


def push_names(parts: Parts, first: Push, names: list[str]) -> None:
    """Registers named parts and closes the job with the last of them."""
    unique = list(dict.fromkeys(names))
    bites = [unique[n : n + NAMES_A_PUSH] for n in range(0, len(unique), NAMES_A_PUSH)] or [[]]
    for n, bite in enumerate(bites):
        push = replace(first, parts=tuple(bite), begins=n == 0)
        if n == len(bites) - 1:
            push = replace(push, close=len(unique), complete=True)
        parts.push(push)


def feed(parts: Parts, first: Push, items: Iterator[T]) -> Iterator[tuple[T, str]]:
    """Pairs of item and part for whoever hands them over; parts that have ended are left out.

    The run is begun before the first item is asked for: one that fails with it, or dies, has left a trace.
    """
    parts.push(replace(first, begins=True))
    count = 0
    for bite, is_last in _bites(_watched(parts, first, items)):
        names = [str(count + n) for n in range(len(bite))]
        states = parts.push(replace(first, parts=tuple(names)))
        count += len(bite)
        for item, name, state in zip(bite, names, states, strict=True):
            if is_last and name == names[-1]:
                parts.push(replace(first, close=count))
            if state is PartState.OPEN:
                yield item, name
    if count:
        parts.leave(first.token, first.producer)
    else:
        parts.push(replace(first, close=0, complete=True))


def hand_over(parts: Parts, first: Push, items: Iterator[T], each: Callable[[T, str], object]) -> int:
    """Calls `each` for every pair, and returns for how many. Keeps the error with which it broke off."""
    done = 0
    for item, name in feed(parts, first, items):
        try:
            each(item, name)
        except BaseException as error:
            _note(parts, first, error)
            raise
        done += 1
    return done


def new_run(token: str) -> Push:
    """What all pushes of one run of a producer have in common."""
    return Push(token=token, producer=short_token())


def _watched(parts: Parts, first: Push, items: Iterator[T]) -> Iterator[T]:
    """The items; where they end in an error, that is kept with the job before it is raised."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except BaseException as error:
            _note(parts, first, error)
            raise
        yield item


def _note(parts: Parts, first: Push, error: BaseException) -> None:
    with suppress(StoreError):  # the error itself is what the caller has to see
        parts.leave(first.token, first.producer, describe(error))
        log.warning("the producer of the distributed job %s broke off: %r", first.token, error)


def _bites(items: Iterator[T]) -> Iterator[tuple[list[T], bool]]:
    """Bites, and whether each is the last; the item behind a bite is known before the bite is given away.

    They begin with one item, grow while items come quickly, and go back to one where they do not.
    """
    size, bite, since = 1, list[T](), time.monotonic()
    for item in items:
        if len(bite) >= size or (bite and time.monotonic() - since > QUICK):
            size = min(LARGEST_BITE, 2 * size) if time.monotonic() - since <= QUICK else 1
            yield bite, False
            bite, since = [], time.monotonic()
        bite.append(item)
    if bite:
        yield bite, True
