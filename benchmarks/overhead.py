"""What the policies cost: CPU time per request of ``ApiClient``, beside the bare session and beside its peers.

``python benchmarks/overhead.py`` compares whole clients; ``--layers`` shows which layer of the default pipeline the
time goes to. Each contender gets small JSON resources over keep-alive from a server in another process, and reads
the bodies.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import sys
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from _measure import Contender, alternate, arguments, machine, positive, run, save, table
from _server import BODY, CLIENT_CORE, pin, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from _measure import Call

    from apiclient import Pipeline

_TOKEN = "benchmark"
_UNREACHED = 1_000_000
_loggers = itertools.count()


class _Null(io.TextIOBase):
    """Takes what it is given: records are made and formatted in full, and no disk or terminal is measured."""

    def write(self, text: str, /) -> int:
        return len(text)


def _logger(level: int) -> logging.Logger:
    """Make a logger to nowhere; one for each contender, so that they do not share a level."""
    logger = logging.getLogger(f"overhead.{next(_loggers)}")
    logger.propagate = False
    logger.setLevel(level)
    handler = logging.StreamHandler(_Null())
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    logger.addHandler(handler)
    return logger


def _expect(status: int, body: bytes) -> None:
    if status != 200 or body != BODY:
        raise RuntimeError(f"a contender got {status} and {body!r}")


class Load:
    """The resources to get: *ids* different ones in turn.

    One URL again and again is answered from yarl's caches of 128 entries, which real traffic with ids in its paths
    soon leaves behind.
    """

    def __init__(self, ids: int) -> None:
        self._ids = ids

    def numbers(self) -> Iterator[int]:
        """Yield the ids, for ever."""
        return itertools.cycle(range(self._ids))

    def urls(self, base: str) -> Iterator[str]:
        """Yield the resources' URLs, for ever."""
        return itertools.cycle([f"{base}/employees/{number}" for number in range(self._ids)])

    @asynccontextmanager
    async def bare(self, base: str) -> AsyncGenerator[Call, None]:
        """Open what everything is measured against."""
        async with aiohttp.ClientSession() as session:
            yield self._getting(session, base)

    @asynccontextmanager
    async def bare_without_total(self, base: str) -> AsyncGenerator[Call, None]:
        """Open the session without the timer that aiohttp starts for each request's total."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            yield self._getting(session, base)

    def _getting(self, session: aiohttp.ClientSession, base: str) -> Call:
        urls = self.urls(base)

        async def call() -> None:
            async with session.get(next(urls)) as response:
                _expect(response.status, await response.read())

        return call

    @asynccontextmanager
    async def instrumented(self, base: str) -> AsyncGenerator[Call, None]:
        """Open the bare session with the instrumentation that OpenTelemetry has for aiohttp."""
        from opentelemetry.instrumentation.aiohttp_client import create_trace_config

        tracers, meters = _providers()
        tracing = create_trace_config(tracer_provider=tracers, meter_provider=meters)
        async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
            yield self._getting(session, base)

    @asynccontextmanager
    async def retry_and_limiter(self, base: str) -> AsyncGenerator[Call, None]:
        """Open aiohttp-retry's client, and an aiolimiter around each call."""
        from aiohttp_retry import ExponentialRetry, RetryClient
        from aiolimiter import AsyncLimiter

        limiter, urls = AsyncLimiter(_UNREACHED, 1), self.urls(base)
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        async with RetryClient(headers=headers, retry_options=ExponentialRetry(attempts=3)) as session:

            async def call() -> None:
                async with limiter, session.get(next(urls)) as response:
                    _expect(response.status, await response.read())

            yield call

    @asynccontextmanager
    async def httpx_and_retries(self, base: str) -> AsyncGenerator[Call, None]:
        """Open httpx with the transport of httpx-retries."""
        import httpx
        from httpx_retries import Retry, RetryTransport

        urls = self.urls(base)
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        async with httpx.AsyncClient(transport=RetryTransport(retry=Retry(total=3)), headers=headers) as client:

            async def call() -> None:
                response = await client.get(next(urls))
                _expect(response.status_code, response.content)

            yield call

    def azure(self, level: int) -> Callable[[str], AbstractAsyncContextManager[Call]]:
        """Return what opens azure-core's pipeline with its events at *level* and above."""

        @asynccontextmanager
        async def opened(base: str) -> AsyncGenerator[Call, None]:
            from azure.core import AsyncPipelineClient
            from azure.core.credentials import AzureKeyCredential
            from azure.core.pipeline import policies
            from azure.core.pipeline.transport import AioHttpTransport
            from azure.core.rest import AsyncHttpResponse, HttpRequest

            # The list that every generated client has; of its credentials policies the bearer's insists on https.
            chain: list[Any] = [
                policies.RequestIdPolicy(),
                policies.HeadersPolicy(),
                policies.UserAgentPolicy("benchmark"),
                policies.ProxyPolicy(),
                policies.ContentDecodePolicy(),
                policies.AsyncRedirectPolicy(),
                policies.AsyncRetryPolicy(),
                policies.AzureKeyCredentialPolicy(AzureKeyCredential(_TOKEN), "Authorization", prefix="Bearer"),
                policies.CustomHookPolicy(),
                policies.NetworkTraceLoggingPolicy(),
                policies.DistributedTracingPolicy(),
                policies.SensitiveHeaderCleanupPolicy(),
                policies.HttpLoggingPolicy(logger=_logger(level)),
            ]
            urls = self.urls(base)
            # Its default looks the proxy up in the environment on each call, in a thread: not what is compared here.
            transport = AioHttpTransport(use_env_settings=False)
            async with AsyncPipelineClient[HttpRequest, AsyncHttpResponse](
                base, policies=chain, transport=transport
            ) as client:

                async def call() -> None:
                    response = await client.send_request(HttpRequest("GET", next(urls)))
                    _expect(response.status_code, response.content)

                yield call

        return opened

    def ours(
        self, level: int, shape: Callable[[Pipeline], Pipeline] | None = None
    ) -> Callable[[str], AbstractAsyncContextManager[Call]]:
        """Return what opens ``ApiClient`` with events at *level* and above, its default pipeline changed by *shape*."""

        @asynccontextmanager
        async def opened(base: str) -> AsyncGenerator[Call, None]:
            from apiclient import ApiClient

            pipeline = _limited()
            client = ApiClient(
                base,
                pipeline=pipeline if shape is None else shape(pipeline),
                logger=_logger(level),
            )
            numbers = self.numbers()
            async with client:

                async def call() -> None:
                    response = await client.get("/employees/{id}", path_params={"id": next(numbers)})
                    _expect(response.status, await response.read())

                yield call

        return opened

    def clients(self) -> list[Contender]:
        """List whole clients, the bare session first."""
        return [
            Contender("bare", "aiohttp.ClientSession, default timeout", self.bare),
            Contender("bare, no total", "the same with ClientTimeout(total=None)", self.bare_without_total),
            Contender("apiclient", "default pipeline, token, limit, an INFO event per call", self.ours(logging.INFO)),
            Contender("apiclient, quiet", "the same, logging at WARNING", self.ours(logging.WARNING)),
            Contender("apiclient, DEBUG", "the same, an event per wire request as well", self.ours(logging.DEBUG)),
            Contender("apiclient, otel", "quiet, with spans and metrics", self.ours(logging.WARNING, _reporting)),
            Contender("bare, otel", "bare with OpenTelemetry's own instrumentation", self.instrumented),
            Contender("aiohttp-retry", "with aiolimiter; no logging", self.retry_and_limiter),
            Contender("azure-core", "its default policies, logging at WARNING", self.azure(logging.WARNING)),
            Contender("azure-core, INFO", "the same, its two INFO events per call", self.azure(logging.INFO)),
            Contender("httpx", "with httpx-retries; no limiter, no logging", self.httpx_and_retries),
        ]

    def layers(self) -> list[Contender]:
        """List the default pipeline without each of its layers in turn, after bare and the whole of it."""
        contenders = self.clients()[:4]
        try:
            from apiclient import Pipeline

            names = [type(layer) for layer in _limited()]
        except ImportError:
            return contenders
        empty = Contender("empty", "ApiClient with Pipeline()", self.ours(logging.INFO, lambda _: Pipeline()))
        lesser = [
            Contender(f"- {name.__name__}", "the default without it", self.ours(logging.INFO, _without(name)))
            for name in names
        ]
        return [*contenders, empty, *lesser]


