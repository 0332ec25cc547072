"""A clock that moves when it is told to."""

import math


class FakeClock:
    """Time as an argument: a callable to hand to whatever wants ``now``.

    For pure machines and for wall clocks. Code that sleeps on the event loop wants virtual loop time instead.

    Args:
        start: First reading, in seconds.

    Raises:
        ValueError: A time is not finite, or ``advance`` is asked to go back.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = _finite("start", start)

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"

    def advance(self, seconds: float) -> float:
        """Let *seconds* pass (zero or more) and return the new time."""
        if not _finite("seconds", seconds) >= 0:
            raise ValueError(f"seconds must not be negative, got {seconds!r}; set() turns a clock back")
        self._now += seconds
        return self._now

    def set(self, time: float) -> None:
        """Show *time* from now on, earlier or later: wall clocks are corrected in both directions."""
        self._now = _finite("time", time)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)
