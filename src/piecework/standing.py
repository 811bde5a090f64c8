"""How it stands with an identity: what `task.in_progress(7)`, `task.status(7)` and `task.latest(7)` answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import msgspec
from msgspec import UnsetType

from piecework.errors import BadArguments, UsageError
from piecework.handle import Job
from piecework.job import Standing, State, as_utc
from piecework.options import CallOptions
from piecework.registry import TaskSpec

if TYPE_CHECKING:
    from piecework.app import Piecework

P = ParamSpec("P")
R = TypeVar("R")


class Status(dict[str, Any]):
    """What was set last by `current.set_status`, as a dict; beside that, how it stands with the newest job.

    `job` is the newest job of that identity, and `state` the state that it was in when this was asked. `at` (aware UTC)
    is when the status was set, and `said_by` the job that did: an earlier one's status stays until a later one sets
    one.
    """

    def __init__(
        self, values: Mapping[str, Any], *, job: Job[Any], state: State, said_by: Job[Any], at: datetime
    ) -> None:
        super().__init__(values)
        self.job = job
        self.state = state
        self.said_by = said_by
        self.at = at


class Asked(Generic[P, R]):
    """The questions that a task with an identity answers.

    Each takes the arguments of a call, of which the identity is worked out as for a call; or the identity's own value:
    what does not fit the task's parameters is taken for that. With ``using(identity=…)`` it takes none.
    """

    _app: Piecework
    _spec: TaskSpec
    _options: CallOptions

    @property
    def name(self) -> str:
        """The stable name under which jobs are stored."""
        return self._spec.name

    @overload
    def in_progress(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    @overload
    def in_progress(self, *identity: object) -> bool: ...

    def in_progress(self, *args: Any, **kwargs: Any) -> bool:
        """Whether a job of this identity waits or runs: from the call that stored it until its end.

        One that is parked is not in progress: nothing happens to it by itself. Raises `UsageError` for a task without
        an identity, and `BadArguments` for what is none.

        Example: ``validate_card.in_progress(7)``
        """
        standing = self._standing(args, kwargs)
        return standing is not None and standing.busy

    @overload
    async def ain_progress(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    @overload
    async def ain_progress(self, *identity: object) -> bool: ...

    async def ain_progress(self, *args: Any, **kwargs: Any) -> bool:
        """`in_progress`, awaited."""
        return await self._app.edge.call(self.in_progress, *args, **kwargs)

    @overload
    def status(self, *args: P.args, **kwargs: P.kwargs) -> Status | None: ...
    @overload
    def status(self, *identity: object) -> Status | None: ...

    def status(self, *args: Any, **kwargs: Any) -> Status | None:
        """What was set last by `current.set_status` in a job of this identity; None until one has set something.

        It equals the dict that was set, and stays when the job has ended, as long as that is kept. Raises as
        `in_progress`.

        Example: ``validate_card.status(7) == {"success": False, "errors": ["Credit expire date not given"]}``
        """
        standing = self._standing(args, kwargs)
        if standing is None or standing.status is None or standing.status_by is None:
            return None
        at = as_utc(standing.status_at)
        assert at is not None
        newest: Job[R] = Job(self._app, standing.id)
        said_by: Job[R] = Job(self._app, standing.status_by)
        return Status(read(standing.status), job=newest, state=standing.state, said_by=said_by, at=at)

    @overload
    async def astatus(self, *args: P.args, **kwargs: P.kwargs) -> Status | None: ...
    @overload
    async def astatus(self, *identity: object) -> Status | None: ...

    async def astatus(self, *args: Any, **kwargs: Any) -> Status | None:
        """`status`, awaited."""
        return await self._app.edge.call(self.status, *args, **kwargs)

    @overload
    def latest(self, *args: P.args, **kwargs: P.kwargs) -> Job[R] | None: ...
    @overload
    def latest(self, *identity: object) -> Job[R] | None: ...

    def latest(self, *args: Any, **kwargs: Any) -> Job[R] | None:
        """A handle to the newest job of this identity; None where none is kept. Raises as `in_progress`.

        Example: ``validate_card.latest(7).result(timeout=10)``
        """
        standing = self._standing(args, kwargs)
        found = [] if standing is None else self._app.store.get([standing.id])
        return self._app.handle(found[0].id, found[0]) if found else None

    @overload
    async def alatest(self, *args: P.args, **kwargs: P.kwargs) -> Job[R] | None: ...
    @overload
    async def alatest(self, *identity: object) -> Job[R] | None: ...

    async def alatest(self, *args: Any, **kwargs: Any) -> Job[R] | None:
        """`latest`, awaited."""
        return await self._app.edge.call(self.latest, *args, **kwargs)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _standing(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Standing | None:
        identity = self._asked_for(args, kwargs)
        return self._app.store.standing(self._app.registry.names_of(self.name), identity)

    def _asked_for(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        said = self._options.identity
        if not isinstance(said, UnsetType):
            if args or kwargs:
                raise BadArguments(
                    f"{self.name}: using(identity=…) says whose status it is; give no arguments beside it"
                )
            found = said
        elif self._spec.identity is None:
            raise UsageError(
                f"{self.name} has no identity to be asked by; declare one with identity=, or ask with using(identity=…)"
            )
        else:
            found = self._spec.identity.asked(args, kwargs)
        if found is None:
            raise BadArguments(f"{self.name}: what was asked for has no identity")
        return found


read = msgspec.json.Decoder(dict[str, Any]).decode
