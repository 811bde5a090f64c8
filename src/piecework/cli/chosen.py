"""Which operations a command line means, by their ids or by a filter, and what it does to each of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, takewhile
from typing import Any, NamedTuple

import click
import msgspec

from piecework.app import Piecework
from piecework.cli.common import (
    Progress,
    UnreadableError,
    app_option,
    counted,
    find_app,
    json_option,
    plain,
    print_json,
    states,
    store_option,
)
from piecework.errors import UsageError
from piecework.job import FINISHED, State
from piecework.operationquery import OperationQuery
from piecework.operations import Operation

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
ENDED = frozenset({*FINISHED, State.PARKED})  # whence what a verb changes comes to none of these, but by itself
TOLD = 5  # so many of those that a verb did not fit are told with the reason

Act = Callable[[Operation[Any]], bool | str]  # False: it has not changed; a text: what came of it


class Said(NamedTuple):
    """What a verb was given beside the operations."""

    words: tuple[str, ...]
    reason: str
    by: str | None


class Choice(msgspec.Struct):
    """Operations by their ids, or all that match one of some queries and are in one of the states that a verb is for."""

    app: Piecework
    ids: tuple[str, ...] = ()
    queries: tuple[OperationQuery[Any], ...] = ()
    states: tuple[State, ...] = ()

    def each(self) -> Iterator[Operation[Any]]:
        """A handle to each, read as it is now: those that there are as this begins, and no fork that is made of them."""
        if self.ids:
            return map(self.app.operations.get, self.ids)
        now = self.app.store.now()
        return chain.from_iterable(self._until(now, query) for query in self._walks())

    def count(self) -> int:
        """How many they are."""
        return len(self.ids) or sum(query.only(state=state).count() for query in self.queries for state in self.states)

    def _walks(self) -> Iterable[OperationQuery[Any]]:
        if ENDED.issuperset(self.states):
            return [query.only(state=state) for query in self.queries for state in self.states]
        # In one go: what is done to one may change its state, and it would come again among those of the next.
        return self.queries

    def _until(self, moment: float, query: OperationQuery[Any]) -> Iterator[Operation[Any]]:
        there = takewhile(lambda operation: operation.known.created_at <= moment, query.meant())
        return (operation for operation in there if operation.known.state in self.states)


def filters(function: Any) -> Any:
    """The options that say which operations are meant."""
    for option in (
        click.option("--where", "globals", metavar="KEY=VALUE", multiple=True,
                     help="Only those with this global: JSON, else text; of objects and lists a part is enough. Repeatable."),
        click.option("--step", metavar="STEP", help="Only those at this step."),
        click.option("--state", type=states, help="Only this state."),
        click.option("--name", help="Only operations of this name."),
    ):  # fmt: skip
        function = option(function)
    return function


def query_of(app: Piecework, said: dict[str, Any]) -> OperationQuery[Any]:
    """The operations that the options of `filters` mean."""
    names = None if said["name"] is None else app.registry.names_of(said["name"])
    return _query(app, names, said)


def _queries_of(app: Piecework, said: dict[str, Any]) -> tuple[OperationQuery[Any], ...]:
    """The same, one for each name, so that each is walked in the order of arrival."""
    if said["name"] is None:
        return (query_of(app, said),)
    return tuple(_query(app, (name,), said) for name in app.registry.names_of(said["name"]))


def _query(app: Piecework, names: tuple[str, ...] | None, said: dict[str, Any]) -> OperationQuery[Any]:
    part = assigned(said["globals"], "--where")
    return OperationQuery[Any](app, names, part).only(state=said["state"], step=said["step"])


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def assigned(texts: Iterable[str], where: str) -> dict[str, Any]:
    """What key=value means: the value is JSON where it can be read as such, else text. Raises `UnreadableError`."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UnreadableError(f"{where}: {text!r:.100} is not key=value")
        if key in values:
            raise UnreadableError(f"{where}: {key!r:.100} is given twice")
        values[key] = value_of(value, f"{where}: {key}")
    return values


def value_of(text: str, where: str) -> Any:
    """JSON, else text; what begins like an object, a list or a quoted text has to be JSON. Raises `UnreadableError`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise UnreadableError(f"{where}: {text!r:.100} is no JSON: {error}") from None
        return text


def _sorted_out(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids among some words, each once, and the others. An id cannot be mistaken: it has a form of its own."""
    ids = tuple(dict.fromkeys(word.lower() for word in words if _ID.fullmatch(word)))
    return ids, tuple(word for word in words if not _ID.fullmatch(word))


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────


