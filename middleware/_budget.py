"""How many retries an origin is worth: a share of its calls, and a floor."""

from collections.abc import Callable, Hashable

from apiclient.middleware._keyed import Keyed
from apiclient.middleware._rolling import Rolling

_SLICES = 10


class Budget:
    """The retries that one origin may still have.

    In any *window* the cost of the retries is at most *ratio* times the calls begun in it plus *floor* per second.
    Calls are counted over a little less than the window and retries over a little more, so that the bound is exact in
    every window and not only in aligned ones.

    Attributes:
        call: Counts a call that begins at the time given.
    """

    __slots__ = ("_calls", "_ratio", "_reserve", "_spent", "call")

    def __init__(self, *, ratio: float, window: float, floor: float) -> None:
        self._ratio = ratio
        self._reserve = floor * window
        self._calls = Rolling(window, _SLICES)
        self._spent = Rolling(window * (_SLICES + 1) / _SLICES, _SLICES + 1)
        self.call: Callable[[float], None] = self._calls.add  # A method of its own would be one call more per request.

    def available(self, now: float) -> float:
        """Return the cost that could be withdrawn at *now*; never below 0."""
        return max(0.0, self._reserve + self._ratio * self._calls.sum(now) - self._spent.sum(now))

    def withdraw(self, cost: float, now: float) -> bool:
        """Take *cost* for one retry at *now*, or return False and take nothing."""
        # One part in a billion of slack: 20 % of 50 is ten retries, whatever 0.2 is in binary.
        if cost > self.available(now) + 1e-9:
            return False
        self._spent.add(now, cost)
        return True


class RetryBudget:
    """A bound on retries that all calls to an origin share, so that an outage is not made worse.

    Give the same object to several ``Retry`` instances to make them share it.

    Args:
        ratio: Retries allowed per call, from 0 to 1; 0.2 is what Finagle and Envoy use.
        window: Seconds over which calls and retries are counted.
        floor: Retries per second allowed in addition, so that a client with few calls can retry at all.
        throttle_cost: What a retry after a throttling answer (429) costs, where a retry after an error costs 1.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self, *, ratio: float = 0.2, window: float = 10.0, floor: float = 10.0, throttle_cost: float = 5 / 14
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio must be between 0 and 1, got {ratio!r}")
        if not 0 < window <= 3600:
            raise ValueError(f"window must be above 0 and at most 3600 seconds, got {window!r}")
        if not 0 <= floor <= 1_000_000:
            raise ValueError(f"floor must be between 0 and 1000000 retries per second, got {floor!r}")
        if not 0 <= throttle_cost <= 1:
            raise ValueError(f"throttle_cost must be between 0 and 1, got {throttle_cost!r}")
        self.ratio = ratio
        self.window = window
        self.floor = floor
        self.throttle_cost = throttle_cost
        # The origin asked for last, for a second: nearly always that of the next call too.
        self._last: Hashable = None
        self._again = 0.0
        self._found = Budget(ratio=ratio, window=window, floor=floor)
        self._budgets: Keyed[Hashable, Budget] = Keyed(lambda: Budget(ratio=ratio, window=window, floor=floor))

    def __repr__(self) -> str:
        return f"RetryBudget(ratio={self.ratio:g}, window={self.window:g}, floor={self.floor:g})"

    def remaining(self, now: float) -> dict[str, float]:
        """Return the retries that each origin may still have at the time *now*."""
        return {str(origin): budget.available(now) for origin, budget in self._budgets.items()}

    def of(self, origin: Hashable, now: float) -> Budget:
        """Return the budget of *origin* at the time *now*."""
        if origin == self._last and now < self._again:
            return self._found
        self._last, self._again = origin, now + 1.0
        self._found = self._budgets.get(origin, now)
        return self._found
