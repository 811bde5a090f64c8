"""Draws a job and the batches below it until it ends: bars on a terminal, plain lines elsewhere.

It asks for counters and a handful of rows, so a million pieces are drawn as fast as ten.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import msgspec
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from piecework.amending import status_of, step_of
from piecework.clock import SystemClock
from piecework.errors import JobNotFound, StoreUnavailable
from piecework.job import BatchRecord, BatchState, Filter, OperationRecord, Record, State
from piecework.plan import walks
from piecework.store.protocol import Store

if TYPE_CHECKING:
    from piecework.app import Piecework

_POLL = 0.15  # seconds between two looks
_SHARE = 5  # and at least so many times as long as a look takes: a slow store is not asked more often for being slow
_LINE_EVERY = 1.0
_ROWS = 8  # batches drawn below the root
_IDLE_ROWS = 4  # rows that are filled with batches that have not begun
_LOOK = 32  # batches that these are chosen from
_ASK = 300  # questions to the store in one look
_DEEPEST = 4


def watch(app: Piecework, job_id: str, *, console: Console | None = None) -> Record:
    """Draws a job until it is finished or parked, and returns its last record.

    Below the root stand the nested batches that moved last. While the store is away it keeps trying, and says so.
    Raises `JobNotFound` for an id that is not stored.
    """
    console = console or Console()
    view: _View = _Bars(console) if console.is_terminal and not console.is_dumb_terminal else _Lines(console)
    watcher = _Watcher(app.store, job_id)
    with closing(view):
        while True:
            picture = watcher.look()
            view.show(picture)
            if picture.ended:
                return picture.record
            time.sleep(watcher.pause)


class _Row(msgspec.Struct, frozen=True):
    """One batch, or one job, as a reader sees it."""

    label: str
    depth: int = 0
    done: float = 0
    total: float | None = None  # None while nobody knows
    grows: bool = False  # more may come: the splitter is still at it
    failed: int = 0
    unit: str = ""
    note: str = ""

    @property
    def percent(self) -> int | None:
        return int(100 * self.done / self.total) if self.total and not self.grows else None

    @property
    def numbers(self) -> str:
        if self.total is None:
            return f"{self.done:,g}" if self.done else ""
        return f"{_figure(self.done)}/{_figure(self.total)}{'+' if self.grows else ''}"


class _Picture(msgspec.Struct, frozen=True):
    """What one look at the store saw."""

    record: Record
    root: _Row
    below: tuple[_Row, ...] = ()

    @property
    def ended(self) -> bool:
        return _ended(self.record)


class _Motion(msgspec.Struct, frozen=True):
    """How many pieces of a batch were open, and at which look that was new; 0 for a batch that has not begun."""

    left: int
    at: int


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


class _Watcher:
    """Looks at one job, again and again."""

    def __init__(self, store: Store, job_id: str) -> None:
        self._store = store
        self._id = job_id
        self._nested = _Nested(store)
        self._last: _Picture | None = None
        self.pause = _POLL

    def look(self) -> _Picture:
        began = time.monotonic()
        try:
            self._last = self._picture()
        except StoreUnavailable:
            if self._last is None:
                raise
            root = msgspec.structs.replace(self._last.root, note="store away, retrying")
            self._last = _Picture(self._last.record, root)
        self.pause = max(_POLL, _SHARE * (time.monotonic() - began))
        return self._last

    def _picture(self) -> _Picture:
        records = self._store.get([self._id])
        if not records:
            raise JobNotFound(f"there is no job {self._id}: it never existed, or was pruned")
        [record] = records
        batch = None if record.below is None else self._store.batch(record.below)
        below = self._nested.rows(batch) if batch is not None and not _ended(record) else ()
        return _Picture(record, self._root(record, batch), below)

    def _root(self, record: Record, batch: BatchRecord | None) -> _Row:
        if not walks(record):
            return _root_row(record, batch)
        kept = self._store.operations([record.id])
        return _operation_row(record, batch, kept[0] if kept else None)


class _Node(msgspec.Struct, frozen=True):
    """A nested batch, and when it or one below it moved last."""

    record: Record
    batch: BatchRecord
    moved: int
    below: list[_Node]


class _Nested:
    """Chooses the nested batches to draw: those that moved last, in the order in which they arrived."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[str, _Motion] = {}
        self._now: dict[str, _Motion] = {}
        self._looks = 0
        self._asked = 0

    def rows(self, root: BatchRecord) -> tuple[_Row, ...]:
        self._looks += 1
        self._asked = 0
        self._before, self._now = self._now, {}
        return tuple(_rows(self._explore(root, 1), 1, _ROWS))

    def _explore(self, parent: BatchRecord, depth: int) -> list[_Node]:
        if depth > _DEEPEST or self._asked > _ASK:
            return []
        nodes = []
        for record, batch in self._batches(parent):
            motion = self._now[record.id] = self._motion(record.id, batch)
            below = self._explore(batch, depth + 1)
            nodes.append(_Node(record, batch, max([motion.at, *(node.moved for node in below)]), below))
        return nodes

    def _motion(self, id: str, batch: BatchRecord) -> _Motion:
        before = self._before.get(id)
        if before is None:
            return _Motion(batch.open, 0 if batch.open == batch.total else 1)
        return before if before.left == batch.open else _Motion(batch.open, self._looks)

    def _batches(self, parent: BatchRecord) -> list[tuple[Record, BatchRecord]]:
        """Pieces of a batch that have an open batch of their own: they wait for it, or still split."""
        found = []
        for state in (State.WAITING, State.RUNNING):
            pieces = self._store.find(Filter(batch=parent.id, state=state), limit=_LOOK)
            self._asked += 1 + len(pieces)
            for record in pieces:
                batch = None if record.below is None else self._store.batch(record.below)
                if batch is not None and batch.state is BatchState.OPEN:
                    found.append((record, batch))
        return sorted(found, key=lambda pair: pair[0].ordinal or 0)[:_LOOK]


