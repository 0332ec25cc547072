"""The metrics, once per meter provider: of two gauges of one name the second would never be read."""

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from apiclient.middleware._readings import GAUGES, Gauge, Source, merged

# The HTTP semantic conventions' bucket boundaries for http.client.request.duration, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# A call also waits, for instance for a quota of so many per minute.
LONG_BUCKETS = (*BUCKETS, 30, 60, 300)


class Instruments:
    """All metrics of one meter provider, for every client that reports to it.

    Args:
        meter: Makes them.
        endpoints: Most endpoints that are told apart.

    Attributes:
        request_duration: Seconds of one wire request.
        call_duration: Seconds of one call.
        limiter_wait: Seconds that one call waited for its quotas.
        attempts: Wire requests.
        events: Events of calls.
    """

    def __init__(self, meter: Any, endpoints: int) -> None:
        self._most = endpoints
        self._endpoints: set[str] = set()
        self.request_duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.call_duration = meter.create_histogram(
            "apiclient.call.duration",
            unit="s",
            description="Duration of calls, their waits and attempts included",
            explicit_bucket_boundaries_advisory=LONG_BUCKETS,
        )
        self.limiter_wait = meter.create_histogram(
            "apiclient.ratelimit.wait",
            unit="s",
            description="Time that a call waited for its quotas",
            explicit_bucket_boundaries_advisory=LONG_BUCKETS,
        )
        self.attempts = meter.create_counter("apiclient.attempts", unit="{attempt}", description="Wire requests")
        self.events = meter.create_counter("apiclient.events", unit="{event}", description="Events of calls")
        self._sources: WeakSet[Source] = WeakSet()
        for gauge in GAUGES:
            make = meter.create_observable_counter if gauge.counter else meter.create_observable_gauge
            make(gauge.name, callbacks=[self._reader(gauge)], unit=gauge.unit, description=gauge.description)

    def add(self, source: Source) -> None:
        """Read *source* for as long as it is alive."""
        self._sources.add(source)

    def counted(self, endpoint: str) -> str:
        """Return *endpoint* as metrics name it: paths that nobody registered must not make series without end."""
        if endpoint in self._endpoints:
            return endpoint
        if len(self._endpoints) >= self._most:
            return "_OTHER"
        self._endpoints.add(endpoint)
        return endpoint

    def _reader(self, gauge: Gauge) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def read(_: CallbackOptions) -> Iterator[Observation]:
            readings = [reading for source in list(self._sources) for reading in source.read()]
            for key, value in merged(gauge, readings, self.counted).items():
                yield Observation(value, dict(key))

        return read


_GLOBAL: list[Instruments] = []
_KNOWN: WeakKeyDictionary[Any, Instruments] = WeakKeyDictionary()


def instruments_of(provider: Any, endpoints: int) -> Instruments:
    """Return the instruments of *provider*, made at the first question.

    Args:
        provider: A meter provider, or None for the global one, whatever the application sets it to and when.
        endpoints: Most endpoints that are told apart; who asks first decides.
    """
    if provider is None:
        if not _GLOBAL:
            _GLOBAL.append(Instruments(metrics.get_meter("apiclient"), endpoints))
        return _GLOBAL[0]
    known = _KNOWN.get(provider)
    if known is None:
        known = _KNOWN[provider] = Instruments(provider.get_meter("apiclient"), endpoints)
    return known
