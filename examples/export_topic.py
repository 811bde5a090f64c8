"""Background jobs in pieces: a topic is exported post by post, in parallel, and put together once.

The same call runs now or later, with the same answer. Run it: ``python examples/export_topic.py``
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from piecework import JobFailed, Piece, Pieces, Piecework, current

TOPICS = {1: "Ruby", 2: "An empty topic"}
POSTS = {1: [("A", "1"), ("B", "2"), ("C", "3")], 2: []}

LOCKED = {"B"}  # posts that cannot be read just now

folder = tempfile.TemporaryDirectory()
app = Piecework(f"sqlite:///{Path(folder.name) / 'jobs.db'}")


@app.task(attempts=1)
def export_post(topic_id: int, number: int) -> str:
    """One piece: the slow part, were it not an example."""
    title, body = POSTS[topic_id][number]
    if current.inside and title in LOCKED:
        raise PermissionError(f"post {title} is locked")
    return f"{title}: {body}"


@app.split
def export_topic(topic_id: int) -> Iterator[Piece[str]]:
    """The pieces, in the order in which the compose will read them."""
    for number, (title, _) in enumerate(POSTS[topic_id]):
        yield export_post.using(key=title).piece(topic_id, number)


@export_topic.compose
def join(pieces: Pieces[str], topic_id: int) -> str:
    """Runs once, when the last piece has settled; results are streamed from the database."""
    return f"{TOPICS[topic_id]}: " + ";".join(pieces.results())


@app.split
def export_forum() -> Iterator[Piece[str]]:
    """A split of splits."""
    for topic_id in TOPICS:
        yield export_topic.piece(topic_id)


@export_forum.compose
def join_forum(pieces: Pieces[str]) -> str:
    return "\n".join(pieces.results())


def main() -> None:
    now = export_topic(1)
    print(f"now:    {now}")

    with app.worker(concurrency=4):
        retry_what_failed()

        job = export_topic.later(1)
        later = job.result(timeout=30)
        print(f"later:  {later}")
        assert now == later

        for piece in job.pieces():
            record = piece.record()
            print(f"        piece {record.piece_key}: {record.state}, {record.result}")

        print(f"empty:  {export_topic.later(2).result(timeout=30)}")

        forum = export_forum.later()
        print(f"nested: {forum.result(timeout=30)!r}")
        assert forum.progress is not None
        print(f"        {forum.progress.done:g} of {forum.progress.total:g} topics, composed once")


def retry_what_failed() -> None:
    """One piece fails, and with it the topic; a retry runs that piece again, and no other."""
    job = export_topic.later(1)
    try:
        job.result(timeout=30)
    except JobFailed as error:
        print(f"failed: {error.error.message if error.error else error}")
    LOCKED.clear()
    job.retry()
    print(f"retried: {job.result(timeout=30)}")
    print(f"        runs of the pieces: {[piece.record().run for piece in job.pieces()]}")


if __name__ == "__main__":
    try:
        main()
    finally:
        app.close()
        folder.cleanup()
