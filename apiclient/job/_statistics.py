"""What a batch did, in a size that does not grow with it; two of them can be added."""

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from apiclient._batch_model import BatchResult
from apiclient._jsonl import error_of
from apiclient.job._histogram import Histogram

VERSION = 1
OTHER = "(others)"
_MOST_ENDPOINTS = 40
_MOST_ERRORS = 50
_MOST_STEPS = 600
_MOST_EVENTS = 500
_SLOWEST = 12
_NONE = "none"
WAITS = ("held", "queue", "limiter", "token", "backoff")


class Endpoint:
    """The figures of one endpoint."""

    __slots__ = ("calls", "failed", "latency", "rates", "rejected", "wire")

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.wire = 0
        self.rejected = 0
        self.rates: tuple[tuple[int, float], ...] = ()
        self.latency = Histogram()

    def merge(self, other: "Endpoint") -> None:
        """Add the figures of *other*."""
        self.calls += other.calls
        self.failed += other.failed
        self.wire += other.wire
        self.rejected += other.rejected
        self.rates = self.rates or other.rates
        self.latency.merge(other.latency)

    def data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "wire": self.wire,
            "rejected": self.rejected,
            "rates": [list(rate) for rate in self.rates],
            "latency": self.latency.data(),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return what *data*, of ``data()``, describes."""
        endpoint = cls()
        endpoint.calls, endpoint.failed = int(data["calls"]), int(data["failed"])
        endpoint.wire, endpoint.rejected = int(data["wire"]), int(data["rejected"])
        endpoint.rates = tuple((int(limit), float(period)) for limit, period in data["rates"])
        endpoint.latency = Histogram.of(data["latency"])
        return endpoint


class Statistics:
    """Counts, distributions, and a course over time.

    Args:
        began: Unix seconds.

    Attributes:
        width: Seconds of a step of the course; doubled whenever there are too many of them.
        course: By step (Unix seconds over ``width``): what ended in it, by name. Names of endpoints count the wire
            requests of the calls that ended, ``#calls`` these calls, ``#again``, ``#429``, ``#token`` and ``#failed``
            what they say.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = began
        self.calls = 0
        self.ok = 0
        self.wire = 0
        self.again = 0
        self.rejected = 0
        self.received = 0
        self.statuses: Counter[int | None] = Counter()
        self.errors: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.attempt_latency = Histogram()
        self.waits: dict[str, Histogram] = {}
        self.width = 1
        self.course: dict[int, Counter[str]] = {}
        self.slowest: list[tuple[float, str, dict[str, Any]]] = []
        self.events: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"<Statistics {self.calls} calls, {self.wire} wire requests>"

    @property
    def call_latency(self) -> Histogram:
        """How long calls took, waits included."""
        latency = Histogram()
        for endpoint in self.endpoints.values():
            latency.merge(endpoint.latency)
        return latency

    @property
    def failed(self) -> int:
        """Calls that ended in an error."""
        return self.calls - self.ok

    @property
    def seconds(self) -> float:
        """From the beginning to the last result."""
        return max(0.0, self.ended - self.began)

    @property
    def amplification(self) -> float:
        """Wire requests per call."""
        return self.wire / self.calls if self.calls else 0.0

    def add(self, result: BatchResult, key: str, now: float) -> None:
        """Count *result*, of the request with the id *key*, that ended at *now* (Unix seconds)."""
        attempts, duration = result.attempts, result.duration
        self.calls += 1
        self.ended = now
        self.wire += attempts
        self.received += len(result.body)
        if attempts:
            self.attempt_latency.add(result.network / attempts, attempts)
        name = result.endpoint
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            name, endpoint = self.endpoint(name)
        endpoint.calls += 1
        endpoint.wire += attempts
        endpoint.latency.add(duration)
        step = self._step(now)
        step["#calls"] += 1
        step[name] += attempts
        if result.ok:
            self.ok += 1
        else:
            endpoint.failed += 1
            step["#failed"] += 1
            self._fail(result, key)
        self.statuses[result.status] += 1
        if attempts > 1:
            self.again += attempts - 1
            step["#again"] += attempts - 1
        if result.trail:
            rejected = sum(attempt.status == 429 for attempt in result.trail)
            self.rejected += rejected
            endpoint.rejected += rejected
            step["#429"] += rejected
        for kind, seconds in result.waits.items():
            self._waited(kind, seconds)
            if kind == "token":
                step["#token"] += 1
        if result.held > 0:
            self._waited("held", result.held)
        if len(self.slowest) < _SLOWEST or duration > self.slowest[0][0]:
            self._slow(result, key)

    def endpoint(self, name: str) -> tuple[str, Endpoint]:
        """Return the figures of the endpoint *name*, or those of the others once there are many."""
        if name not in self.endpoints and len(self.endpoints) >= _MOST_ENDPOINTS:
            name = OTHER
        return name, self.endpoints.setdefault(name, Endpoint())

    def event(self, now: float, text: str) -> None:
        """Note that something happened at *now* (Unix seconds)."""
        if len(self.events) < _MOST_EVENTS:
            self.events.append((now, text))

    def rate(self, now: float, seconds: float = 10.0) -> float:
        """Return the results per second of the last *seconds*."""
        first = int((now - seconds) // self.width)
        ended = sum(step["#calls"] for place, step in self.course.items() if place > first)
        since = max(self.began, (first + 1) * self.width)
        return ended / max(now - since, 0.001)

    def merge(self, other: "Statistics") -> None:
        """Add what *other*, of another shard or another run, holds."""
        self.began, self.ended = min(self.began, other.began), max(self.ended, other.ended)
        for name in ("calls", "ok", "wire", "again", "rejected", "received"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.statuses += other.statuses
        for name, known in other.errors.items():
            mine = self.errors.setdefault(name, {**known, "count": 0})
            mine["count"] += known["count"]
        for name, endpoint in other.endpoints.items():
            self.endpoint(name)[1].merge(endpoint)
        self.attempt_latency.merge(other.attempt_latency)
        for kind, histogram in other.waits.items():
            self.waits.setdefault(kind, Histogram()).merge(histogram)
        while self.width < other.width:
            self._coarsen()
        ratio = self.width // other.width
        for place, step in other.course.items():
            self.course.setdefault(place // ratio, Counter()).update(step)
        while len(self.course) > _MOST_STEPS:
            self._coarsen()
        self.slowest = heapq.nlargest(_SLOWEST, [*self.slowest, *other.slowest])
        heapq.heapify(self.slowest)
        self.events = sorted([*self.events, *other.events])[:_MOST_EVENTS]

    def data(self) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold."""
        seconds = self.seconds
        return {
            "version": VERSION,
            "began": round(self.began, 3),
            "ended": round(self.ended, 3),
            "seconds": round(seconds, 3),
            "calls": self.calls,
            "ok": self.ok,
            "failed": self.failed,
            "wire": self.wire,
            "again": self.again,
            "rejected": self.rejected,
            "received": self.received,
            "throughput": round(self.calls / seconds, 3) if seconds else 0.0,
            "amplification": round(self.amplification, 4),
            "statuses": {_status(status): number for status, number in self.statuses.items()},
            "errors": self.errors,
            "endpoints": {name: endpoint.data() for name, endpoint in self.endpoints.items()},
            "call_latency": self.call_latency.data(),
            "attempt_latency": self.attempt_latency.data(),
            "waits": {kind: histogram.data() for kind, histogram in self.waits.items()},
            "width": self.width,
            "course": {str(place): dict(step) for place, step in self.course.items()},
            "slowest": [list(entry) for entry in sorted(self.slowest, reverse=True)],
            "events": [list(event) for event in self.events],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return what *data*, of ``data()``, describes.

        Raises:
            ValueError: It is none.
        """
        try:
            if data["version"] != VERSION:
                raise ValueError(f"version must be {VERSION}, got {data['version']!r}")
            statistics = cls(float(data["began"]))
            statistics.ended = float(data["ended"])
            for name in ("calls", "ok", "wire", "again", "rejected", "received", "width"):
                setattr(statistics, name, int(data[name]))
            statistics.statuses = Counter(
                {None if name == _NONE else int(name): int(number) for name, number in data["statuses"].items()}
            )
            statistics.errors = {str(name): dict(error) for name, error in data["errors"].items()}
            statistics.endpoints = {str(name): Endpoint.of(each) for name, each in data["endpoints"].items()}
            statistics.attempt_latency = Histogram.of(data["attempt_latency"])
            statistics.waits = {str(kind): Histogram.of(each) for kind, each in data["waits"].items()}
            statistics.course = {int(place): Counter(step) for place, step in data["course"].items()}
            statistics.slowest = [(float(seconds), str(key), dict(rest)) for seconds, key, rest in data["slowest"]]
            heapq.heapify(statistics.slowest)
            statistics.events = [(float(at), str(text)) for at, text in data["events"]]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not a summary of apiclient batch ({type(error).__name__}: {error})") from error
        return statistics

    def _fail(self, result: BatchResult, key: str) -> None:
        name = type(result.error).__name__ if result.error is not None else str(result.status)
        known = self.errors.get(name)
        if known is None:
            if len(self.errors) >= _MOST_ERRORS:
                return
            told = {"message": str(result.status)} if result.error is None else error_of(result.error)
            known = self.errors[name] = {
                "count": 0,
                "message": str(told["message"])[:300],
                "hint": told.get("hint", ""),
                "example": key[:100],
            }
        known["count"] += 1

    def _waited(self, kind: str, seconds: float) -> None:
        histogram = self.waits.get(kind)
        if histogram is None:
            histogram = self.waits[kind] = Histogram()
        histogram.add(seconds)

    def _slow(self, result: BatchResult, key: str) -> None:
        entry = (
            result.duration,
            key[:100],
            {
                "endpoint": result.endpoint,
                "status": result.status,
                "attempts": result.attempts,
                "network": round(result.network, 6),
                "waits": {kind: round(seconds, 6) for kind, seconds in result.waits.items()},
            },
        )
        if any(kept[:2] == entry[:2] for kept in self.slowest):
            return
        if len(self.slowest) < _SLOWEST:
            heapq.heappush(self.slowest, entry)
        else:
            heapq.heappushpop(self.slowest, entry)

    def _step(self, now: float) -> Counter[str]:
        place = int(now // self.width)
        step = self.course.get(place)
        if step is None:
            step = self.course[place] = Counter()
            if len(self.course) > _MOST_STEPS:
                self._coarsen()
                step = self.course[int(now // self.width)]
        return step

    def _coarsen(self) -> None:
        self.width *= 2
        coarse: dict[int, Counter[str]] = {}
        for place, step in self.course.items():
            coarse.setdefault(place // 2, Counter()).update(step)
        self.course = coarse


def _status(status: int | None) -> str:
    return _NONE if status is None else str(status)
