"""Which faults an attempt meets: one model for ``Chaos`` before the wire and for the sandbox behind it. Seeded."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

FAULTS = ("latency", "error", "status", "reset", "truncation", "slow_body")
"""In the order in which they would be met: of those drawn for an attempt the first but ``latency`` hides the others."""
HEAD = 65536
"""A truncated body ends within so many bytes."""
PIECES = 10
"""A slow body comes in so many."""


class Plan(NamedTuple):
    """What happens to one attempt.

    Attributes:
        faults: Those drawn.
        place: From 0 up to 1: where a body breaks off, which status is chosen.
        delay: Seconds.
    """

    faults: frozenset[str]
    place: float
    delay: float

    @property
    def fault(self) -> str | None:
        """The one that is seen, ``latency`` apart, or None."""
        seen = [name for name in FAULTS[1:] if name in self.faults]
        return seen[0] if seen else None

    @property
    def wait(self) -> float:
        """Seconds to wait first."""
        return self.delay if "latency" in self.faults else 0.0

    def cut(self, size: int) -> int:
        """Return after how many of the *size* bytes of a body it breaks off."""
        return int(self.place * min(size, HEAD))

    def piece(self, size: int) -> tuple[int, float]:
        """Return in pieces of how many bytes a body of *size* comes, and after how many seconds each."""
        length = -(-size // PIECES)
        return length, self.delay / -(-size // length)


class Dice:
    """Draws plans: the same number of draws for each, so that changing one rate leaves the other faults in place.

    Args:
        seed: Of the series.
        rates: Share of attempts for each of ``FAULTS``; what is not named never happens.
        delay: Seconds, or the ``(shortest, longest)`` of an even spread.

    Raises:
        ValueError: There is no such fault, a rate is not from 0 to 1, or the delay is out of its range.

    Attributes:
        rates: Of each fault.
        drawn: How many of each fault there were, hidden ones left out.
    """

    def __init__(self, seed: int | str, rates: Mapping[str, float], delay: float | tuple[float, float]) -> None:
        self.rates = {name: rates.get(name, 0.0) for name in FAULTS}
        for name, rate in rates.items():
            if name not in self.rates:
                raise ValueError(f"a fault must be one of {', '.join(FAULTS)}, got {name!r}")
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {rate!r}")
        self._delay = delay if isinstance(delay, tuple) else (delay, delay)
        if not 0 <= self._delay[0] <= self._delay[1] < float("inf"):
            raise ValueError(f"delay must be one number, or two in order, not negative and finite, got {delay!r}")
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable is the point
        self.drawn: Counter[str] = Counter()

    def __repr__(self) -> str:
        rates = ", ".join(f"{name}={rate:g}" for name, rate in self.rates.items() if rate)
        return f"Dice({rates})"

    def draw(self) -> Plan:
        """Return what happens to the next attempt."""
        faults = frozenset(name for name in _DRAWN if self._random.random() < self.rates[name])
        plan = Plan(faults, self._random.random(), self._random.uniform(*self._delay))
        # Only what will be seen: an attempt that is never sent has no answer to spoil.
        self.drawn.update(({"latency"} & faults) | ({plan.fault} if plan.fault is not None else set()))
        return plan


# As one draws after the other; the order is part of what a seed means.
_DRAWN = ("error", "status", "latency", "reset", "truncation", "slow_body")


def even(share: float) -> dict[str, float]:
    """Return rates, the same for each fault, with which *share* of all attempts meets one or more.

    Raises:
        ValueError: *share* is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"chaos must be from 0 to 1, got {share!r}")
    each = 1 - math.exp(math.log1p(-share) / len(FAULTS)) if share < 1 else 1.0
    return dict.fromkeys(FAULTS, each)
