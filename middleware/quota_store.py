"""Where a quota is counted when several processes draw from it."""

from typing import NamedTuple, Protocol, runtime_checkable

from apiclient.middleware._parsing.rate import Rate


class Lease(NamedTuple):
    """Units of a quota that one process may use.

    Attributes:
        units: How many; 0 means none now.
        seconds: For so long; what is not used by then is lost, and need not be given back.
        wait: Where there are none: seconds until it is worth asking again.
    """

    units: int
    seconds: float = 1.0
    wait: float = 0.0


class QuotaStore(Protocol):
    """Counts the quotas of all processes together. ``RateLimit`` counts its own beside it.

    A store that raises, or takes longer than its ``RateLimit`` allows, is passed over for a moment: the limiter
    then goes by its own count.
    """

    async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
        """Take up to *want* units of the quota called *key*, in which all of *rates* hold."""
        ...

    async def pause(self, key: str, seconds: float) -> None:
        """Lease nothing of *key* to anybody for *seconds*: the server said so."""
        ...


@runtime_checkable
class UsageStore(Protocol):
    """A quota store that also wants to know when leased units were used, and frees them one period after.

    It bounds the time of its operations itself, and knows what to lease where it cannot ask anybody.
    """

    def landed(self, key: str, units: int, ago: float | None) -> None:
        """Note that *units* that were leased count from *ago* seconds ago at the latest, or (None) were never used."""
        ...
