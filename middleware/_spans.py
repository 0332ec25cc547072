"""Spans and counts by OpenTelemetry: what ``Telemetry`` does where opentelemetry-api is installed."""

from collections.abc import Awaitable, Mapping
from contextlib import nullcontext
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from opentelemetry import metrics, propagate, trace

from apiclient.middleware._call import Call
from apiclient.middleware._ending import ending, error_type
from apiclient.middleware._instruments import Instruments, instruments_of
from apiclient.middleware._readings import Source
from apiclient.middleware.errors import redacted

try:
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation
except ImportError:  # Then there is no instrumentation that could see our calls a second time.
    suppress_http_instrumentation = nullcontext  # type: ignore[assignment, unused-ignore]

_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_UNCOUNTED = frozenset({"wait", "http.attempt"})


def provided() -> bool:
    """Return whether the application has set a provider: the API's own ones drop everything."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return True
    return not type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


class Spans:
    """Makes the spans and counts; see ``Telemetry`` for the arguments."""

    def __init__(self, tracer_provider: Any, meter_provider: Any, endpoints: int) -> None:
        self._tracer = trace.get_tracer("apiclient", tracer_provider=tracer_provider)
        self._instruments = instruments_of(meter_provider, endpoints)

    def __repr__(self) -> str:
        return "Spans()"

    def add(self, source: Source) -> None:
        """Have the gauges read *source*, for as long as it is alive."""
        self._instruments.add(source)

    async def observe(self, call: Call, work: Awaitable[ClientResponse]) -> ClientResponse:
        """Await *work*, which is the whole of *call*, inside an INTERNAL span, and count how it ended."""
        endpoint = self._instruments.counted(call.endpoint)
        span = self._tracer.start_span(
            f"apiclient.call {call.endpoint}",
            kind=trace.SpanKind.INTERNAL,
            attributes={"apiclient.endpoint": call.endpoint, "apiclient.call_id": call.id},
        )
        context = span.get_span_context()
        if context.is_valid:
            call.trace_id = trace.format_trace_id(context.trace_id)
        call.watchers = (*call.watchers, _Counter(self._instruments, endpoint), *_annotating(span))
        response: ClientResponse | None = None
        failure: BaseException | None = None
        with (
            trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False),
            suppress_http_instrumentation(),
        ):
            try:
                response = await work
                return response
            except BaseException as error:
                failure = error
                raise
            finally:
                self._ended(call, span, endpoint, response, failure)
                del failure  # It holds this frame through its traceback.

    def _ended(
        self, call: Call, span: Any, endpoint: str, response: ClientResponse | None, failure: BaseException | None
    ) -> None:
        end = ending(None if response is None else response.status, failure)
        attributes: dict[str, Any] = {"apiclient.endpoint": endpoint, "apiclient.outcome": end.outcome}
        if end.error_type is not None:
            attributes["error.type"] = end.error_type
        self._instruments.call_duration.record(call.time() - call.started, attributes)
        if "limiter" in call.waits:
            self._instruments.limiter_wait.record(call.waits["limiter"], {"apiclient.endpoint": endpoint})
        if span.is_recording():
            told: dict[str, Any] = {"apiclient.outcome": end.outcome, "apiclient.attempts": call.attempts}
            for kind, seconds in call.waits.items():
                told[f"apiclient.wait.{kind}"] = seconds
            if call.stopped is not None:
                told["apiclient.stopped"] = call.stopped
            if end.error_type is not None:
                told["error.type"] = end.error_type
                span.set_status(trace.StatusCode.ERROR)
            span.set_attributes(told)

    async def traced(self, call: Call, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* inside a CLIENT span, and record how long it took."""
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
                carrier: Any = request.headers
                propagator.inject(carrier)
                ended: dict[str, Any] = {}
                try:
                    response = await handler(request)
                except BaseException as error:
                    ended["error.type"] = error_type(error)
                    raise
                else:
                    ended["http.response.status_code"] = response.status
                    if response.status >= 400:
                        ended["error.type"] = str(response.status)
                    return response
                finally:
                    span.set_attributes(ended)
                    if "error.type" in ended:
                        span.set_status(trace.StatusCode.ERROR)
                    attributes |= ended
        finally:
            attributes["url.template"] = self._instruments.counted(call.endpoint).partition(" ")[2] or "_OTHER"
            self._instruments.request_duration.record(call.time() - began, attributes)


class _Counter:
    """Counts the events of a call."""

    __slots__ = ("_endpoint", "_instruments")

    def __init__(self, instruments: "Instruments", endpoint: str) -> None:
        self._instruments = instruments
        self._endpoint = endpoint

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        if event == "http.attempt":
            attributes = {"apiclient.endpoint": self._endpoint}
            if fields["error_type"] is not None:
                attributes["error.type"] = fields["error_type"]
            else:
                attributes["http.response.status_code"] = fields["status"]
            self._instruments.attempts.add(1, attributes)
        elif event not in _UNCOUNTED:
            self._instruments.events.add(1, {"apiclient.endpoint": self._endpoint, "apiclient.event": event})


class _Annotator:
    """Notes what happens to a call on its span: each wait, and each event that is no span itself."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        if event == "wait":
            self._span.add_event(
                "apiclient.wait", {"apiclient.wait.kind": fields["kind"], "apiclient.wait.seconds": fields["seconds"]}
            )
        elif event != "http.attempt":
            told = {name: value for name, value in fields.items() if isinstance(value, str | int | float)}
            self._span.add_event(event, told)


def _annotating(span: Any) -> tuple[_Annotator, ...]:
    return (_Annotator(span),) if span.is_recording() else ()