class Verb(NamedTuple):
    """What a verb is called, what was done once it is done, which states it is for, and what it takes beside ids."""

    name: str
    done: str
    states: tuple[State, ...]
    words: str = ""
    reason: str | None = ""  # unless one is given; None: it takes none
    options: tuple[Any, ...] = ()
    makes: bool = False  # new operations, whose ids come of it

    @property
    def takes(self) -> str:
        """Its words, for people."""
        return f"{self.words} " if self.words else ""


def verb(group: click.Group, spec: Verb) -> Callable[[Callable[..., Act]], click.Command]:
    """A command on operations, by id or by filter; the function makes of what was said what is done to each."""

    def declare(function: Callable[..., Act]) -> click.Command:
        def run(words: tuple[str, ...], reference: str | None, url: str | None, by: str | None, yes: bool,
                everything: bool, as_json: bool, reason: str = "", **said: Any) -> int:  # fmt: skip
            filtered = {key: said.pop(key) for key in ("name", "state", "step", "globals")}
            ids, others = _sorted_out(words)
            if others and not spec.words:
                raise UnreadableError(
                    f"{others[0]!r:.100} is no id of an operation; piecework operations list shows them"
                )
            act = function(Said(others, reason, by), **said)
            choice = _choose(find_app(reference, url), spec, ids, filtered, everything)
            if not choice.ids:
                _agree(spec, choice.count(), yes, as_json)
            return _do(spec, choice, act, as_json)

        run.__doc__ = function.__doc__
        for decorate in (
            json_option,
            store_option,
            app_option,
            click.option("-y", "--yes", is_flag=True, help="Do it to many without asking."),
            click.option("--by", metavar="WHO", help="Who asks, kept with the line; default: this user and host."),
            *_reason(spec),
            *spec.options,
            click.option("--all", "everything", is_flag=True, help="Every operation that this is for."),
            filters,
            click.argument("words", nargs=-1, metavar=f"{spec.takes}[ID]..."),
        ):
            run = decorate(run)
        return group.command(spec.name)(run)

    return declare


def _reason(spec: Verb) -> list[Any]:
    if spec.reason is None:
        return []
    return [click.option("--reason", default=spec.reason, help="Kept with the line that this leaves.")]


def _choose(app: Piecework, spec: Verb, ids: tuple[str, ...], said: dict[str, Any], everything: bool) -> Choice:
    filtered = everything or any(said.values())
    if ids and filtered:
        raise UnreadableError("name operations by their ids or by a filter, not both")
    if not ids and not filtered:
        raise UnreadableError("say which operations: their ids, --name, --state, --step or --where; or --all")
    for id in ids:
        app.operations.get(id)  # all of them are there, or nothing is done
    if ids:
        return Choice(app, ids)
    wanted = spec.states if said["state"] is None else tuple(s for s in spec.states if s == said["state"])
    return Choice(app, (), _queries_of(app, said), wanted)


def _agree(spec: Verb, many: int, yes: bool, as_json: bool) -> None:
    """Has somebody look at the number first, where it is more than one."""
    if yes or many < 2:
        return
    if as_json or not sys.stdin.isatty():
        raise UsageError(f"this is about {counted(many, 'operation')}; say --yes to {spec.name} all of them")
    click.confirm(f"{spec.name} {counted(many, 'operation')}?", abort=True, err=True)


def _do(spec: Verb, choice: Choice, act: Act, as_json: bool) -> int:
    done, refused, made, progress = 0, 0, [], Progress(spec.done)
    for operation in choice.each():
        said, why = _one(spec, operation, act, told=bool(choice.ids))
        done += said is not False
        progress.tell(done)
        if why is not None:
            refused += 1
            if choice.ids or refused <= TOLD:
                click.echo(f"piecework: {plain(why, 500)}", err=True)
        elif isinstance(said, str) and as_json and spec.makes:
            made.append(said)
        elif isinstance(said, str) and not as_json and (choice.ids or spec.makes):
            click.echo(said)
    progress.end()
    if refused > TOLD and not choice.ids:
        click.echo(f"piecework: … and {refused - TOLD:,} more like these", err=True)
    if as_json:
        print_json({spec.done: done, **({"ids": made} if spec.makes else {})})
    else:
        click.echo(f"{spec.done} {counted(done, 'operation')}")
    return 1 if (choice.ids and done < len(choice.ids)) or (refused and not done) else 0


def _one(spec: Verb, operation: Operation[Any], act: Act, *, told: bool) -> tuple[bool | str, str | None]:
    """What the verb came to for one operation, and why it did not."""
    try:
        said = act(operation)
        if said is False and told:
            return False, f"operation {operation.id} ({operation.status}): there is nothing to {spec.name}"
    except UsageError as error:
        return False, str(error)
    return said, None
