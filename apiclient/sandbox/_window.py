"""The quota arithmetic: a fixed window that opens with its first request."""

import math
from dataclasses import dataclass

UNITS = ((86_400, "d", "day"), (3_600, "h", "hour"), (60, "m", "minute"), (1, "s", "second"))


@dataclass(frozen=True, slots=True)
class Hit:
    """What one request met.

    Attributes:
        admitted: Whether the request is within the quota.
        remaining: Requests that the window still admits.
        resets_in: Seconds until the window ends. A request at that very moment still belongs to it.
    """

    admitted: bool
    remaining: int
    resets_in: float

    @property
    def retry_after(self) -> int:
        """Whole seconds as such servers send them: rounded to the nearest, at least 1, hence at times too short."""
        return max(math.floor(self.resets_in + 0.5), 1)


class FixedWindow:
    """Admit *limit* requests in each window of *period* seconds.

    The window opens with the first request and is closed at both ends. Rejected requests count, but do not extend it.

    Args:
        limit: Requests that one window admits, at least 1.
        period: Length of a window in seconds, above 0.
    """

    def __init__(self, limit: int, period: float) -> None:
        self._limit = limit
        self._period = period
        self._opened = -math.inf
        self._count = 0

    def __repr__(self) -> str:
        return f"FixedWindow(limit={self._limit}, period={self._period}, count={self._count})"

    def hit(self, now: float) -> Hit:
        """Count a request at *now*, in seconds of any clock that does not run backwards."""
        if now > self._opened + self._period:
            self._opened = now
            self._count = 0
        self._count += 1
        return Hit(
            admitted=self._count <= self._limit,
            remaining=max(self._limit - self._count, 0),
            resets_in=self._opened + self._period - now,
        )


def spelled(period: float) -> str:
    """Write *period* seconds as the refusal does: `1 second`, `15 minutes`."""
    count, _, name = _in_units(period)
    return f"{count:g} {name}" if count == 1 else f"{count:g} {name}s"


def abbreviated(period: float) -> str:
    """Write *period* seconds as the limit header does: `1s`, `15m`."""
    count, letter, _ = _in_units(period)
    return f"{count:g}{letter}"


def _in_units(period: float) -> tuple[float, str, str]:
    for seconds, letter, name in UNITS:
        if period % seconds == 0:
            return period / seconds, letter, name
    return period, "s", "second"
