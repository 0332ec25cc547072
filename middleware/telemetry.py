"""One OpenTelemetry client span and one duration per wire request."""

from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware.errors import redacted

try:
    from opentelemetry import metrics, propagate, trace
except ImportError:  # the extra `otel` is not installed
    _AVAILABLE = False
else:
    _AVAILABLE = True

# The HTTP semantic conventions' bucket boundaries for http.client.request.duration, in seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})


class Telemetry:
    """Describe each wire request by OpenTelemetry's HTTP semantic conventions.

    Innermost, so that each attempt, replay and redirect has a span of its own, with
    ``http.request.resend_count`` from the second on, and its own trace context in its headers.

    Args:
        tracer_provider: Makes the spans; None means the global one, once the application has set it.
        meter_provider: Makes the durations; None means the global one.

    Raises:
        RuntimeError: opentelemetry-api is not installed (extra ``otel``).
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        if not _AVAILABLE:
            raise RuntimeError("Telemetry needs opentelemetry-api; install apiclient-middleware[otel]")
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._tracer: Any = None
        self._duration: Any = None
        self._look_again = float("-inf")

    def __repr__(self) -> str:
        return "Telemetry()"

    @staticmethod
    def available() -> bool:
        """Return whether opentelemetry-api is installed."""
        return _AVAILABLE

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* inside a span."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if self._tracer is None and not self._collected(call.time()):
            return await handler(request)
        return await self._traced(call, request, handler)

    def _collected(self, now: float) -> bool:
        # Without a provider a span would cost and tell no one; one may be set at any time, so look once a second.
        if now < self._look_again:
            return False
        self._look_again = now + 1.0
        return self._tracer_provider is not None or not isinstance(
            trace.get_tracer_provider(), trace.ProxyTracerProvider
        )

    async def _traced(self, call: Call, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if self._tracer is None:
            self._tracer = trace.get_tracer("apiclient", tracer_provider=self._tracer_provider)
            self._duration = metrics.get_meter("apiclient", meter_provider=self._meter_provider).create_histogram(
                "http.client.request.duration",
                unit="s",
                description="Duration of HTTP client requests",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            )
        method = request.method if request.method in _KNOWN_METHODS else "_OTHER"
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": request.url.host,
            "server.port": request.url.port,
        }
        resends = call.attempts - 1 if call.bare else call.wire
        template = call.endpoint.partition(" ")[2]
        began = call.time()
        span = self._tracer.start_span(
            f"{method} {template}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes
            | {"url.full": redacted(request.url), "url.template": template}
            | ({"http.request.resend_count": resends} if resends > 0 else {}),
        )
        try:
            with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                propagator = propagate.get_global_textmap()
                for field in propagator.fields:
                    request.headers.pop(field, None)
                propagator.inject(request.headers)
                try:
                    response = await handler(request)
                except BaseException as error:
                    attributes["error.type"] = type(error).__name__
                    raise
                else:
                    attributes["http.response.status_code"] = response.status
                    if response.status >= 400:
                        attributes["error.type"] = str(response.status)
                    return response
                finally:
                    span.set_attributes(attributes)
                    if "error.type" in attributes:
                        span.set_status(trace.StatusCode.ERROR)
        finally:
            self._duration.record(call.time() - began, attributes)