def _rows(nodes: list[_Node], depth: int, room: int) -> list[_Row]:
    """A row for each node that is worth one, with those below it."""
    rows: list[_Row] = []
    for node in _liveliest(nodes, room):
        if len(rows) < room:
            rows.append(_nested_row(node.record, node.batch, depth))
            rows += _rows(node.below, depth + 1, room - len(rows))
    return rows


def _liveliest(nodes: list[_Node], room: int) -> list[_Node]:
    """Those that moved, the latest first to be chosen; of those that have not begun, a few that are next."""
    moved = sorted((node for node in nodes if node.moved), key=lambda node: -node.moved)
    idle = [node for node in nodes if not node.moved]
    chosen = moved[:room] + idle[: max(0, min(room, _IDLE_ROWS) - len(moved))]
    return sorted(chosen, key=lambda node: node.record.ordinal or 0)


# ── saying ───────────────────────────────────────────────────────────────────────────────────────


def _root_row(record: Record, batch: BatchRecord | None) -> _Row:
    label = _task(record)
    if batch is not None:
        row = _batch_row(label, batch, 0)
        return msgspec.structs.replace(row, note=_phase(record, batch))
    if record.state is State.COMPLETED:  # whatever it said last of its progress
        total = (record.progress and record.progress.total) or 1
        return _Row(label, 0, total, total, note=_phase(record, None))
    if record.progress is not None:
        progress = record.progress
        note = _plain(progress.note) if not _ended(record) else ""
        return _Row(label, 0, progress.done, progress.total, note=note or _phase(record, None))
    return _Row(label, note=_phase(record, None))


def _operation_row(record: Record, batch: BatchRecord | None, kept: OperationRecord | None) -> _Row:
    """An operation: how many steps it has come to, and where it stands. How many are left, nobody knows: it may jump."""
    note = record.state.value if _ended(record) else _plain(status_of(record, kept, _now()))
    if batch is not None and record.state is State.WAITING:
        return msgspec.structs.replace(_batch_row(_task(record), batch, 0), note=note)
    step = step_of(record)
    return _Row(_task(record), done=step.visit if step is not None else 0, unit="steps", note=note)


def _nested_row(record: Record, batch: BatchRecord, depth: int) -> _Row:
    name = _plain(record.piece) if record.piece is not None else f"{_task(record)} {record.ordinal}"
    return _batch_row(name, batch, depth)


