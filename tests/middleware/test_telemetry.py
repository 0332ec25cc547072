import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import SpanKind, StatusCode

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import ClientCredentials
from apiclient.middleware import AttemptTimeout, RateLimit, Retry, Telemetry
from apiclient.sandbox import Sandbox
from tests.collector import Collector, attributes, context_of
from tests.conftest import Peer


@pytest.fixture
def seen() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def client_of(peer: Peer, seen: Collector, **options: Any) -> ApiClient:
    """Return a client of the default pipeline that reports to *seen*."""
    return ApiClient(peer.url, pipeline=seen.into(ApiClient(peer.url).pipeline), **options)


async def test_one_client_span_per_wire_request(peer: Peer, seen: Collector) -> None:
    """Three attempts are three spans, resends numbered, each with a trace context of its own on the wire."""
    peer.answers(503, 500, 200)
    async with client_of(peer, seen) as client:
        await client.get("/things/{id}", path_params={"id": 7}, params={"key": "canary"})
    spans = seen.spans(SpanKind.CLIENT)
    assert [attributes(span).get("http.request.resend_count") for span in spans] == [None, 1, 2]
    assert [headers["traceparent"].split("-")[2] for headers in peer.headers] == [
        trace.format_span_id(context_of(span).span_id) for span in spans
    ]
    last = attributes(spans[2])
    assert last["http.request.method"] == "GET"
    assert last["url.template"] == "/things/{id}"
    assert last["http.response.status_code"] == 200
    assert "error.type" not in last
    assert attributes(spans[0])["error.type"] == "503"
    assert spans[0].status.status_code is StatusCode.ERROR
    assert spans[0].name == "GET /things/{id}"
    assert "canary" not in str([span.to_json() for span in seen.spans()])


async def test_the_call_is_an_internal_span_around_them(peer: Peer, seen: Collector) -> None:
    """One INTERNAL span without HTTP semantics: the parent of each attempt, with waits and retries as events."""
    peer.answers(503, 200)
    async with client_of(peer, seen) as client:
        await client.get("/things/{id}", path_params={"id": 7})
    (outer,) = seen.spans(SpanKind.INTERNAL)
    assert outer.name == "apiclient.call GET /things/{id}"
    context = context_of(outer)
    assert [span.parent and span.parent.span_id for span in seen.spans(SpanKind.CLIENT)] == [context.span_id] * 2
    told = attributes(outer)
    assert not [name for name in told if name.startswith(("http.", "url.", "server."))]
    assert (told["apiclient.outcome"], told["apiclient.attempts"]) == ("ok", 2)
    assert told["apiclient.wait.backoff"] >= 0
    assert [event.name for event in outer.events] == ["http.retry", "apiclient.wait"]
    waited = dict(outer.events[1].attributes or {})
    assert waited["apiclient.wait.kind"] == "backoff"


@pytest.mark.looptime
async def test_a_refresh_stays_inside_of_its_call(seen: Collector) -> None:
    """A 401 and the resend with a new token are two CLIENT spans of one INTERNAL span; the refresh is counted."""
    async with Sandbox() as sandbox:
        credentials = ClientCredentials(token_url=sandbox.token_url, client_id="demo", client_secret="demo-secret")
        pipeline = seen.into(ApiClient(sandbox.api_url, credentials=credentials).pipeline)
        async with ApiClient(sandbox.api_url, pipeline=pipeline) as client:
            await client.get("/ping")
            sandbox.revoke_tokens()
            await client.get("/ping")
            assert client.stats().tokens[0].refreshes["issued"] == 2
            points = seen.points("apiclient.auth.refresh")
    outer = seen.spans(SpanKind.INTERNAL)
    inner = seen.spans(SpanKind.CLIENT)
    assert len(outer) == 2
    assert [attributes(span)["http.response.status_code"] for span in inner] == [200, 401, 200]
    assert [attributes(span).get("http.request.resend_count") for span in inner] == [None, None, 1]
    assert "auth.rejected" in [event.name for event in outer[1].events]
    assert ({"apiclient.result": "issued"}, 2) in points


