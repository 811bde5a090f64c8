"""Retry policies: stored as data, decided by a pure function; the random draw for jitter is handed in."""

from __future__ import annotations

import math

import msgspec

from piecework.errors import BadOption


class RetryPolicy(msgspec.Struct, frozen=True):
    """How long a failed attempt waits before the next one.

    `first` seconds after the first failure, `factor` times more after each further one, never above `ceiling`.
    `jitter` is the share of the delay that is drawn at random (0.25: between 75 % and 100 % of it), so that jobs
    that failed together do not come back together.
    """

    first: float = 5.0
    factor: float = 2.0
    ceiling: float = 3600.0
    jitter: float = 0.25

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait after the `attempt`th failed attempt (1, 2, …); `draw` is a random number in [0, 1)."""
        exponent = min(attempt - 1, 1000)
        try:
            raw = self.first * self.factor**exponent
        except OverflowError:
            raw = math.inf
        bounded = min(raw, self.ceiling)
        return bounded * (1.0 - self.jitter * draw)


def exponential(
    first: float = 5.0, *, factor: float = 2.0, ceiling: float = 3600.0, jitter: float = 0.25
) -> RetryPolicy:
    """Wait `first` seconds, then `factor` times longer each time, up to `ceiling`.

    Example: ``@app.task(attempts=7, retry=exponential(60))`` waits about 1, 2, 4, 8, 16 and 32 minutes.
    """
    return _checked(RetryPolicy(first, factor, ceiling, jitter))


def fixed(seconds: float, *, jitter: float = 0.0) -> RetryPolicy:
    """Wait the same number of seconds after every failure."""
    return _checked(RetryPolicy(seconds, 1.0, seconds, jitter))


def _checked(policy: RetryPolicy) -> RetryPolicy:
    for name in ("first", "ceiling"):
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise BadOption(f"retry: {name} must be a number of seconds, 0 or more, not {value!r}")
    if isinstance(policy.factor, bool) or not isinstance(policy.factor, int | float) or not policy.factor >= 1:
        raise BadOption(f"retry: factor must be 1 or more, not {policy.factor!r}")
    if isinstance(policy.jitter, bool) or not isinstance(policy.jitter, int | float) or not 0 <= policy.jitter <= 1:
        raise BadOption(f"retry: jitter must be a share between 0 and 1, not {policy.jitter!r}")
    return policy


DEFAULT_RETRY = RetryPolicy()
DEFAULT_ATTEMPTS = 10
