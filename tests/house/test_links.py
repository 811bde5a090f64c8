"""Links between the pages: every one leads to a file that exists, and to a heading that is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?^```$", re.S | re.M)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.S | re.M)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings of a page, as they are linked to."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text("utf-8")), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


def dead(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere; those to other sites are not followed."""
    found = []
    for link in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead(page, page.read_text("utf-8")) == []


def test_a_dead_link_is_seen() -> None:
    """The test's own eyes."""
    readme = ROOT / "README.md"
    text = "[a](docs/tour.md) [b](docs/nowhere.md) [c](#promises) [d](#dreams) [e](https://example.org/x) `[f](g)`"
    assert dead(readme, text) == ["docs/nowhere.md", "#dreams"]


def test_every_page_can_be_found() -> None:
    """Each page is linked from another one."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text("utf-8"))
    }
    assert [page.name for page in PAGES if page not in linked and page.name != "README.md"] == []


def test_the_decisions_are_listed_and_numbered_once() -> None:
    folder = ROOT / "docs" / "adr"
    there = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"^\| \[(\d+)\]\((.*?)\) \| (.+) \|$", (folder / "README.md").read_text("utf-8"), re.M)
    assert [name for _, name, _ in listed] == there
    assert [name[:4] for name in there] == [f"{n:04}" for n in range(1, len(there) + 1)]
    for number, name, title in listed:
        assert name.startswith(number)
        assert (folder / name).read_text("utf-8").startswith(f"# {int(number)}. {title}\n")
