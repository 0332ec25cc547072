"""How durations are distributed, in fixed buckets, so that any two histograms can be added."""

import math
from collections.abc import Mapping
from typing import Any, Self

_PER_DECADE = 40
_LEAST = 1e-5
_DECADES = 10
_BUCKETS = _PER_DECADE * _DECADES


class Histogram:
    """Durations in seconds, in logarithmic buckets of 6 % from 10 us to a day; what lies beyond goes to the ends.

    Attributes:
        count: How many.
        total: Their sum.
        least: The smallest; infinite where there is none.
        most: The greatest.
    """

    __slots__ = ("_buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.least = math.inf
        self.most = 0.0

    def __repr__(self) -> str:
        return f"Histogram({self.count}, mean={self.mean:.3g})"

    @property
    def mean(self) -> float:
        """The mean, 0 where there is none."""
        return self.total / self.count if self.count else 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Take in *seconds*, *times* times."""
        place = int(math.log10(seconds / _LEAST) * _PER_DECADE) if seconds > _LEAST else 0
        self._buckets[min(place, _BUCKETS - 1)] += times
        self.count += times
        self.total += seconds * times
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)

    def quantile(self, share: float) -> float:
        """Return the duration that *share* of all, from 0 to 1, do not exceed: to 3 %."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        passed = 0
        for place, number in enumerate(self._buckets):
            passed += number
            if passed >= rank:
                return min(max(_LEAST * 10 ** ((place + 0.5) / _PER_DECADE), self.least), self.most)
        return self.most

    def bars(self, join: int = 4) -> list[tuple[float, int]]:
        """Return lower edge and number, *join* buckets taken together, from the first that has any to the last."""
        joined = [sum(self._buckets[n : n + join]) for n in range(0, _BUCKETS, join)]
        used = [place for place, number in enumerate(joined) if number]
        if not used:
            return []
        return [(_LEAST * 10 ** (n * join / _PER_DECADE), joined[n]) for n in range(used[0], used[-1] + 1)]

    def merge(self, other: "Histogram") -> None:
        """Add what *other* holds."""
        theirs = other._buckets  # noqa: SLF001 - of its own class
        self._buckets = [number + more for number, more in zip(self._buckets, theirs, strict=True)]
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "count": self.count,
            "total": round(self.total, 6),
            "min": round(self.least, 6) if self.count else 0.0,
            "mean": round(self.mean, 6),
            "p50": round(self.quantile(0.5), 6),
            "p90": round(self.quantile(0.9), 6),
            "p95": round(self.quantile(0.95), 6),
            "p99": round(self.quantile(0.99), 6),
            "max": round(self.most, 6),
            "buckets": {str(place): number for place, number in enumerate(self._buckets) if number},
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the histogram that *data*, of ``data()``, describes."""
        histogram = cls()
        for place, number in data["buckets"].items():
            histogram._buckets[int(place)] = int(number)
        histogram.count = int(data["count"])
        histogram.total = float(data["total"])
        histogram.least = float(data["min"]) if histogram.count else math.inf
        histogram.most = float(data["max"])
        return histogram