async def test_a_redirect_is_a_resend_of_the_same_call(peer: Peer, seen: Collector) -> None:
    """Two hops: two CLIENT spans, the second numbered, in one INTERNAL span."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302 if request.path == "/start" else 200, headers={"Location": "/end"})

    peer.handler = handler
    async with client_of(peer, seen) as client:
        await client.get("/start")
    assert [attributes(span).get("http.request.resend_count") for span in seen.spans(SpanKind.CLIENT)] == [None, 1]
    assert len(seen.spans(SpanKind.INTERNAL)) == 1


async def test_a_cancelled_attempt_ends_its_spans(peer: Peer, seen: Collector) -> None:
    """What a hedge or a timeout of the caller's breaks off is ended, as an error of the class CancelledError."""
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(30)
        return web.Response()

    peer.handler = handler
    async with client_of(peer, seen) as client:
        task = asyncio.create_task(client.get("/x"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [attributes(span)["error.type"] for span in seen.spans()] == ["CancelledError"] * 2
    assert seen.points("apiclient.call.duration")[0][0]["apiclient.outcome"] == "cancelled"


async def test_durations_have_the_conventions_buckets(peer: Peer, seen: Collector) -> None:
    """One duration per wire request, split by outcome and not by URL."""
    peer.answers(503, 200)
    async with aiohttp.ClientSession(middlewares=(Retry(), seen.telemetry)) as session:
        (await session.get(peer.url + "/a/1")).release()
    metric = seen.metrics()["http.client.request.duration"]
    points = cast("list[HistogramDataPoint]", list(metric.data.data_points))
    assert metric.unit == "s"
    assert [dict(point.attributes or {})["http.response.status_code"] for point in points] == [503, 200]
    assert points[0].explicit_bounds == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert not any("url.full" in dict(point.attributes or {}) for point in points)


async def test_calls_attempts_and_events_are_counted(peer: Peer, seen: Collector) -> None:
    """A call of two attempts is one call, two attempts by their outcome, and one retry."""
    peer.answers(503, 200)
    async with client_of(peer, seen) as client:
        await client.get("/things/{id}", path_params={"id": 7})
    endpoint = {"apiclient.endpoint": "GET /things/{id}"}
    assert seen.points("apiclient.call.duration") == [({**endpoint, "apiclient.outcome": "ok"}, 1)]
    assert seen.points("apiclient.attempts") == [
        ({**endpoint, "http.response.status_code": 503}, 1),
        ({**endpoint, "http.response.status_code": 200}, 1),
    ]
    assert seen.points("apiclient.events") == [({**endpoint, "apiclient.event": "http.retry"}, 1)]


@pytest.mark.looptime
async def test_the_gauges_tell_how_the_client_stands(peer: Peer, seen: Collector) -> None:
    """Rates, budget and circuit of what was used, read when somebody collects."""
    pipeline = seen.into(ApiClient(peer.url).pipeline.replace(RateLimit, RateLimit(default="5/1s")))
    async with ApiClient(peer.url, pipeline=pipeline) as client:
        for _ in range(7):
            await client.get("/a/{id}", path_params={"id": 1})
        assert seen.points("apiclient.ratelimit.wait")[0][1] == 1
        at = {"apiclient.origin": peer.url}
        labels = {**at, "apiclient.endpoint": "GET /a/{id}", "apiclient.ratelimit.period": "1s"}
        assert seen.points("apiclient.ratelimit.learned") == [(labels, 5.0)]
        assert seen.points("apiclient.breaker.state") == [(at, 0)]
        ((where, left),) = seen.points("apiclient.retry.budget.remaining")
        assert where == at
        assert left > 100
        assert seen.points("apiclient.batch.running") == [({}, 0)]
    assert seen.points("apiclient.breaker.state") == []


async def test_an_exporters_thread_reads_the_gauges(peer: Peer, seen: Collector) -> None:
    """Collected in another thread, the values are read in the loop's."""
    async with client_of(peer, seen) as client:
        await client.get("/a")
        points = await asyncio.to_thread(seen.points, "apiclient.breaker.state")
    assert points == [({"apiclient.origin": peer.url}, 0)]


async def test_a_client_that_is_gone_is_not_kept(peer: Peer, seen: Collector) -> None:
    """A provider lives as long as the process: no client lives on in it."""
    client = client_of(peer, seen)
    await client.get("/a")
    await client.aclose()
    gone: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client.watch)]
    del client
    gc.collect()
    assert [each() for each in gone] == [None, None]


