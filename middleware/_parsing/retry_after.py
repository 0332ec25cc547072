"""How long a response asks to be left alone: ``Retry-After`` in every form that servers send.

Pure: no I/O, the wall clock is an argument. Every reader here takes untrusted text, looks at a bounded part of it,
and answers ``None`` for what it cannot read; none raises.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Final, Protocol, cast

from multidict import CIMultiDict, istr

from apiclient.middleware._parsing.rate import YEAR

_LONGEST_FIELD: Final = 128
_RETRY_AFTER: Final = istr("Retry-After")
_DATE: Final = istr("Date")
_MILLISECONDS: Final = (istr("retry-after-ms"), istr("x-ms-retry-after-ms"))
_NUMBER: Final = re.compile(r"[0-9]{1,128}(?:\.[0-9]{0,128})?|\.[0-9]{1,128}")


class Fields(Protocol):
    """What is asked of headers here: the case-insensitive multi-mapping that aiohttp gives."""

    def __contains__(self, key: object, /) -> bool: ...
    def getall(self, key: str, /) -> list[str]:
        """Return every value of the field *key*."""
        ...


def retry_after(headers: Mapping[str, str], *, wall: float) -> float | None:
    """Return the seconds to wait that *headers* ask for, or None where they ask for nothing readable.

    Reads ``Retry-After`` (RFC 9110 10.2.3) as whole or fractional seconds or as an HTTP-date in any of its three
    forms, also with ``-0000`` or without a zone (both taken as UTC) or in ISO 8601; and ``retry-after-ms`` and
    ``x-ms-retry-after-ms``. Of several values, in one field, in repeated fields or in different fields, the longest
    holds, so that no answer is earlier than any that was stated. Negative, infinite, blank and other unreadable
    values are ignored. A date is counted from the response's own ``Date``, so that a wrong clock on either side does
    not matter, and from *wall* without one; a date in the past gives 0.0.

    Args:
        headers: The response's headers; a plain dict may spell the names in any case.
        wall: Wall time now, in seconds since the epoch.

    Returns:
        Finite seconds, from 0.0 to ``YEAR``; longer waits are clamped to ``YEAR``.
    """
    fields = any_case(headers)
    found: float | None = None
    if (text := field(fields, _RETRY_AFTER, _LONGEST_FIELD)) is not None:
        found = _longest(text, 1.0)
        if found is None and (date := moment(text)) is not None:
            found = min(max(date - server_time(fields, wall=wall), 0.0), YEAR)
    for name in _MILLISECONDS:
        if (text := field(fields, name, _LONGEST_FIELD)) is not None:
            wait = _longest(text, 0.001)
            if wait is not None and (found is None or wait > found):
                found = wait
    return found


def server_time(fields: Fields, *, wall: float) -> float:
    """Return the server's clock as its ``Date`` field states it (whole seconds, cut), or *wall* without one."""
    text = field(fields, _DATE, _LONGEST_FIELD)
    stated = moment(text) if text is not None else None
    return wall if stated is None else stated


def moment(text: str) -> float | None:
    """Return an HTTP-date (RFC 9110 5.6.7, read leniently) or an ISO 8601 date and time in seconds since the epoch.

    A date without a zone is UTC. None where *text* is neither, or longer than 128 characters.
    """
    text = text.strip()
    return _moment(text) if len(text) <= _LONGEST_FIELD and text.isascii() else None


@lru_cache(maxsize=64)  # The same Date comes with every response of one second.
def _moment(text: str) -> float | None:
    try:
        if text[:4].isdigit() and text[4] == "-":
            parsed = datetime.fromisoformat(text)
            return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        parts = parsedate_tz(text)
        if parts is None:
            return None
        year, month, day, hour, minute, second = parts[:6]
        # A leap second is the one time of day that datetime refuses.
        parsed = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        return (parsed + timedelta(seconds=min(max(second - 59, 0), 1) - (parts[9] or 0))).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def any_case(headers: Mapping[str, str]) -> Fields:
    """Return *headers* fit for lookup by any spelling of a name: as they are, unless they are a plain mapping."""
    return cast("Fields", headers if hasattr(headers, "getall") else CIMultiDict(headers))


def field(fields: Fields, name: str, longest: int) -> str | None:
    """Return the field called *name*, repeated ones joined by commas; None if absent or above *longest* characters."""
    if name not in fields:
        return None
    values = fields.getall(name)
    if len(values) == 1:
        return values[0] if len(values[0]) <= longest else None
    if sum(map(len, values)) > longest:
        return None
    return ", ".join(values)


def _longest(text: str, unit: float) -> float | None:
    """Return the greatest number in a comma-separated *text*, times *unit*, clamped; None if it holds no number."""
    numbers = [float(part) for part in map(str.strip, text.split(",")) if _NUMBER.fullmatch(part)]
    return min(max(numbers) * unit, YEAR) if numbers else None
