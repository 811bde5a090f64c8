"""Held behind Django's connection: by its own `on_commit`, and also where a hook of somebody else's stops that."""

from __future__ import annotations

import sys
from typing import Any

from piecework.aftercommit.held import Held
from piecework.errors import BadOption


def connection_of(behind: Any) -> Any:
    """Django's connection in what was given; None where there is none."""
    proxies, wrappers = sys.modules.get("django.utils.connection"), sys.modules.get("django.db.backends.base.base")
    if proxies is not None and isinstance(behind, proxies.ConnectionProxy):
        return behind
    return behind if wrappers is not None and isinstance(behind, wrappers.BaseDatabaseWrapper) else None


def behind_connection(connection: Any, held: Held) -> None:
    if connection.in_atomic_block:
        _make_sure_of_hooks(connection)
        connection.on_commit(held.committed, robust=True)
    elif connection.get_autocommit():
        held.store()
    else:
        raise BadOption(
            "after_commit= cannot tell when this connection commits: its autocommit was turned off, where Django takes no "
            "on_commit(). Call it inside `with transaction.atomic():`"
        )


def _make_sure_of_hooks(connection: Any) -> None:
    run = connection.run_and_clear_commit_hooks
    if not isinstance(run, _Hooks):
        run.__self__.run_and_clear_commit_hooks = _Hooks(run)  # the connection itself, also where its proxy was given


class _Hooks:
    """What Django runs after a commit; what is held is added also behind a hook of others that raises."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self) -> None:
        connection = self._run.__self__
        held = [
            of for _, hook, *_ in connection.run_on_commit if isinstance(of := getattr(hook, "__self__", None), Held)
        ]
        try:
            self._run()
        except BaseException:
            if not connection.run_on_commit:  # else it refused to begin: nothing was committed
                for of in held:
                    of.committed()
            raise