async def test_the_number_of_series_is_bounded(peer: Peer) -> None:
    """Paths that nobody registered are counted together beyond the limit."""
    seen = Collector(endpoints=2)
    async with client_of(peer, seen) as client:
        for name in ("a", "b", "c", "d"):
            await client.get(f"/{name}")
    told = {each["apiclient.endpoint"]: count for each, count in seen.points("apiclient.call.duration")}
    assert told == {"GET /a": 1, "GET /b": 1, "_OTHER": 2}
    assert {each["url.template"] for each, _ in seen.points("http.client.request.duration")} == {"/a", "/b", "_OTHER"}
    assert {each.get("apiclient.endpoint") for each, _ in seen.points("apiclient.attempts")} == set(told)
    seen.close()


async def test_a_broken_attempt_names_its_error(peer: Peer, seen: Collector) -> None:
    """A transport error is error.type, and passes on unchanged."""

    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    peer.handler = drop
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.TransportError):
            await client.post("/x", pipeline=Pipeline([seen.telemetry]))
    (span,) = seen.spans(SpanKind.CLIENT)
    assert attributes(span)["error.type"] == "ServerDisconnectedError"
    assert span.status.status_code is StatusCode.ERROR
    (outer,) = seen.spans(SpanKind.INTERNAL)
    assert attributes(outer)["error.type"] == "TransportOutcomeUnknown"
    assert attributes(outer)["apiclient.outcome"] == "failed"


async def test_a_pipeline_on_a_bare_session_has_the_internal_span_too(peer: Peer, seen: Collector) -> None:
    """A library that takes a session gains it: one INTERNAL span around its attempts."""
    peer.answers(503, 200)
    async with aiohttp.ClientSession(middlewares=(Pipeline([Retry(), seen.telemetry]),)) as session:
        (await session.get(peer.url + "/a/1")).release()
    assert [span.kind for span in seen.spans()] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.INTERNAL]


@pytest.fixture
def instrumented(seen: Collector) -> Iterator[Collector]:
    """OpenTelemetry's instrumentation of aiohttp, reporting to a collector of its own."""
    theirs = Collector()
    AioHttpClientInstrumentor().instrument(tracer_provider=theirs.tracers, meter_provider=theirs.meters)
    yield theirs
    AioHttpClientInstrumentor().uninstrument()
    theirs.close()


async def test_the_instrumentation_of_aiohttp_does_not_count_our_calls_again(
    peer: Peer, seen: Collector, instrumented: Collector
) -> None:
    """With both installed, a call is reported once, by us; another session is still theirs to report."""
    peer.answers(503, 200)
    async with client_of(peer, seen) as client:
        await client.get("/a")
    assert len(seen.spans(SpanKind.CLIENT)) == 2
    assert instrumented.spans() == []
    assert instrumented.metrics() == {}
    async with aiohttp.ClientSession() as session:
        (await session.get(peer.url)).release()
    assert len(instrumented.spans()) == 1


async def test_where_ours_is_left_out_theirs_reports(peer: Peer, seen: Collector, instrumented: Collector) -> None:
    """A pipeline without Telemetry suppresses nothing."""
    async with ApiClient(peer.url, pipeline=ApiClient(peer.url).pipeline.without(Telemetry)) as client:
        await client.get("/a")
    assert seen.spans() == []
    assert len(instrumented.spans()) == 1


