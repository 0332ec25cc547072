"""Model servers: how real ones count requests, as pure machines with ``now`` given, and networks to put before them."""

import math
import random as _random
from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol


class Verdict(NamedTuple):
    """What a model server says to one request.

    Attributes:
        accepted: False is a 429.
        remaining: Requests left in the quota after this one.
        reset: Seconds until the quota, or some of it, is back.
        retry_after: Value of Retry-After on a rejection, as the real server would round it, or None.
    """

    accepted: bool
    remaining: int
    reset: float
    retry_after: float | None


class QuotaServer(Protocol):
    """A rate-limiting server as seen by one client.

    Attributes:
        limit: Requests per period, as documented to clients.
        period: Seconds.
        accepted: Requests let through so far.
        rejected: Requests refused so far.
    """

    limit: int
    period: float
    accepted: int
    rejected: int

    def arrive(self, now: float) -> Verdict:
        """Count one request that arrives at *now*; times must not decrease."""
        ...

    def opens(self, now: float) -> float:
        """Return the earliest time, *now* or later, at which a request would be accepted if none came before it."""
        ...


class _Counting:
    """What all models share: the two counters and the rounding of Retry-After."""

    def __init__(self, limit: int, period: float, *, retry_after: bool) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit!r}")
        if not 0 < period < math.inf:
            raise ValueError(f"period must be above 0 and finite, got {period!r}")
        self.limit = limit
        self.period = period
        self.accepted = 0
        self.rejected = 0
        self._states = retry_after

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.limit}/{self.period:g}s, {self.accepted} accepted, {self.rejected} rejected)"
        )

    def _answer(self, *, accepted: bool, remaining: float, reset: float) -> Verdict:
        if accepted:
            self.accepted += 1
        else:
            self.rejected += 1
        stated = float(max(1, math.ceil(reset))) if self._states and not accepted else None
        return Verdict(accepted, max(0, math.floor(remaining + 1e-9)), max(0.0, reset), stated)


class FixedWindow(_Counting):
    """Counts in windows of one period.

    Args:
        limit: Requests per window.
        period: Seconds.
        start: When a window starts: ``request`` at the first request after the last window ended, which itself
            still belongs to it (AspNetCoreRateLimit, express); ``clock`` at whole multiples of the period (Kong,
            Envoy's service); ``timer`` when a heartbeat finds that the period has passed (ASP.NET Core's own).
        heartbeat: Seconds between two looks of the timer.
        phase: Time at which the clock, or the timer, was zero.
        retry_after: Whether rejections carry Retry-After, in whole seconds and at least 1.
    """

    def __init__(
        self,
        limit: int,
        period: float = 1.0,
        *,
        start: Literal["request", "clock", "timer"] = "request",
        heartbeat: float = 0.1,
        phase: float = 0.0,
        retry_after: bool = True,
    ) -> None:
        super().__init__(limit, period, retry_after=retry_after)
        self._start = start
        self._heartbeat = heartbeat
        self._phase = phase
        self._opened = -math.inf
        self._count = 0

    def arrive(self, now: float) -> Verdict:
        """Count one request."""
        self._turn(now)
        accepted = self._count < self.limit
        if accepted:
            self._count += 1
        return self._answer(accepted=accepted, remaining=self.limit - self._count, reset=self._end(now) - now)

    def opens(self, now: float) -> float:
        """Return when the window with room begins."""
        self._turn(now)
        if self._count < self.limit:
            return now
        end = self._end(now)
        return math.nextafter(end, math.inf) if self._start == "request" else end

    def _turn(self, now: float) -> None:
        if self._start == "request":
            if now > self._opened + self.period:
                self._opened, self._count = now, 0
        elif self._start == "clock":
            opened = self._phase + math.floor((now - self._phase) / self.period + 1e-9) * self.period
            if opened > self._opened:
                self._opened, self._count = opened, 0
        else:
            beat = self._beat(now)
            if self._opened == -math.inf:
                self._opened = beat
            while self._opened + self._window() <= beat + 1e-9:
                self._opened, self._count = self._opened + self._window(), 0

    def _window(self) -> float:
        return (math.floor(self.period / self._heartbeat + 1e-9) + 1) * self._heartbeat

    def _beat(self, now: float) -> float:
        return self._phase + math.floor((now - self._phase) / self._heartbeat + 1e-9) * self._heartbeat

    def _end(self, now: float) -> float:
        if self._start == "timer":
            return self._opened + self._window()
        return (now if self._opened == -math.inf else self._opened) + self.period


