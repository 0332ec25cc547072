"""What docs/compared.md says of other libraries and can be shown: with the versions that are installed, on loopback or less.

They come with the extra ``bench``; without it there is nothing to show.
"""

import asyncio
import contextlib
import gc
import gzip
import inspect
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from apiclient import ApiClient
from apiclient.errors import ResponseBroken

for name in ("aiohttp_retry", "aiolimiter", "azure.core", "httpx", "httpx_retries"):
    pytest.importorskip(name)

import httpx  # noqa: E402 - may not be there
from aiohttp_retry import ExponentialRetry, RetryClient  # noqa: E402
from aiolimiter import AsyncLimiter  # noqa: E402
from azure.core.exceptions import AzureError  # noqa: E402
from azure.core.pipeline import AsyncPipeline, policies  # noqa: E402
from azure.core.pipeline.transport import AioHttpTransport  # noqa: E402
from azure.core.rest import HttpRequest  # noqa: E402
from httpx_retries import Retry, RetryTransport  # noqa: E402

# aiohttp-retry never gives back the connections of what it discards, and aiohttp says so when they are collected.
pytestmark = [pytest.mark.looptime, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


class Origin:
    """A server that answers 503 in the ways that a test asks for, and notes what arrives, and when."""

    def __init__(self) -> None:
        self.status = 503
        self.headers: dict[str, str] = {}
        self.times: list[float] = []
        self.sizes: list[int] = []
        self.body = b"x" * 2_000_000

    async def answer(self, request: web.Request) -> web.Response:
        self.sizes.append(len(await request.read()))
        self.times.append(asyncio.get_running_loop().time())
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@pytest.fixture
async def origin() -> AsyncIterator[tuple[Origin, str]]:
    origin = Origin()
    app = web.Application()
    app.router.add_route("*", "/", origin.answer)
    async with TestServer(app) as server:
        yield origin, str(server.make_url("/"))
    gc.collect()  # what was never given back is found here, and not in a test of another file


async def test_aiohttp_retry_sends_a_post_again_and_hears_no_retry_after(origin: tuple[Origin, str]) -> None:
    """Three requests of one POST, the second long before the two seconds that the server asked for."""
    seen, url = origin
    seen.headers = {"Retry-After": "2"}
    async with RetryClient(retry_options=ExponentialRetry(attempts=3)) as client, client.post(url) as response:
        assert response.status == 503
    assert len(seen.times) == 3
    assert seen.times[1] - seen.times[0] < 1


async def test_aiohttp_retry_sends_a_consumed_body_again_empty(origin: tuple[Origin, str]) -> None:
    """The second and third requests of an upload from a generator have no body."""
    seen, url = origin

    async def chunks() -> AsyncIterator[bytes]:
        yield b"whole"

    async with RetryClient(retry_options=ExponentialRetry(attempts=3)) as client, client.put(url, data=chunks()):
        assert seen.sizes == [5, 0, 0]


async def test_aiohttp_retry_keeps_the_connection_of_what_it_discards(origin: tuple[Origin, str]) -> None:
    """With one connection and large error bodies the second attempt waits for ever for the first one's."""
    _, url = origin
    connector = aiohttp.TCPConnector(limit=1)
    async with RetryClient(retry_options=ExponentialRetry(attempts=3), connector=connector) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60), client.get(url):
                pass


async def test_others_take_a_gzip_that_breaks_off_for_whole(origin: tuple[Origin, str]) -> None:
    """Half of the text, and no word that the other half is missing; here it is an error."""
    seen, url = origin
    packed = gzip.compress(random.Random(1).randbytes(1000))
    seen.status, seen.headers, seen.body = 200, {"Content-Encoding": "gzip"}, packed[:500]
    async with RetryClient() as client, client.get(url) as response:
        assert 0 < len(await response.read()) < 1000
    answer = httpx.Response(200, headers=seen.headers, content=seen.body)
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as other:
        assert 0 < len((await other.get(url)).content) < 1000
    async with ApiClient(url, timeout=1.0) as ours:
        with pytest.raises(ResponseBroken):
            await ours.get("/")


async def test_aiolimiter_lets_more_than_the_rate_through_in_its_first_window() -> None:
    """Ten per second, thirty callers: nineteen pass within the first second, burst and refill."""
    limiter = AsyncLimiter(10, 1)
    passed: list[float] = []

    async def caller() -> None:
        async with limiter:
            passed.append(asyncio.get_running_loop().time())

    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(caller() for _ in range(30)))
    assert sum(time - began < 0.95 for time in passed) == 19


async def test_httpx_retries_sends_no_post_again_and_cuts_a_retry_after_short() -> None:
    """A POST is sent once; a pause longer than its cap is cut to the cap, and the request sent too early."""
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(asyncio.get_running_loop().time())
        return httpx.Response(503, headers={"Retry-After": "3600"})

    transport = RetryTransport(httpx.MockTransport(answer), retry=Retry(total=1))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.post("https://api.example.com/")
        assert len(times) == 1
        await client.get("https://api.example.com/")
    assert len(times) == 3
    assert 100 < times[2] - times[1] < 130


async def test_httpx_has_a_synchronous_client_and_http_2() -> None:
    """Two things that this library does not have."""
    assert "http2" in inspect.signature(httpx.Client).parameters


async def test_azure_core_sends_a_post_again_and_sleeps_past_its_timeout(origin: tuple[Origin, str]) -> None:
    """Four requests of one POST by default; with one second allowed, three are slept."""
    seen, url = origin
    transport: Any = AioHttpTransport(use_env_settings=False)
    async with AsyncPipeline[Any, Any](transport, [policies.AsyncRetryPolicy(retry_backoff_factor=0.1)]) as pipeline:
        await pipeline.run(HttpRequest("POST", url, content=b"order"))
        assert len(seen.times) == 4
        seen.headers = {"Retry-After": "3"}
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(AzureError):
            await pipeline.run(HttpRequest("GET", url), timeout=1)
        assert asyncio.get_running_loop().time() - began >= 3
