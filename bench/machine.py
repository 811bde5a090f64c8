"""Where a run happens: the machine in one line, and a folder on a real disk."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
from pathlib import Path

IN_MEMORY = {"tmpfs", "ramfs"}


def describe(folder: Path, synchronous: str) -> dict[str, str]:
    """What the numbers depend on, where the store is a file."""
    return hardware() | {
        "sqlite": sqlite3.sqlite_version,
        "synchronous": synchronous,
        "file system": file_system(folder),
    }


def describe_server(folder: Path, version: str) -> dict[str, str]:
    """What the numbers depend on, where the store is a server on the same machine."""
    return hardware() | {"postgresql": version, "fsync": "on", "file system": file_system(folder)}


def hardware() -> dict[str, str]:
    """The machine and the interpreter."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def disk_folder(wanted: Path | None) -> tuple[Path, str | None]:
    """The folder to work in, and a warning where it is not on a disk."""
    places = [wanted] if wanted else [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    for place in places:
        if os.access(place, os.W_OK) and file_system(place) not in IN_MEMORY:
            return place, None
    place = places[0]
    return place, f"{place} is in memory ({file_system(place)}): commits cost nothing there; name a disk with --dir"


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, as /proc/mounts names it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    found = [(len(point), kind) for _, point, kind, *_ in mounts if resolved.is_relative_to(point)]
    return max(found)[1] if found else "unknown"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
