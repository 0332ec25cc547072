"""How things stand: what the policies tell of themselves to whoever asks."""

from typing import Any, NamedTuple

from apiclient.middleware._parsing.rate import Rate


class QuotaStanding(NamedTuple):
    """How the quota of one endpoint stands.

    Attributes:
        origin: Scheme, host and port; empty where a ``key`` function of the user's chose another key.
        endpoint: ``METHOD template``, the name of a group, or such a key as text.
        rates: What requests are held to now, configured and learned.
        paused: Seconds for which nothing may leave, since the server refused; 0 where it may.
        waiting: Requests that wait for a slot.
        flying: Requests that left and have no answer yet.
    """

    origin: str
    endpoint: str
    rates: tuple[Rate, ...]
    paused: float
    waiting: int
    flying: int


def named(key: Any) -> tuple[str, str]:
    """Return origin and endpoint, or what comes closest, of a key that a quota is kept under."""
    parts: Any = key
    if not isinstance(key, tuple) or len(parts) < 2:
        return "", str(parts)
    if len(parts) == 2 and isinstance(parts[0], tuple):
        return named(parts[0])
    return str(parts[0]), str(parts[1])