def _batch_row(label: str, batch: BatchRecord, depth: int) -> _Row:
    return _Row(label, depth, batch.total - batch.open, batch.total, not batch.sealed, batch.failed, "pieces")


def _phase(record: Record, batch: BatchRecord | None) -> str:
    """What the job is about, in a word or two."""
    if _ended(record):
        return record.state.value
    if record.stopping:
        return "stopping"
    if record.state is State.AVAILABLE and record.run_at > _now():
        return "retry is due later" if record.attempt else "scheduled"
    if batch is not None:
        if not batch.sealed:
            return "splitting"
        return "composing" if batch.open == 0 else ""
    return "in line" if record.state is State.AVAILABLE else record.state.value


def _now() -> float:
    return SystemClock().now()


def _ended(record: Record) -> bool:
    """Whether nothing more will happen by itself: a parked job waits for somebody to look at it."""
    return record.state.finished or record.state is State.PARKED


def _elapsed(record: Record) -> str:
    end = record.finished_at if record.finished_at is not None and _ended(record) else _now()
    seconds = max(0, int(end - record.created_at))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _task(record: Record) -> str:
    return _plain(record.task.rpartition(":")[2].rpartition(".")[2])


def _figure(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:,.1f}"


def _plain(text: str) -> str:
    """Names and notes are other people's text: without control characters it cannot steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


_STYLES: dict[str, str] = {State.COMPLETED: "green", State.FAILED: "red", State.CANCELLED: "red", State.PARKED: "red"}


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


class _View(Protocol):
    """Where pictures are shown."""

    def show(self, picture: _Picture) -> None: ...

    def close(self) -> None: ...


class _Bars:
    """A bar for the root and one for each of the batches below it, drawn over the last picture."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def close(self) -> None:
        self._live.stop()

    def show(self, picture: _Picture) -> None:
        # Columns of a fixed width: bars that jump while names come and go cannot be read.
        grid = Table.grid(padding=(0, 1), expand=True)
        width = self._console.width
        grid.add_column(width=min(36, width * 3 // 10), no_wrap=True, overflow="ellipsis")
        grid.add_column(ratio=1)
        grid.add_column(min_width=9, justify="right", no_wrap=True)
        grid.add_column(min_width=5, justify="right", no_wrap=True)
        grid.add_column(min_width=17, max_width=max(17, width // 3), no_wrap=True, overflow="ellipsis")
        self._add(grid, picture.root, _elapsed(picture.record))
        for row in picture.below:
            self._add(grid, row)
        self._live.update(grid, refresh=True)

    def _add(self, grid: Table, row: _Row, elapsed: str = "") -> None:
        label = Text("  " * row.depth + row.label, style="" if row.depth else "bold")
        bar = ProgressBar(row.total or 1, row.done, pulse=row.total is None and row.note == State.RUNNING)
        percent = Text("" if row.percent is None else f"{row.percent} %")
        grid.add_row(label, bar, Text(row.numbers), percent, _tail(elapsed, row))


def _tail(elapsed: str, row: _Row) -> Text:
    failed = f"{row.failed:,} failed" if row.failed else ""
    note = Text(row.note, style=_STYLES.get(row.note, ""))
    return Text(" ").join(part for part in (Text(elapsed), note, Text(failed, style="red")) if part.plain)


class _Lines:
    """A line for each new percent or phase, at most one a second; the last one always."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: tuple[int | None, str] | None = None
        self._at = 0.0

    def close(self) -> None:
        pass

    def show(self, picture: _Picture) -> None:
        row, now = picture.root, time.monotonic()
        news = (row.percent, row.note)
        first = self._said is None
        if not picture.ended and not first and (news == self._said or now - self._at < _LINE_EVERY):
            return
        self._said, self._at = news, now
        percent = "" if row.percent is None else f"{row.percent} %"
        failed = f"{row.failed:,} failed" if row.failed else ""
        numbers = f"{row.numbers} {row.unit}".strip()
        facts = ", ".join(fact for fact in (percent, numbers, row.note, failed) if fact)
        self._console.print(
            f"{_elapsed(picture.record):>7}  {row.label}: {facts}", markup=False, highlight=False, soft_wrap=True
        )
