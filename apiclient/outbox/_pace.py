"""When to try again: an item on a schedule of its own, an endpoint that fails by single probes. Pure."""

from collections.abc import Callable, Collection

from apiclient.middleware._keyed import Keyed

_FIRST_PAUSE = 1.0


class _Lane:
    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0


class Pace:
    """How many items of an endpoint may be under way, and how long a failed one rests.

    An endpoint whose last delivery failed is paused, longer each time; then one item is tried, and its success
    opens the endpoint again for all. So an outage costs a probe now and then, and is over for everybody at once.

    Args:
        concurrency: Items of one endpoint under way at once.
        wait: Seconds before an item's second attempt; doubled before each further one.
        max_wait: Most seconds between two attempts of an item.
        max_pause: Most seconds between two probes of an endpoint.
        random: Draws from [0, 1): a wait is shortened by up to a half.
    """

    def __init__(
        self, *, concurrency: int, wait: float, max_wait: float, max_pause: float, random: Callable[[], float]
    ) -> None:
        self._concurrency = concurrency
        self._wait = wait
        self._max_wait = max_wait
        self._max_pause = max_pause
        self._random = random
        self._lanes: Keyed[str, _Lane] = Keyed(_Lane)

    def __repr__(self) -> str:
        return f"Pace(concurrency={self._concurrency}, {len(self._lanes)} endpoints failing or failed)"

    def rest(self, attempts: int) -> float:
        """Return the seconds for which an item rests after *attempts* attempts."""
        return self._drawn(min(self._max_wait, self._wait * 2.0 ** min(max(0, attempts - 1), 60)))

    def failed(self, endpoint: str, now: float, *, retry_after: float | None = None) -> None:
        """Pause *endpoint*; failures of items that were under way before the pause change nothing."""
        lane = self._lanes.get(endpoint, now)
        if lane.until > now:
            if retry_after is not None:
                lane.until = max(lane.until, now + retry_after)
            return
        pause = self._drawn(min(self._max_pause, _FIRST_PAUSE * 2.0 ** min(lane.failures, 60)))
        lane.failures += 1
        lane.until = now + (pause if retry_after is None else max(pause, retry_after))

    def answered(self, endpoint: str) -> None:
        """Open *endpoint*: it works."""
        self._lanes.pop(endpoint)

    def room(self, endpoint: str, now: float, busy: int) -> int:
        """Return how many more items of *endpoint* may be started when *busy* are under way.

        A little room is none: items are then claimed several at a time.
        """
        lane = self._lanes.peek(endpoint)
        if lane is not None and lane.failures:
            return 0 if lane.until > now or busy else 1
        left = self._concurrency - busy
        return left if 2 * left >= self._concurrency else 0

    def limit(self, busy: dict[str, int], now: float, *, most: int) -> tuple[int, Collection[str]]:
        """Return how many items to claim, and of which endpoints none.

        Whatever endpoints the claimed items turn out to be of, none gets more than it has room for.

        Args:
            busy: Items under way by endpoint.
            now: Time.
            most: Items under way altogether.
        """
        known = busy.keys() | dict(self._lanes.items()).keys()
        rooms = {endpoint: self.room(endpoint, now, busy.get(endpoint, 0)) for endpoint in known}
        skip = [endpoint for endpoint, room in rooms.items() if room == 0]
        fewest = min((room for room in rooms.values() if room), default=self._concurrency)
        return min(fewest, most - sum(busy.values())), skip

    def next_probe(self, now: float) -> float:
        """Return the seconds until the first paused endpoint may be tried; infinite where none is paused."""
        return min((lane.until - now for _, lane in self._lanes.items() if lane.until > now), default=float("inf"))

    def _drawn(self, seconds: float) -> float:
        return seconds * (0.5 + 0.5 * self._random())
