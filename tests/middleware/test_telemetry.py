from collections.abc import Iterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from apiclient import ApiClient, errors
from apiclient.middleware import Retry, Telemetry
from tests.conftest import Peer


class Seen:
    """A collector in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def durations(self) -> list[HistogramDataPoint]:
        data = self.reader.get_metrics_data()
        assert data is not None
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        assert (metric.name, metric.unit) == ("http.client.request.duration", "s")
        return cast("list[HistogramDataPoint]", list(metric.data.data_points))


@pytest.fixture
def seen() -> Iterator[Seen]:
    collector = Seen()
    yield collector
    collector.tracers.shutdown()
    collector.meters.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    assert span.attributes is not None
    return dict(span.attributes)


async def test_one_client_span_per_wire_request(peer: Peer, seen: Seen) -> None:
    """Three attempts are three spans, resends numbered, each with a trace context of its own on the wire."""
    peer.answers(503, 500, 200)
    async with ApiClient(peer.url) as client:
        pipeline = client.pipeline.without(Telemetry)
        pipeline = type(pipeline)([*pipeline, seen.telemetry])
        await client.get("/things/{id}", path_params={"id": 7}, params={"key": "canary"}, pipeline=pipeline)
    assert [span.kind for span in seen.spans] == [SpanKind.CLIENT] * 3
    assert [attributes(span).get("http.request.resend_count") for span in seen.spans] == [None, 1, 2]
    assert len({headers["traceparent"] for headers in peer.headers}) == 3
    last = attributes(seen.spans[2])
    assert last["http.request.method"] == "GET"
    assert last["url.template"] == "/things/{id}"
    assert last["http.response.status_code"] == 200
    assert "error.type" not in last
    first = seen.spans[0]
    assert attributes(first)["error.type"] == "503"
    assert first.status.status_code is StatusCode.ERROR
    assert first.name == "GET /things/{id}"
    assert "canary" not in str([attributes(span) for span in seen.spans])


async def test_durations_have_the_conventions_buckets(peer: Peer, seen: Seen) -> None:
    """One duration per wire request, split by outcome and not by URL."""
    peer.answers(503, 200)
    async with aiohttp.ClientSession(middlewares=(Retry(), seen.telemetry)) as session:
        (await session.get(peer.url + "/a/1")).release()
    points = seen.durations()
    assert {dict(point.attributes or {})["http.response.status_code"] for point in points} == {200, 503}
    assert points[0].explicit_bounds[:3] == (0.005, 0.01, 0.025)
    assert not any("url.full" in dict(point.attributes or {}) for point in points)


async def test_a_broken_attempt_names_its_error(peer: Peer, seen: Seen) -> None:
    """A transport error is error.type, and passes on unchanged."""

    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    peer.handler = drop
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.TransportError):
            await client.post("/x", pipeline=type(client.pipeline)([seen.telemetry]))
    (span,) = seen.spans
    assert attributes(span)["error.type"] == "ServerDisconnectedError"
    assert span.status.status_code is StatusCode.ERROR


async def test_without_a_provider_nothing_is_made(peer: Peer) -> None:
    """Where nobody collects, no trace context goes out."""
    async with aiohttp.ClientSession(middlewares=(Telemetry(),)) as session:
        (await session.get(peer.url)).release()
    assert "traceparent" not in peer.headers[0]
    assert repr(Telemetry()) == "Telemetry()"


def test_without_the_api_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("apiclient.middleware.telemetry._AVAILABLE", False)
    assert not Telemetry.available()
    with pytest.raises(RuntimeError, match=r"\[otel\]"):
        Telemetry()
