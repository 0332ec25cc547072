"""Rates of requests, and the durations that people and servers write."""

import math
import re
from dataclasses import dataclass
from typing import Final, Self, cast

YEAR: Final = 31_536_000.0
"""Seconds in 365 days: the longest period or wait that is reported anywhere."""

MAX_LIMIT: Final = 1_000_000_000
"""The greatest number of requests in a rate; a server's greater ones are clamped to it."""

_LONGEST: Final = 1024
UNIT_SECONDS: Final = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 604_800.0),
    **dict.fromkeys(("month", "months"), 2_592_000.0),
    **dict.fromkeys(("y", "yr", "year", "years"), YEAR),
}
UNIT: Final = rf"(?:{'|'.join(sorted(UNIT_SECONDS, key=len, reverse=True))})(?![A-Za-z])"
AMOUNT: Final = r"[0-9]{1,12}(?:\.[0-9]{1,20})?(?:e-[0-9]{1,3})?"
DURATION: Final = rf"(?:{AMOUNT}\s?{UNIT}\s?){{1,4}}|{UNIT}"
"""Pattern of a duration, to be compiled with ``re.IGNORECASE``; it has no unbounded part."""

_parts = re.compile(rf"({AMOUNT})?\s?({UNIT})\s?", re.IGNORECASE)
_duration = re.compile(DURATION, re.IGNORECASE)
_rate = re.compile(rf"([0-9]{{1,15}})\s?(?:/|\bper\b)\s?({DURATION})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds.

    Args:
        limit: Requests, from 1 to 1,000,000,000.
        per: Seconds, above 0 and up to a year; 1.0 by default.

    Raises:
        TypeError: An option is not a number of the right kind.
        ValueError: An option is out of its range.
    """

    limit: int
    per: float = 1.0

    def __post_init__(self) -> None:
        """Check both options and make ``per`` a float."""
        limit, per = cast("object", self.limit), cast("object", self.per)
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"limit must be an int, got {limit!r}")
        if not isinstance(per, int | float) or isinstance(per, bool):
            raise TypeError(f"per must be a number of seconds, got {per!r}")
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"limit must be at least 1 and at most {MAX_LIMIT}, got {limit!r}")
        if not 0 < per <= YEAR:
            raise ValueError(f"per must be above 0 and at most {YEAR:.0f} seconds, got {per!r}")
        object.__setattr__(self, "per", float(per))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rate that *text* states: ``5/1s``, ``100/min``, ``1000/hour``, ``5 per 1 second``, ``10/1m30s``.

        Units are ms, s, m, h, d, w, month (30 days) and y (365 days), or their names, in any case.

        Raises:
            TypeError: *text* is not a str.
            ValueError: *text* is no rate, or one out of range.
        """
        if not isinstance(cast("object", text), str):
            raise TypeError(f"rate must be a str, got {text!r}")
        read = rate_in(text)
        if read is None:
            raise ValueError(f'rate must look like "5/1s" or "100/min", got {text[:80]!r}')
        return cls(read[0], per=read[1])

    def __repr__(self) -> str:
        return f"Rate({self.limit}, per={self.per!r})"

    def __str__(self) -> str:
        return f"{self.limit}/{repr(self.per).removesuffix('.0')}s"


def seconds(text: str) -> float:
    """Return a duration such as ``1s``, ``1m30s``, ``2 hours`` or ``minute`` in seconds; nan where it is none."""
    if len(text) > _LONGEST or not _duration.fullmatch(text.strip()):
        return math.nan
    parts = _parts.findall(text)
    return sum(float(amount or 1) * UNIT_SECONDS[unit.lower()] for amount, unit in parts)


def rate_in(text: str) -> tuple[int, float] | None:
    """Return the requests and seconds of a text such as ``5/1s``, unchecked; None where it is no such text."""
    match = _rate.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    return None if match is None else (int(match[1]), seconds(match[2]))
