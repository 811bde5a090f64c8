"""SQL kept as files, one statement a file: the file's name is its title, and a verb's titles begin with the verb."""

from __future__ import annotations

from importlib.resources import files

COMMON = "piecework.store.sql"


def titles(package: str) -> dict[str, str]:
    """Every statement of a shelf by its title: its own, and those that all shelves say in the same words."""
    return _folder(COMMON) | _folder(package)


def _folder(package: str) -> dict[str, str]:
    folder = files(package).joinpath("sql")
    return {
        entry.name.removesuffix(".sql"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }


def migrations(package: str) -> list[tuple[int, str, str]]:
    """The numbered migrations of a shelf, oldest first: number, name, SQL."""
    folder = files(package).joinpath("schema")
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return sorted(
        (int(entry.name.split("_")[0]), entry.name.removesuffix(".sql"), entry.read_text("utf-8")) for entry in found
    )


def statements(sql: str) -> list[str]:
    """The statements of a migration, to be sent one by one: the line that ends one ends with a semicolon."""
    found, statement = [], ""
    for line in sql.splitlines():
        code = line.partition("--")[0].rstrip()
        statement += code + "\n"
        if code.endswith(";"):
            found.append(statement)
            statement = ""
    return found
