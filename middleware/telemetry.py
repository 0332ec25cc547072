"""OpenTelemetry: one client span per wire request, one internal span per call, and what to count."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._readings import Source

if TYPE_CHECKING:
    from apiclient.middleware._spans import Spans


def _loaded() -> "tuple[type[Spans], Callable[[], bool]] | None":
    try:
        from apiclient.middleware._spans import Spans, provided  # noqa: PLC0415 - its library is an extra
    except ImportError:
        return None
    return Spans, provided


_LOADED = _loaded()


class Telemetry:
    """Describe each wire request, and each call of a pipeline, to OpenTelemetry.

    Innermost, so that each attempt, replay and redirect has a CLIENT span of its own by the HTTP semantic
    conventions, with ``http.request.resend_count`` from the second on, and its own trace context in its headers.
    In a pipeline each logical call also has an INTERNAL span around them, with its waits and events, and is counted.
    The instrumentation of aiohttp by OpenTelemetry is suppressed for an ``ApiClient``'s calls, so that nothing is
    counted twice.

    Args:
        tracer_provider: Makes the spans; None means the global one, once the application has set it.
        meter_provider: Makes the metrics; None means the global one.
        endpoints: Most endpoints that metrics tell apart; those beyond are counted together as ``_OTHER``.

    Raises:
        RuntimeError: opentelemetry-api is not installed (extra ``otel``).
        ValueError: ``endpoints`` is below 1.
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None, endpoints: int = 1000) -> None:
        if _LOADED is None:
            raise RuntimeError("Telemetry needs opentelemetry-api; install apiclient-middleware[otel]")
        if endpoints < 1:
            raise ValueError(f"endpoints must be at least 1, got {endpoints!r}")
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._endpoints = endpoints
        self._sources: WeakSet[Source] = WeakSet()
        self._make, self._provided = _LOADED
        self._spans: Spans | None = None
        self._look_again = float("-inf")

    def __repr__(self) -> str:
        return "Telemetry()"

    @staticmethod
    def available() -> bool:
        """Return whether opentelemetry-api is installed."""
        return _LOADED is not None

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* inside a span."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if self._spans is None and not self.collects(call.time()):
            return await handler(request)
        return await self._reporting().traced(call, request, handler)

    def collects(self, now: float) -> bool:
        """Return whether anybody collects spans or metrics; asked at the time *now* on the loop's clock."""
        if self._spans is not None:
            return True
        # Without a provider a span would cost and tell no one; one may be set at any time, so look once a second.
        if self._look_again - 1.0 <= now < self._look_again:
            return False
        self._look_again = now + 1.0
        if self._tracer_provider is None and self._meter_provider is None and not self._provided():
            return False
        self._reporting()
        return True

    def watch(self, source: Source) -> None:
        """Have the gauges read *source*, which the caller keeps alive for as long as it has something to tell."""
        self._sources.add(source)
        if self._spans is not None:
            self._spans.add(source)

    async def observe(self, call: Call, work: Awaitable[ClientResponse]) -> ClientResponse:
        """Await *work*, which is the whole of *call*, inside a span, and count how it ended."""
        return await self._reporting().observe(call, work)

    def _reporting(self) -> "Spans":
        if self._spans is None:
            self._spans = self._make(self._tracer_provider, self._meter_provider, self._endpoints)
            for source in self._sources:
                self._spans.add(source)
        return self._spans
