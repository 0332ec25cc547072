"""How fast to go where the server's ways are not known: rounds, an even pace, and round trips."""

import math

# One more than what people write as limits, so that the round that goes beyond one is refused once or twice.
_COMMON = (1, 2, 3, 4, 6, 11, 16, 21, 26, 31, 41, 51, 61, 81, 101, 121, 151, 201, 251, 301, 401, 501, 601, 801, 1001)
_COARSE = (1, 3, 6, 11, 21, 51, 76, 101, 151, 201, 301, 501, 801, 1001)
# Round trips up to this long, in seconds, make small steps cheap.
_QUICK = 0.01
# A connection that took this long, in seconds, tells of the network.
_FAR = 0.02


class Ramp:
    """Rounds of growing size, each begun when the last one is answered, so that a refusal comes early and small.

    Args:
        size: Requests in the first round.
        budget: Most seconds that rounds may cost in all; infinite to wait for the answers whatever they take.
        alone: Most seconds to wait for the answer to the very first request, *budget* by default.
        until: Requests after which the ramp has done its work.
        search: Whether the limit is being looked for, so that rounds go one beyond the common ones, or else double.

    Attributes:
        size: Requests in this round.
        out: Requests granted and not over.
        proven: Largest round that met no refusal.
    """

    __slots__ = (
        "_alone", "_began", "_budget", "_hint", "_last", "_reached", "_round", "_search", "_total", "_unsent",
        "out", "proven", "size", "until",
    )  # fmt: skip

    def __init__(
        self,
        size: int = 1,
        *,
        budget: float = math.inf,
        alone: float | None = None,
        until: float = math.inf,
        search: bool = False,
    ) -> None:
        self.size = size
        self._search = search
        self._hint = size if size > 1 else 0
        self.proven = 0
        self._reached = 0
        self._budget = budget
        self._alone = alone
        self.until = until
        self.out = 0
        self._round = 0
        self._total = 0
        self._unsent = 0
        self._began = self._last = -math.inf

    def __repr__(self) -> str:
        return f"Ramp({self._round} of {self.size} gone, {self.out} out)"

    @property
    def over(self) -> bool:
        """Whether it has let through what it was there for."""
        return self._total >= self.until

    def room(self, now: float, patience: float, flights: int) -> float:
        """Return *now* if one more may leave, else when to look again.

        Args:
            now: Seconds.
            patience: Seconds after the last departure of a round after which no refusal is to be expected.
            flights: Requests under way; few beside what has been proven pass freely.
        """
        if self._round < self.size:
            return now
        if self.out == 0:
            # Requests that were far apart prove nothing about a burst.
            self._turn(patience, grow=self._last - self._began <= 1.0 and now - self._last <= 60.0)
            return now
        if flights < self.proven // 16:
            return now
        first = self._total == 1 and self._alone is not None
        budget = self._alone if first and self._alone is not None else self._budget
        until = min(math.inf if self._unsent else self._last + patience, self._began + budget)
        if until > now:
            return until
        if not first:
            self._budget -= now - self._began
        self._turn(patience, grow=True)
        return now

    def take(self, now: float) -> bool:
        """Note that a slot was granted; return whether it belongs to the round."""
        if self._round >= self.size:
            return False
        if self._round == 0:
            self._began = now
        self._last = now
        self._round += 1
        self._total += 1
        self._unsent += 1
        self.out += 1
        return True

    def sent(self, now: float) -> None:
        """Note a departure."""
        self._unsent -= 1
        self._last = now

    def back(self, *, sent: bool) -> None:
        """Note that a slot is over, *sent* or never gone."""
        self.out -= 1
        self._unsent -= not sent

    def _turn(self, patience: float, *, grow: bool) -> None:
        self._round = 0
        if not grow:
            return
        self.proven = max(self.proven, self.size)
        self._reached += self.size
        if self._search and self._reached < _COMMON[-1]:
            if self._reached == self._hint:
                # If a sibling's limit holds here too, one more shows it.
                self.size = 1
            else:
                steps = _COMMON if patience < _QUICK else _COARSE
                self.size = next(step for step in steps if step > self._reached) - self._reached
        else:
            self.size *= 2


class Pace:
    """An even pace with a burst allowance (GCRA), for servers whose bucket is smaller than their limit.

    Args:
        burst: Units that may leave at once.
        interval: Seconds per unit.
    """

    __slots__ = ("_due", "burst", "interval")

    def __init__(self, burst: int, interval: float) -> None:
        self.burst = burst
        self.interval = interval
        self._due = -math.inf

    def __repr__(self) -> str:
        return f"Pace(burst={self.burst}, interval={self.interval:.4g})"

    def room(self, now: float) -> float:
        """Return *now* if a unit may leave, else when it may."""
        return max(now, self._due - (self.burst - 1) * self.interval)

    def take(self, now: float, cost: int) -> None:
        """Note the departure of *cost* units."""
        self._due = max(self._due, now) + cost * self.interval

    def give(self, cost: int) -> None:
        """Take a departure back."""
        self._due -= cost * self.interval

    def hold(self, now: float) -> None:
        """Begin with an empty bucket at *now*."""
        self._due = max(self._due, now + (self.burst - 1) * self.interval)


class RoundTrip:
    """The shortest round trip of late, and the usual excess over it.

    Attributes:
        least: Seconds; infinite before the first.
        excess: Usual seconds beyond *least*.
        count: Round trips so far.
        connect: Seconds from the first grant to its departure: mostly the making of a connection.
    """

    __slots__ = ("_renewed", "_this", "connect", "count", "excess", "least")

    def __init__(self) -> None:
        self.least = math.inf
        self.excess = 0.0
        self.connect = math.inf
        self._this = math.inf
        self.count = 0
        self._renewed = 0

    def __repr__(self) -> str:
        return f"RoundTrip(least={self.least:.4g}, excess={self.excess:.4g})"

    @property
    def patience(self) -> float:
        """Seconds after a departure by which a refusal would have come: it is quicker than a success."""
        network = 1.25 * self.connect + 0.01
        if self.least == math.inf:
            # A connection made at once may be one to a proxy next door.
            return network if self.connect >= _FAR else math.inf
        return min(1.4 * self.least + 0.005, max(network, 0.75 * self.least))

    def note(self, seconds: float) -> None:
        """Learn from one round trip."""
        if seconds < self._this:
            self._this = seconds
            self.least = min(self.least, seconds)
        # One lost packet must not count for all.
        self.excess += 0.1 * (min(seconds - self.least, 4 * self.excess + 0.001) - self.excess)
        self.count += 1
        # A path that became longer is believed after some hundred round trips.
        if self.count >= self._renewed + 512:
            self.least = self._this
            self._this, self._renewed = math.inf, self.count
