"""A sum over the last few seconds, in constant memory."""

import math


class Rolling:
    """The sum of what was added in a window that moves with the clock.

    The window is cut into slices of equal length, the newest of them partly filled, so that the sum covers
    between ``(slices - 1) / slices`` of the window and all of it. A clock that steps back adds to the newest slice.

    Args:
        window: Length in seconds.
        slices: Number of slices; the memory is that many floats.
    """

    __slots__ = ("_edge", "_filling", "_index", "_older", "_slices", "_width")

    def __init__(self, window: float, slices: int = 10) -> None:
        if not 0 < window < math.inf:
            raise ValueError(f"window must be above 0 seconds and finite, got {window!r}")
        if slices < 1:
            raise ValueError(f"slices must be at least 1, got {slices!r}")
        self._width = window / slices
        self._slices = [0.0] * slices
        self._index = 0
        self._edge = self._width  # When the slice that is being filled ends.
        self._filling = 0.0
        self._older = 0.0

    def add(self, now: float, amount: float = 1.0) -> None:
        """Add *amount* at the time *now*, in seconds."""
        if now >= self._edge:
            self._advance(now)
        self._filling += amount

    def sum(self, now: float) -> float:
        """Return the sum over the window that ends at *now*."""
        if now >= self._edge:
            self._advance(now)
        return self._older + self._filling

    def tail(self, now: float, count: int) -> float:
        """Return the sum over the newest *count* slices, the one that is being filled among them."""
        if now >= self._edge:
            self._advance(now)
        slices = self._slices
        older = sum(slices[(self._index - back) % len(slices)] for back in range(min(count, len(slices))))
        return older + self._filling

    def clear(self) -> None:
        """Forget everything."""
        self._slices = [0.0] * len(self._slices)
        self._older = self._filling = 0.0

    def _advance(self, now: float) -> None:
        slices = self._slices
        size = len(slices)
        slices[self._index % size] += self._filling
        index = int(now / self._width)
        for step in range(min(index - self._index, size)):
            slices[(index - step) % size] = 0.0
        self._index = index
        self._edge = (index + 1) * self._width
        self._filling = 0.0
        self._older = math.fsum(slices)  # Summed anew, so that no rounding error lives longer than a slice.
