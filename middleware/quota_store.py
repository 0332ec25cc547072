"""Where a quota is counted when several processes draw from it."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from apiclient.middleware._parsing.rate import Rate


class Lease(NamedTuple):
    """Units of a quota that one process may use.

    Attributes:
        units: How many; 0 means none now.
        seconds: For so long; what is not used by then is lost, and need not be given back.
        wait: Where there are none: seconds until it is worth asking again.
        news: Whether another process has learned something since ``LessonStore.heard`` was last asked.
    """

    units: int
    seconds: float = 1.0
    wait: float = 0.0
    news: bool = False


class Learned(NamedTuple):
    """A limit that one process learned from the API, as it tells the others.

    Attributes:
        rate: Requests per period.
        fixed: Whether its windows are known to begin with the first request in them.
        exact: Whether the period was stated, rather than guessed.
        counted: None where the API stated the limit. Else it is what this process had let through when the API
            refused more, so many seconds ago: what several processes counted then adds up.
    """

    rate: Rate
    fixed: bool = False
    exact: bool = True
    counted: float | None = None


class Heard(NamedTuple):
    """What the processes told each other about one quota.

    Attributes:
        learned: Its limits.
        pause: Seconds for which the server wants no request, from now.
    """

    learned: tuple[Learned, ...] = ()
    pause: float = 0.0


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


@runtime_checkable
class LessonStore(Protocol):
    """A quota store through which processes also tell each other which limits they have learned."""

    async def teach(self, key: str, learned: tuple[Learned, ...]) -> None:
        """Keep what this process *learned* about *key*, for an hour. What the API stated replaces what was counted."""
        ...

    async def heard(self, key: str) -> Heard:
        """Return what is known about *key* by now."""
        ...

    def spent(self, key: str, rates: tuple[Rate, ...], uses: Iterable[tuple[int, float]]) -> None:
        """Note units that were used without a lease, before there were *rates*: how many, how many seconds ago."""
        ...
