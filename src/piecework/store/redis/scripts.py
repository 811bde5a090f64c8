"""The scripts of the shelf: one Lua file for each, its title the file's name, behind the prelude that they share.

The prelude is every file whose title begins with ``lib_``, in the order of their names. A script's first line may be
``#!lua flags=…``, which stays the first: ``no-writes`` for one that only reads, ``allow-oom`` for one that must run
when the server's memory is full, because it ends jobs and frees more than it takes. A line ``-- with: search trees``
adds ``part_search`` and ``part_trees`` behind the prelude: what only some scripts need costs the others nothing. Where
there is no such part, the script of that title is meant, as the end of this one.

Names for numbers, such as those of the fields of a row, are written out as these numbers before a script is sent. Lua
has no constants: a name would be a variable that every function of the prelude is bound to, at every call.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script as the server gets it, and the name by which the server keeps it."""

    text: bytes
    sha: bytes
    writes: bool  # it does not say ``#!lua flags=no-writes``


@cache
def texts() -> dict[str, str]:
    """Every Lua file by its title."""
    folder = files(__package__).joinpath("lua")
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".lua")]
    return {entry.name.removesuffix(".lua"): entry.read_text("utf-8") for entry in found}


@cache
def script(title: str) -> Script:
    """The script of this title, with the prelude in front."""
    said = texts()[title]
    shebang, _, rest = said.partition("\n") if said.startswith("#!") else ("", "", said)
    prelude = [text for name, text in sorted(texts().items()) if name.startswith("lib_")]
    prelude += dict.fromkeys(_parts(rest))  # each once, however many ask for it
    # The server takes a shebang in the very first line only.
    text = "\n".join([*([shebang] if shebang else []), _numbered("\n".join([*prelude, rest]))]).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode(), "no-writes" not in shebang)


def _verb(title: str) -> str:
    """A whole script as the end of another, without its first line."""
    said = texts()[title]
    return said.partition("\n")[2] if said.startswith("#!") else said


def _parts(script: str) -> Iterator[str]:
    """What a script says that it needs beside the prelude, in its order."""
    found = re.search(r"^-- with: (.+)$", script, re.MULTILINE)
    for name in found[1].split() if found else ():
        part = texts().get(f"part_{name}")
        if part is None:
            part = _verb(name)
            yield from _parts(part)
        yield part


# local STATE, RUN = 1, 2
_NUMBERS = re.compile(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (\d+(?:, \d+)*)(?=$| --)", re.MULTILINE)
# local B = { STATE = 1, … }
_TABLE = re.compile(r"^local ([A-Z]) = \{([\sA-Z_=\d,]+)\}", re.MULTILINE)
_NAME = re.compile(r"(?<![\w.])(?:[A-Z]\.)?[A-Z_]+\b(?!\.)")


def _numbered(text: str) -> str:
    """A script in which names for numbers are these numbers. Its lines keep theirs, by which errors are told."""
    numbers: dict[str, str] = {}

    def known(name: str, number: str) -> None:
        if numbers.setdefault(name, number) != number:
            raise ValueError(f"{name} is two numbers in one script: {numbers[name]} and {number}")

    def row(found: re.Match[str]) -> str:
        for name, number in zip(found[1].split(", "), found[2].split(", "), strict=True):
            known(name, number)
        return ""

    def table(found: re.Match[str]) -> str:
        for name, number in re.findall(r"([A-Z_]+) = (\d+)", found[2]):
            known(f"{found[1]}.{name}", number)
        return "\n" * found[0].count("\n")

    text = _TABLE.sub(table, _NUMBERS.sub(row, text))
    return _NAME.sub(lambda found: numbers.get(found[0], found[0]), text)
