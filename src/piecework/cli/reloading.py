"""`piecework work --reload`: watches Python files, and says when they have changed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from piecework.errors import UsageError

log = logging.getLogger("piecework.reload")


def watch(folders: Sequence[str], changed: Callable[[], None]) -> None:
    """Calls `changed` from a thread of its own whenever Python files in or below the folders have changed.

    Raises `UsageError` where a folder is none, or where the library that watches is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise UsageError("--reload needs watchfiles; install it with: pip install 'piecework[reload]'") from None
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if missing:
        raise UsageError(f"--reload-dir: {', '.join(missing)} is not a folder")

    class Code(watchfiles.PythonFilter):
        """Python files that are somebody's own: not of a virtual environment, a cache or a repository's insides."""

        def __call__(self, change: watchfiles.Change, path: str) -> bool:
            return super().__call__(change, path) and not _is_installed(os.path.dirname(path))

    def serve() -> None:
        try:
            for changes in watchfiles.watch(*folders, watch_filter=Code(), raise_interrupt=False):
                log.info("changed: %s", ", ".join(sorted(os.path.relpath(path) for _, path in changes)[:5]))
                changed()
        except Exception:
            log.exception("files cannot be watched any more; worker processes are not restarted on changes")

    log.info("watching Python files in %s", ", ".join(os.path.abspath(folder) for folder in folders))
    threading.Thread(target=serve, name="piecework-reload", daemon=True).start()


@cache
def _is_installed(folder: str) -> bool:
    """Whether a folder is inside a virtual environment, whatever that is called."""
    place = Path(folder)
    return any((parent / "pyvenv.cfg").is_file() for parent in (place, *place.parents))
