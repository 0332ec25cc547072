"""The waits between attempts, from the generators of ``backoff`` or any like them."""

import math
from collections.abc import Callable, Generator
from typing import Any, cast

WaitGenerator = Callable[[], Generator[float, Any, None]]
"""Makes the generator of one call's waits in seconds, such as ``partial(backoff.expo, factor=0.1)``."""

Jitter = Callable[[float, float], float]
"""Turns a wait in seconds and a draw from [0, 1) into the wait that is used."""


def full_jitter(wait: float, draw: float) -> float:
    """Spread evenly from 0 to *wait*: the fewest collisions among callers that failed together."""
    return wait * draw


def equal_jitter(wait: float, draw: float) -> float:
    """Spread evenly from half of *wait* to all of it, where a pause must never be near 0."""
    return wait * (0.5 + 0.5 * draw)


def no_jitter(wait: float, draw: float) -> float:  # noqa: ARG001 - the shape of a Jitter
    """Use *wait* as it is; right only where a single caller exists."""
    return wait


class Delays:
    """The waits of one call: a generator, primed, bounded and kept going past its end.

    A generator may begin with a bare ``yield``, as those of ``backoff`` do, or with its first wait. It is sent the
    last outcome each time, so that ``backoff.runtime`` works. When it ends its last wait is repeated, or *cap* if it
    gave none. An ``OverflowError``, ``inf`` and ``nan`` mean *cap*, and a negative wait means 0.

    Args:
        make: Makes the generator; called once, at the first wait.
        cap: Greatest wait in seconds.
    """

    __slots__ = ("_cap", "_ended", "_generator", "_last", "_make")

    def __init__(self, make: WaitGenerator, *, cap: float) -> None:
        self._make = make
        self._cap = cap
        self._generator: Generator[float, Any, None] | None = None
        self._ended = False
        self._last = cap

    def next(self, outcome: object = None) -> float:
        """Return the next wait in seconds, before jitter and at most *cap*.

        Raises:
            TypeError: The generator gave something that is not a number.
        """
        if not self._ended:
            try:
                self._last = self._bounded(self._advance(outcome))
            except StopIteration:
                self._ended = True
            except OverflowError:
                self._ended = True
                self._last = self._cap
        return self._last

    def _advance(self, outcome: object) -> object:
        if self._generator is not None:
            return self._generator.send(outcome)
        self._generator = self._make()
        # The generators of backoff give None first; one of the user's own may not.
        first = cast("object", self._generator.send(None))
        return self._generator.send(outcome) if first is None else first

    def _bounded(self, wait: object) -> float:
        if isinstance(wait, bool) or not isinstance(wait, int | float):
            raise TypeError(f"a wait must be a number of seconds, got {wait!r}")
        if math.isnan(wait):
            return self._cap
        return float(min(max(wait, 0), self._cap))
