"""docs/store.md tells every verb of the store, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from piecework.store.protocol import Parts, Store

PAGE = Path(__file__).parents[2] / "docs" / "store.md"


def test_the_page_tells_every_verb_once() -> None:
    (table,) = re.findall(r"^\| For \| Verb \| In short \|\n(.*?)\n\n", PAGE.read_text("utf-8"), re.S | re.M)
    told = [verb for line in table.split("\n")[1:] for verb in re.findall(r"`(\w+)`", line.split("|")[2])]
    verbs = [name for name, member in vars(Store).items() if inspect.isfunction(member) and not name.startswith("_")]
    assert sorted(told) == sorted(verbs)


def test_the_page_tells_every_verb_of_distributed_jobs_once() -> None:
    (table,) = re.findall(r"^\| Verb \| In short \|\n(.*?)\n\n", PAGE.read_text("utf-8"), re.S | re.M)
    told = [verb for line in table.split("\n")[1:] for verb in re.findall(r"`(\w+)`", line.split("|")[1])]
    verbs = [name for name, member in vars(Parts).items() if inspect.isfunction(member) and not name.startswith("_")]
    assert sorted(told) == sorted(verbs)