class SlidingLog(_Counting):
    """Accepts while fewer than *limit* requests arrived in the last period.

    Args:
        limit: Requests in any one period.
        period: Seconds.
        count_rejected: Whether rejected requests enter the log as well, so that hammering locks the client out.
        retry_after: Whether rejections carry Retry-After.
    """

    def __init__(
        self, limit: int, period: float = 1.0, *, count_rejected: bool = False, retry_after: bool = True
    ) -> None:
        super().__init__(limit, period, retry_after=retry_after)
        self._count_rejected = count_rejected
        self._log: deque[float] = deque(maxlen=limit)

    def arrive(self, now: float) -> Verdict:
        """Count one request."""
        log = self._log
        while log and log[0] + self.period <= now:
            log.popleft()
        accepted = len(log) < self.limit
        if accepted or self._count_rejected:
            log.append(now)
        return self._answer(accepted=accepted, remaining=self.limit - len(log), reset=log[0] + self.period - now)

    def opens(self, now: float) -> float:
        """Return when the oldest request leaves the log."""
        return max(now, self._log[0] + self.period) if len(self._log) >= self.limit else now


class SlidingCounter(_Counting):
    """Weighs the last clock-aligned window by the share of it that the sliding period still covers.

    Args:
        limit: Requests in any one period, by that estimate.
        period: Seconds.
        phase: Time at which a window began.
        retry_after: Whether rejections carry Retry-After.
    """

    def __init__(self, limit: int, period: float = 1.0, *, phase: float = 0.0, retry_after: bool = True) -> None:
        super().__init__(limit, period, retry_after=retry_after)
        self._phase = phase
        self._window: int = 0
        self._last: int = 0
        self._count = 0

    def arrive(self, now: float) -> Verdict:
        """Count one request."""
        room = self._room(now)
        accepted = room >= 1 - 1e-9
        if accepted:
            self._count += 1
        return self._answer(accepted=accepted, remaining=room - accepted, reset=self.opens(now) - now)

    def opens(self, now: float) -> float:
        """Return when the estimate has fallen by enough."""
        if self._room(now) >= 1 - 1e-9:
            return now
        begun = self._phase + self._window * self.period
        for last, count in ((self._last, self._count), (self._count, 0)):
            if self.limit - 1 - count >= 0:
                share = max(0.0, 1 - (self.limit - 1 - count) / last) if last else 0.0
                if share <= 1:
                    return max(now, begun + share * self.period)
            begun += self.period
        return begun

    def _room(self, now: float) -> float:
        window = math.floor((now - self._phase) / self.period + 1e-12)
        if window != self._window:
            self._last = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
        covered = (now - self._phase) / self.period - window
        return self.limit - self._count - self._last * (1 - covered)


class TokenBucket(_Counting):
    """A bucket that fills at ``limit / period`` and holds *capacity*; each request takes one.

    Args:
        limit: Requests per period in the long run.
        period: Seconds.
        capacity: Largest burst, *limit* by default.
        retry_after: Whether rejections carry Retry-After.
    """

    def __init__(
        self, limit: int, period: float = 1.0, *, capacity: float | None = None, retry_after: bool = True
    ) -> None:
        super().__init__(limit, period, retry_after=retry_after)
        self._capacity = float(limit) if capacity is None else float(capacity)
        if self._capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity!r}")
        self._tokens = self._capacity
        self._filled = 0.0

    def arrive(self, now: float) -> Verdict:
        """Count one request."""
        self._fill(now)
        accepted = self._tokens >= 1 - 1e-9
        if accepted:
            self._tokens -= 1
        return self._answer(accepted=accepted, remaining=self._tokens, reset=self.opens(now) - now)

    def opens(self, now: float) -> float:
        """Return when a whole token is there."""
        self._fill(now)
        return now + max(0.0, 1 - self._tokens) * self.period / self.limit

    def _fill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._filled) * self.limit / self.period)
        self._filled = now