async def test_the_trace_is_in_the_log(peer: Peer, seen: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """From a log line one finds the trace."""
    with caplog.at_level("INFO", "apiclient"):
        async with client_of(peer, seen) as client:
            await client.get("/a")
    (record,) = [each for each in caplog.records if each.message == "http.call"]
    (outer,) = seen.spans(SpanKind.INTERNAL)
    assert vars(record)["otel_trace_id"] == trace.format_trace_id(context_of(outer).trace_id)


async def test_without_a_provider_nothing_is_made(peer: Peer) -> None:
    """Where nobody collects, no trace context goes out, and it is asked again once a second at most."""
    telemetry = Telemetry()
    async with aiohttp.ClientSession(middlewares=(telemetry,)) as session:
        (await session.get(peer.url)).release()
    assert "traceparent" not in peer.headers[0]
    assert not telemetry.collects(asyncio.get_running_loop().time() + 60)
    assert repr(Telemetry()) == "Telemetry()"


async def test_metrics_alone_are_enough(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    """An application that sets only a meter provider gets the metrics."""
    asked: list[str] = []

    class Provider(MeterProvider):
        def get_meter(self, name: str, *arguments: Any, **options: Any) -> Any:
            asked.append(name)
            return super().get_meter(name, *arguments, **options)

    provider = Provider()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    monkeypatch.setattr("apiclient.middleware._instruments._GLOBAL", [])
    async with aiohttp.ClientSession(middlewares=(Telemetry(),)) as session:
        (await session.get(peer.url)).release()
    assert asked == ["apiclient"]
    provider.shutdown()


async def test_two_of_it_report_to_one_set_of_instruments(peer: Peer, seen: Collector) -> None:
    """Two clients of one application: each of their origins is told, and nothing twice."""
    second = Telemetry(tracer_provider=seen.tracers, meter_provider=seen.meters)
    async with (
        client_of(peer, seen) as one,
        ApiClient(
            peer.url.replace("127.0.0.1", "localhost"),
            pipeline=Pipeline([*ApiClient(peer.url).pipeline.without(Telemetry), second]),
        ) as other,
    ):
        await one.get("/a")
        await other.get("/a")
        origins = [each["apiclient.origin"] for each, _ in seen.points("apiclient.breaker.state")]
    assert sorted(origins) == sorted([peer.url, peer.url.replace("127.0.0.1", "localhost")])
    assert seen.points("apiclient.call.duration")[0][1] == 2


def test_without_the_api_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("apiclient.middleware.telemetry._LOADED", None)
    assert not Telemetry.available()
    with pytest.raises(RuntimeError, match=r"\[otel\]"):
        Telemetry()


def test_wrong_options_are_refused() -> None:
    """The message names option and value."""
    with pytest.raises(ValueError, match="endpoints must be at least 1, got 0"):
        Telemetry(endpoints=0)


@pytest.mark.looptime
async def test_an_attempt_that_took_too_long_is_a_timeout(peer: Peer, seen: Collector) -> None:
    """A limit of ours cancels what is inside of it; that is told as the timeout that it is, and not as a cancellation."""

    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    peer.handler = handler
    pipeline = seen.into(ApiClient(peer.url).pipeline).replace(AttemptTimeout, AttemptTimeout(2.0))
    async with ApiClient(peer.url, pipeline=pipeline.replace(Retry, Retry(attempts=2))) as client:
        with pytest.raises(errors.AttemptTimedOut):
            await client.get("/x")
        with pytest.raises(errors.DeadlineExceeded):
            await client.get("/x", timeout=1.0)
    spans = seen.spans(SpanKind.CLIENT)
    assert [attributes(span)["error.type"] for span in spans] == ["TimeoutError"] * 3
    assert [each["error.type"] for each, _ in seen.points("apiclient.attempts")] == ["TimeoutError"]
    assert [attributes(span)["apiclient.outcome"] for span in seen.spans(SpanKind.INTERNAL)] == ["failed", "failed"]
