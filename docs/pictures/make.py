"""Draws the pictures of the states: python docs/pictures/make.py

Each picture is a list of boxes, arrows and words. An arrow bears the moves of a job that it stands for, and a test
compares them with docs/states.md. The pictures follow the reader's colours, light or dark, and use no fonts of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
WIDTH = 700
NAME, SMALL = 14, 11.5  # sizes of letters
BROAD = 0.61  # how broad a letter is, of its size; that of a broad font

STYLE = """
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#1f2328}
.name{font-size:14px;font-weight:600}.small{font-size:11.5px;fill:#424a53}
.page{fill:#ffffff;stroke:#d1d9e0}.line{fill:none;stroke:#59636e;stroke-width:1.5}.head{fill:#59636e}
.plain{fill:#f6f8fa;stroke:#59636e}.busy{fill:#ddf4ff;stroke:#0969da}.good{fill:#dafbe1;stroke:#1a7f37}
.bad{fill:#ffebe9;stroke:#cf222e}.held{fill:#fff8c5;stroke:#9a6700}.group{fill:none;stroke:#59636e;stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small{fill:#b7bfc8}
.page{fill:#0d1117;stroke:#3d444d}.line{stroke:#9198a1}.head{fill:#9198a1}
.plain{fill:#161b22;stroke:#9198a1}.busy{fill:#0c2238;stroke:#58a6ff}.good{fill:#0f2a1a;stroke:#3fb950}
.bad{fill:#331518;stroke:#f85149}.held{fill:#2e2410;stroke:#d29922}.group{stroke:#9198a1}
}
"""


class Box(NamedTuple):
    """A state: its name, and in a few words what it means here."""

    x: float
    y: float
    width: float
    height: float
    name: str
    says: str = ""
    look: str = "plain"


class Arrow(NamedTuple):
    """A path from corner to corner, and the moves of a job that it stands for ("from>to,…"), or of a batch
    ("batch:from>to"), or of a distributed job.
    """

    points: tuple[tuple[float, float], ...]
    moves: str = ""
    headless: bool = False


class Words(NamedTuple):
    """A line of text."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    look: str = "small"


class Picture(NamedTuple):
    """All of a picture, with what it says to those who cannot see it."""

    height: float
    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    words: tuple[Words, ...]


def said(box: Box) -> tuple[Words, ...]:
    """The text of a box."""
    middle, centre = box.x + box.width / 2, box.y + box.height / 2
    if box.look == "group":
        return (Words(box.x + 10, box.y + 19, box.says, "start"),)
    if not box.says:
        return (Words(middle, centre + 5, box.name, look="name"),)
    return Words(middle, centre - 2, box.name, look="name"), Words(middle, centre + 15, box.says)


def space(words: Words) -> tuple[float, float, float, float]:
    """The room that a line of text may take: left, top, right, bottom."""
    size = NAME if words.look == "name" else SMALL
    width = len(words.text) * size * BROAD
    left = {"start": words.x, "middle": words.x - width / 2, "end": words.x - width}[words.anchor]
    return left, words.y - size * 0.8, left + width, words.y + size * 0.25


def svg(picture: Picture) -> str:
    """The picture as the text of its file."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {picture.height:g}" width="{WIDTH}" '
        f'height="{picture.height:g}" role="img" aria-label="{escape(picture.title)}">',
        f"<title>{escape(picture.title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{picture.height - 1:g}" rx="8"/>',
        *(_arrow(arrow) for arrow in picture.arrows),
        *(_box(box) for box in picture.boxes),
        *(_text(words) for words in _all_words(picture)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _all_words(picture: Picture) -> Iterable[Words]:
    for box in picture.boxes:
        yield from said(box)
    yield from picture.words


def _box(box: Box) -> str:
    return (
        f'<rect class="{box.look}" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="7"/>'
    )


def _arrow(arrow: Arrow) -> str:
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in arrow.points)
    head = "" if arrow.headless else ' marker-end="url(#head)"'
    moves = f' data-moves="{escape(arrow.moves)}"' if arrow.moves else ""
    return f'<path class="line"{moves} d="{path}"{head}/>'


def _text(words: Words) -> str:
    return f'<text class="{words.look}" x="{words.x:g}" y="{words.y:g}" text-anchor="{words.anchor}">{escape(words.text)}</text>'


# ── what becomes of a stored call ────────────────────────────────────────────────────────────────

LATER = Picture(
    330,
    "What becomes of a stored call",
    (
        Box(30, 100, 150, 54, "available", "due, or due later"),
        Box(330, 100, 120, 54, "running", "in a worker", "busy"),
        Box(520, 20, 150, 50, "completed", "it returned", "good"),
        Box(520, 86, 150, 50, "failed", "attempts are spent", "bad"),
        Box(520, 152, 150, 50, "parked", "it cannot run here", "held"),
        Box(520, 218, 150, 50, "cancelled", "stopped, expired"),
    ),
    (
        Arrow(((105, 44), (105, 98)), "(nothing)>available"),
        Arrow(((180, 115), (328, 115)), "available>running"),
        Arrow(((330, 140), (182, 140)), "running>available"),
        Arrow(((450, 112), (518, 50)), "running>completed"),
        Arrow(((450, 122), (518, 114)), "running>failed"),
        Arrow(((450, 132), (518, 172)), "running>parked"),
        Arrow(((440, 154), (518, 232)), "running>cancelled"),
        Arrow(((150, 154), (150, 254), (518, 254)), "available>cancelled"),
        Arrow(((670, 111), (685, 111), (685, 300), (70, 300), (70, 156)), "failed>available"),
        Arrow(((670, 177), (685, 177)), "parked>available", headless=True),
        Arrow(((670, 243), (685, 243)), "cancelled>available", headless=True),
    ),
    (
        Words(105, 34, "later(…)", look="name"),
        Words(255, 106, "a worker fetches it"),
        Words(255, 158, "tried again, snoozed,"),
        Words(255, 173, "handed back, or"),
        Words(255, 188, "its worker died"),
        Words(330, 246, "cancel, or not begun when it expires"),
        Words(380, 318, "retry: its attempts begin anew; what has completed is not run again"),
    ),
)

# ── a split ──────────────────────────────────────────────────────────────────────────────────────

_CHAIN = tuple(
    Box(8 + 118 * n, 122, 94, 54, name, says, look)
    for n, (name, says, look) in enumerate(
        (
            ("available", "it is due", "plain"),
            ("running", "yields pieces", "busy"),
            ("waiting", "no worker", "held"),
            ("available", "released once", "plain"),
            ("running", "composes", "busy"),
            ("completed", "", "good"),
        )
    )
)
_LINKS = ("available>running", "running>waiting", "waiting>available", "available>running", "running>completed")

SPLITS = Picture(
    428,
    "A split is one job that waits for its pieces",
    (
        *_CHAIN,
        Box(244, 22, 94, 46, "failed", "", "bad"),
        Box(126, 236, 330, 74, "", "its pieces: jobs of their own, on all workers", "group"),
        Box(138, 264, 94, 32, "completed", "", "good"),
        Box(244, 264, 94, 32, "running", "", "busy"),
        Box(350, 264, 94, 32, "available"),
        Box(8, 362, 140, 46, "failed, stopped", "", "bad"),
        Box(290, 362, 94, 46, "open", "", "busy"),
        Box(598, 362, 94, 46, "done", "", "good"),
    ),
    (
        *(Arrow(((102 + 118 * n, 149), (124 + 118 * n, 149)), moves) for n, moves in enumerate(_LINKS)),
        Arrow(((55, 64), (55, 120)), "(nothing)>available"),
        Arrow(((272, 122), (272, 70)), "waiting>failed"),
        Arrow(((310, 68), (310, 120)), "failed>waiting"),
        Arrow(((173, 176), (173, 234)), ""),
        Arrow(((409, 236), (409, 178)), ""),
        Arrow(((290, 376), (150, 376)), "batch:open>failed,batch:open>stopped"),
        Arrow(((148, 396), (288, 396)), "batch:failed>open,batch:stopped>open"),
        Arrow(((384, 385), (596, 385)), "batch:open>done"),
    ),
    (
        Words(55, 54, "later(…)", look="name"),
        Words(262, 90, "a piece failed for good", "end"),
        Words(322, 90, "retry: only the pieces that failed come back", "start"),
        Words(182, 210, "stored in bites,", "start"),
        Words(182, 225, "while it still yields", "start"),
        Words(419, 203, "sealed, and the last one has settled:", "start"),
        Words(419, 218, "in the transaction that ends it", "start"),
        Words(470, 268, "the policy may be another:", "start"),
        Words(470, 284, "fail_fast fails at once,", "start"),
        Words(470, 300, "compose sees the failures", "start"),
        Words(10, 344, "the batch of its pieces", "start", "name"),
        Words(219, 370, "a failure; cancel"),
        Words(219, 412, "retry, resume"),
        Words(490, 378, "sealed, and no piece is open"),
    ),
)

# ── an operation ─────────────────────────────────────────────────────────────────────────────────

OPERATIONS = Picture(
    420,
    "Where an operation stands",
    (
        Box(30, 120, 160, 56, "due, scheduled", "at its next step"),
        Box(296, 120, 150, 56, "running", "a step", "busy"),
        Box(30, 262, 160, 56, "waiting", "a signal, or pieces", "held"),
        Box(296, 344, 150, 56, "undoing", "the newest step first", "busy"),
        Box(520, 48, 150, 48, "completed", "the last step ended", "good"),
        Box(520, 108, 150, 48, "failed", "at its step", "bad"),
        Box(520, 168, 150, 48, "cancelled", "cancel, at any time"),
        Box(520, 228, 150, 48, "parked", "an unknown step", "held"),
        Box(520, 348, 150, 48, "failed, cancelled", "undone: fork it", "bad"),
    ),
    (
        Arrow(((150, 76), (150, 118)), "(nothing)>available"),
        Arrow(((190, 134), (294, 134)), "available>running"),
        Arrow(((296, 160), (192, 160)), "running>available"),
        Arrow(((340, 120), (340, 96), (402, 96), (402, 118)), ""),
        Arrow(((446, 130), (518, 76)), "running>completed"),
        Arrow(((446, 142), (518, 134)), "running>failed"),
        Arrow(((446, 154), (518, 186)), "running>cancelled"),
        Arrow(((446, 166), (518, 244)), "running>parked"),
        Arrow(((316, 176), (316, 290), (192, 290)), "running>waiting"),
        Arrow(((110, 262), (110, 178)), "waiting>available"),
        Arrow(((386, 176), (386, 342)), "running>available"),
        Arrow(((446, 372), (518, 372)), "running>failed,running>cancelled"),
        Arrow(((670, 132), (685, 132), (685, 24), (60, 24), (60, 118)), "failed>available"),
        Arrow(((670, 192), (685, 192), (685, 130)), "cancelled>available", headless=True),
        Arrow(((670, 252), (685, 252), (685, 190)), "parked>available", headless=True),
    ),
    (
        Words(150, 66, "later(…)", look="name"),
        Words(372, 18, "retry, skip, jump_to: on from here; what completed is not run again"),
        Words(371, 88, "it ended: the next one"),
        Words(243, 128, "fetched"),
        Words(243, 176, "tried again,"),
        Words(243, 191, "a delay, or"),
        Words(243, 206, "its worker died"),
        Words(120, 224, "the signal came, or", "start"),
        Words(120, 239, "its time was over;", "start"),
        Words(120, 254, "the pieces settled", "start"),
        Words(254, 284, "it waits", "middle"),
        Words(394, 300, "failed for good, and a step has", "start"),
        Words(394, 315, "an undo; or cancel(undo=True)", "start"),
    ),
)

# ── where a distributed job stands ───────────────────────────────────────────────────────────────

DISTRIBUTED = Picture(
    340,
    "Where a distributed job stands",
    (
        Box(30, 104, 160, 56, "open", "parts are pushed", "busy"),
        Box(280, 104, 160, 56, "closed", "all parts are known", "busy"),
        Box(530, 66, 140, 50, "finished", "all are done", "good"),
        Box(530, 152, 140, 50, "failed", "some failed", "bad"),
        Box(155, 256, 160, 56, "stopped", "nothing is begun", "held"),
    ),
    (
        Arrow(((110, 54), (110, 102)), "distributed:(nothing)>open"),
        Arrow(((190, 132), (278, 132)), "distributed:open>closed"),
        Arrow(((440, 120), (528, 94)), "distributed:closed>finished"),
        Arrow(((440, 144), (528, 170)), "distributed:closed>failed"),
        Arrow(((640, 152), (640, 118)), "distributed:failed>finished"),
        Arrow(((590, 202), (590, 226), (420, 226), (420, 162)), "distributed:failed>closed"),
        Arrow(((170, 160), (205, 254)), "distributed:open>stopped"),
        Arrow(((320, 160), (285, 254)), "distributed:closed>stopped"),
        Arrow(((155, 284), (60, 284), (60, 162)), "distributed:stopped>open"),
        Arrow(((315, 284), (380, 284), (380, 162)), "distributed:stopped>closed"),
        Arrow(((315, 300), (690, 300), (690, 91), (672, 91)), "distributed:stopped>finished"),
    ),
    (
        Words(110, 42, "push_each, push_all", look="name"),
        Words(234, 122, "the last one"),
        Words(600, 46, "then= is stored with this"),
        Words(632, 140, "done", "end"),
        Words(580, 218, "resume", "end"),
        Words(238, 200, "stop"),
        Words(54, 230, "resume", "end"),
        Words(540, 293, "resume, where all were done meanwhile"),
        Words(388, 270, "resume", "start"),
        Words(235, 330, "otherwise= is stored with a stop, and where it failed"),
    ),
)


PICTURES = {"later": LATER, "splits": SPLITS, "operations": OPERATIONS, "distributed": DISTRIBUTED}

if __name__ == "__main__":
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(picture), "utf-8")