class LeakyBucket(TokenBucket):
    """nginx's ``limit_req`` with ``nodelay``: evenly spaced requests, and *burst* of them in advance.

    Args:
        limit: Requests per period.
        period: Seconds.
        burst: Requests that may come early; 0 enforces the spacing itself.
        retry_after: Whether rejections carry Retry-After; nginx's do not.
    """

    def __init__(self, limit: int, period: float = 1.0, *, burst: int = 0, retry_after: bool = False) -> None:
        super().__init__(limit, period, capacity=burst + 1, retry_after=retry_after)


class Guard:
    """Remembers arrivals and tells the most that fell into any one period: for tests of a client's promise."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._times: list[float] = []

    def arrive(self, now: float) -> None:
        """Note an arrival; any order."""
        insort(self._times, now)

    def densest(self) -> int:
        """Return the greatest number of arrivals in any half-open interval of one period."""
        most = first = 0
        for last, time in enumerate(self._times):
            while time - self._times[first] >= self._period:
                first += 1
            most = max(most, last - first + 1)
        return most


def least_time(server: QuotaServer, count: int, *, start: float = 0.0) -> float:
    """Return the least seconds in which a fresh *server* can be brought to accept *count* requests.

    Args:
        server: Used up by this: give a fresh one.
        count: Requests, all wanted at *start*.
        start: Time of the first arrival.
    """
    now = start
    for _ in range(count):
        now = server.opens(now)
        while not server.arrive(now).accepted:
            now = math.nextafter(server.opens(now), math.inf) + 1e-9
    return now - start


class Latency:
    """Times that the parts of one request take, in seconds, drawn anew for each.

    Args:
        base: One way through the network, at least.
        jitter: Mean of the exponential part on top of it.
        handler: Median time that the server works on an accepted request, lognormal; 0 for none.
        spread: Sigma of that lognormal.
        loss: Share of packets that are lost and come after *resend* seconds.
        resend: Seconds that a lost packet costs.
        random: Source of chance.
    """

    def __init__(
        self,
        base: float,
        jitter: float,
        *,
        handler: float = 0.0,
        spread: float = 0.5,
        loss: float = 0.0,
        resend: float = 0.2,
        random: _random.Random | None = None,
    ) -> None:
        self.base = base
        self.jitter = jitter
        self.handler = handler
        self.spread = spread
        self.loss = loss
        self.resend = resend
        self._random = random if random is not None else _random.Random(0)  # noqa: S311 - not for secrets

    def __repr__(self) -> str:
        return f"Latency({self.base:g}, {self.jitter:g}, handler={self.handler:g}, loss={self.loss:g})"

    @classmethod
    def lan(cls, random: _random.Random | None = None) -> "Latency":
        """A network of 0.2 ms there and back."""
        return cls(0.0001, 0.00005, random=random)

    @classmethod
    def wan(cls, random: _random.Random | None = None) -> "Latency":
        """20 ms each way and 2 ms of jitter on average."""
        return cls(0.02, 0.002, random=random)

    @classmethod
    def jittery(cls, random: _random.Random | None = None) -> "Latency":
        """20 ms each way, 5 ms of jitter, and one packet in a hundred 200 ms late."""
        return cls(0.02, 0.005, loss=0.01, random=random)

    @classmethod
    def slow(cls, random: _random.Random | None = None) -> "Latency":
        """The wide network before an endpoint that works for 120 ms, give or take."""
        return cls(0.02, 0.002, handler=0.12, random=random)

    def way(self) -> float:
        """Return the time of one way through the network."""
        time = self.base + (self._random.expovariate(1 / self.jitter) if self.jitter else 0.0)
        return time + self.resend if self.loss and self._random.random() < self.loss else time

    def connect(self) -> float:
        """Return the time until a new connection can carry a request."""
        return self.way() + self.way()

    def work(self) -> float:
        """Return the time that the server works on an accepted request."""
        return self.handler * math.exp(self._random.gauss(0.0, self.spread)) if self.handler else 0.0


NETWORKS: dict[str, Callable[[_random.Random | None], Latency]] = {
    "lan": Latency.lan,
    "wan": Latency.wan,
    "jittery": Latency.jittery,
    "slow": Latency.slow,
}
