"""The pictures of the states are those that their script draws, can be read, and show moves that there are."""

from __future__ import annotations

import importlib.util
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _script()
every_picture = pytest.mark.parametrize("name", MAKE.PICTURES)


def moves(heading: str) -> set[tuple[str, str]]:
    """From where to where, by the table below a heading of docs/states.md, which is compared with the code."""
    text = (DOCS / "states.md").read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {(cells[0], cells[1]) for line in text.splitlines() if len(cells := _cells(line)) == 4}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


@every_picture
def test_a_picture_is_as_its_script_draws_it(name: str) -> None:
    text = (DOCS / "pictures" / f"{name}.svg").read_text("utf-8")
    assert text == MAKE.svg(MAKE.PICTURES[name]), "run: python docs/pictures/make.py"
    assert ElementTree.fromstring(text).get("viewBox") is not None
    assert f"](pictures/{name}.svg)" in (DOCS / f"{name}.md").read_text("utf-8")


@every_picture
def test_every_arrow_is_a_move_of_the_table(name: str) -> None:
    jobs, batches = moves("Moves of a job"), moves("States of a batch")
    tracked = moves("States of a distributed job")
    shown = [move for arrow in MAKE.PICTURES[name].arrows for move in arrow.moves.split(",") if move]
    assert len(shown) >= 9
    for move in shown:
        kind, _, pair = move.rpartition(":")
        known = {"": jobs, "batch": batches, "distributed": tracked}[kind]
        assert tuple(pair.split(">")) in known, move


@every_picture
def test_no_text_lies_on_another_or_leaves_its_box(name: str) -> None:
    """By the letters of a broad font: on a screen with another one they take less room."""
    picture = MAKE.PICTURES[name]
    inside = [(box, words) for box in picture.boxes for words in MAKE.said(box)]
    texts: list[Any] = [*(words for _, words in inside), *picture.words]
    for one, other in combinations(texts, 2):
        assert apart(MAKE.space(one), MAKE.space(other)), (one.text, other.text)
    for box, words in inside:
        left, top, right, bottom = MAKE.space(words)
        assert box.x <= left, box
        assert right <= box.x + box.width, box
        assert box.y <= top, box
        assert bottom <= box.y + box.height, box
    for words in picture.words:
        left, top, right, bottom = MAKE.space(words)
        assert left >= 4, words
        assert right <= MAKE.WIDTH - 4, words
        assert top >= 4, words
        assert bottom <= picture.height - 4, words
        for box in picture.boxes:
            assert apart((left, top, right, bottom), (box.x, box.y, box.x + box.width, box.y + box.height)), words


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_the_eyes_of_these_tests() -> None:
    """Texts that lie on each other are seen, and so is the table that the arrows are compared with."""
    assert not apart((0, 0, 10, 10), (9, 9, 20, 20))
    assert ("waiting", "available") in moves("Moves of a job")
    assert ("completed", "available") not in moves("Moves of a job")
    assert ("open", "done") in moves("States of a batch")