def _limited() -> Pipeline:
    """Build the default pipeline with a limit that the load never reaches."""
    from apiclient import Rate, default_pipeline
    from apiclient.credentials import StaticToken
    from apiclient.middleware import RateLimit

    pipeline = default_pipeline(credentials=StaticToken(_TOKEN))
    return pipeline.replace(RateLimit, RateLimit(default=Rate(_UNREACHED, per=1.0)))


def _providers() -> tuple[Any, Any]:
    """Make the SDK's providers: spans are recorded, handed over and dropped, metrics are added up and never read."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 - the exporter's signature
            return SpanExportResult.SUCCESS

    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Dropping()))
    return tracers, MeterProvider(metric_readers=[InMemoryMetricReader()])


def _reporting(pipeline: Pipeline) -> Pipeline:
    from apiclient.middleware import Telemetry

    tracers, meters = _providers()
    return type(pipeline)([*pipeline.without(Telemetry), Telemetry(tracer_provider=tracers, meter_provider=meters)])


def _without(layer: type) -> Callable[[Pipeline], Pipeline]:
    return lambda pipeline: pipeline.without(layer)


def _served(base: str) -> int:
    with urllib.request.urlopen(f"{base}/-/count") as answer:
        return int(json.load(answer))


def main() -> None:
    """Measure, check that every call was one request on the wire, print the table."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--layers", action="store_true", help="the default pipeline without each layer in turn")
    parser.add_argument("--ids", type=positive, default=1000, help="different resources asked for; 1: always the same")
    options = parser.parse_args()
    load = Load(options.ids)
    contenders = load.layers() if options.layers else load.clients()
    contenders = [contenders[0], *(c for c in contenders[1:] if options.only in c.name)]
    pin(CLIENT_CORE)
    with serving() as base:
        shape = {"rounds": options.rounds, "requests": options.requests, "concurrency": options.concurrency}
        outcome = run(alternate(contenders, base, **shape), uvloop=options.uvloop)
        served = _served(base)
    if served != outcome.calls:
        sys.exit(f"{outcome.calls} calls made {served} requests: something was resent, or never sent")
    about = f"{machine(uvloop=options.uvloop)}; {options.ids} ids; " + ", ".join(f"{v} {k}" for k, v in shape.items())
    print(about, table(outcome), sep="\n")
    if options.json is not None:
        save(options.json, outcome, about=about)


if __name__ == "__main__":
    main()
