"""The laws of the project, through the default pipeline and over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient import ApiClient, Request, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import Authorize, AuthRefresh, RateLimit, Retry, ScopeStepUp, StatusErrors
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_law_1_large_error_bodies_never_deadlock_a_single_connection(peer: Peer) -> None:
    """A response that is not returned is released at once: one connection is enough for 2 MB error bodies."""
    big = b"x" * 2 * 2**20
    peer.answers(503, 429, 503, 200, body=big)
    async with ApiClient(peer.url, connections=1) as client:
        for _ in range(3):
            response = await client.get("/big")
            assert response.status == 200
        peer.answers(500, body=big)
        with pytest.raises(errors.ServerError):
            await client.get("/big")
        peer.answers(200)
        assert (await client.get("/small")).status == 200


async def test_law_1_on_a_bare_session(peer: Peer) -> None:
    """The policies keep the law without an ApiClient."""
    peer.answers(503, 429, 200, body=b"x" * 2 * 2**20)
    credential = StaticToken("t")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        middlewares=(
            StatusErrors(),
            Retry(),
            AuthRefresh(credential),
            RateLimit(),
            Authorize(credential, origin=peer.url),
        ),
    ) as session:
        response = await session.get(peer.url + "/x")
        assert await response.read() == b"fine"
    assert peer.count == 3


async def stream() -> AsyncIterator[bytes]:
    yield b"only"
    yield b"once"


@pytest.mark.parametrize("status", [503, 429, 401])
async def test_law_2_a_body_that_can_be_read_once_is_sent_once(peer: Peer, status: int) -> None:
    """Nothing is ever resent empty: the call ends with an error, and the server saw the whole body once."""
    peer.answers(status, 200)
    async with ApiClient(peer.url, credentials=StaticToken("t")) as client:
        with pytest.raises(errors.ApiError):
            await client.put("/upload", data=stream())
        assert [body for _, _, body in peer.seen] == [b"onlyonce"]


async def test_law_2_buffered_it_may_be_sent_again(peer: Peer) -> None:
    """buffer_body=True takes a stream into memory, and the resend is the same."""
    peer.answers(503, 200)
    async with ApiClient(peer.url) as client:
        await client.put("/upload", data=stream(), buffer_body=True)
    assert [body for _, _, body in peer.seen] == [b"onlyonce"] * 2


@pytest.mark.parametrize("status", [503, 429, 307])
async def test_law_2_a_body_that_can_be_made_anew_is_sent_again(peer: Peer, status: int) -> None:
    """body= is called for each attempt and each hop, and every one carries the whole body."""
    peer.answers(status, 200, headers={"Location": "/there"})
    made: list[int] = []

    def body() -> AsyncIterator[bytes]:
        made.append(1)
        return stream()

    async with ApiClient(peer.url) as client:
        await client.put("/upload", body=body)
        with pytest.raises(TypeError, match="one of"):
            await client.put("/upload", body=body, data=b"x")
        with pytest.raises(TypeError, match="give data="):
            await client.put("/upload", body=b"x")  # type: ignore[arg-type]
    assert [sent for _, _, sent in peer.seen] == [b"onlyonce"] * 2
    assert len(made) >= 2


@pytest.mark.parametrize("status", [503, 429, 307])
async def test_law_2_a_form_that_is_made_anew_says_its_own_boundary(peer: Peer, status: int) -> None:
    """Each attempt declares the boundary that its own body has."""
    peer.answers(status, 200, headers={"Location": "/there"})

    def form() -> aiohttp.FormData:
        fields = aiohttp.FormData()
        fields.add_field("file", b"content", filename="a.txt")
        return fields

    async with ApiClient(peer.url) as client:
        await client.put("/upload", body=form)
    assert peer.count == 2
    for (_, _, body), headers in zip(peer.seen, peer.headers, strict=True):
        assert body.startswith(b"--" + headers["Content-Type"].partition("boundary=")[2].encode())


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_law_3_without_a_key_it_is_not_sent_again(peer: Peer, method: str) -> None:
    """A POST or PATCH whose bytes may have left ends as OutcomeUnknown after one wire request."""
    async with ApiClient(peer.url) as client:
        peer.handler = drop
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.request(method, "/orders", json={"n": 1})
        assert isinstance(caught.value, errors.TransportError)
        assert caught.value.attempts == peer.count == 1
        peer.answers(500)
        with pytest.raises(errors.OutcomeUnknown) as answered:
            await client.request(method, "/orders", json={"n": 1})
        assert isinstance(answered.value, errors.ServerError)
        assert answered.value.status == 500
        assert peer.count == 2


async def test_law_3_with_a_key_each_attempt_carries_it(peer: Peer) -> None:
    """With a key it is sent again, the same key every time."""
    peer.answers(500, 503, 200)
    async with ApiClient(peer.url) as client:
        await client.post("/orders", json={"n": 1}, idempotency_key="abc")
    assert len({headers["Idempotency-Key"] for headers in peer.headers}) == 1
    assert "abc" in peer.headers[0]["Idempotency-Key"]
    assert peer.count == 3


async def test_law_3_what_never_left_may_always_be_sent(unused_tcp_port: int) -> None:
    """A connection that was refused sent nothing: a POST without a key is tried again."""
    async with ApiClient(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(errors.ConnectFailed) as caught:
            await client.post("/orders", json={})
    assert caught.value.attempts == 4
    assert caught.value.recoverable


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_law_4_attempts_are_what_the_server_counts(peer: Peer, method: str) -> None:
    """The hidden second run of the chain that aiohttp makes never happens, or it would double the count."""
    peer.handler = drop
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.ConnectionLost) as caught:
            await client.request(method, "/x")
    assert caught.value.attempts == peer.count == 4
    assert len(caught.value.trail) == 4


@pytest.mark.parametrize("without", [(), (Retry,)])
async def test_law_4_holds_for_an_empty_chain_too(peer: Peer, without: tuple[type[Any], ...]) -> None:
    """Without Retry one call is one wire request, also for a method that aiohttp would send twice."""
    peer.handler = drop
    async with ApiClient(peer.url) as client:
        pipeline = client.pipeline.without(Retry, *without)
        with pytest.raises(errors.ConnectionLost) as caught:
            await client.get("/x", pipeline=pipeline)
    assert caught.value.attempts == peer.count == 1


@pytest.mark.parametrize("status", [503, 429])
async def test_law_5_a_wait_that_cannot_end_in_time_is_not_begun(peer: Peer, status: int) -> None:
    """Retry-After 60 with 5 s left: the call fails at once, says so, and no request leaves after it."""
    peer.answers(status, headers={"Retry-After": "60"})
    async with ApiClient(peer.url, timeout=5.0) as client:
        with pytest.raises(errors.ApiError) as caught:
            await client.get("/x")
        assert now() < 0.5
        assert caught.value.retry_after == pytest.approx(60, abs=1)
        await asyncio.sleep(100)
    assert peer.count == 1


@pytest.mark.parametrize("status", [503, 429])
async def test_law_6_never_earlier_than_retry_after(peer: Peer, status: int) -> None:
    """The second request arrives when the server said, or later."""
    times: list[float] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        times.append(now())
        return web.Response(status=200 if len(times) > 1 else status, headers={"Retry-After": "7"})

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        await client.get("/x")
    assert times[1] - times[0] >= 7.0


async def test_law_7_one_429_pauses_the_siblings_and_no_other_endpoint(peer: Peer) -> None:
    """While one endpoint waits for its quota, its siblings send nothing and others are not held up."""
    times: list[tuple[str, float]] = []
    refused = False

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal refused
        times.append((request.path, now()))
        if request.path == "/a" and not refused:
            refused = True
            return web.Response(status=429, headers={"Retry-After": "5"})
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        first = asyncio.ensure_future(_get(client, "/a"))
        await asyncio.sleep(0.5)
        rest = [asyncio.ensure_future(_get(client, path)) for path in ("/a", "/a", "/b", "/b")]
        await asyncio.gather(first, *rest)
    began = times[0][1]
    assert [path for path, time in times if 0 < time - began < 5.0 and path == "/a"] == []
    assert sorted(path for path, time in times if time - began < 5.0) == ["/a", "/b", "/b"]
    assert len(times) == 6


async def _get(client: ApiClient, path: str) -> int:
    return (await client.get(path)).status


async def test_law_9_cancellation_passes_unwrapped_and_leaves_the_pool_clean(peer: Peer) -> None:
    """Cancelled anywhere, the call ends as CancelledError and the only connection is free again."""

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1)
        return web.Response(status=503 if peer.count % 2 else 200, body=b"x" * 300_000)

    peer.handler = slow
    async with ApiClient(peer.url, connections=1) as client:
        for step in range(30):
            task = asyncio.ensure_future(_get(client, "/x"))
            await asyncio.sleep(0.1 * step)
            if task.done():
                continue
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        peer.answers(200)
        assert await _get(client, "/x") == 200


async def test_law_11_a_redirect_takes_no_credential_to_another_origin(peer: Peer) -> None:
    """On a bare session aiohttp follows the redirect; the credential stays at home."""
    seen: list[dict[str, str]] = []

    async def evil(request: web.Request) -> web.StreamResponse:
        seen.append(dict(request.headers))
        return web.Response()

    app = web.Application()
    app.router.add_get("/{tail:.*}", evil)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        peer.answers(302, headers={"Location": f"http://127.0.0.1:{port}/stolen"})
        credential = StaticToken("canary")
        chain = (ScopeStepUp(credential), AuthRefresh(credential), Authorize(credential, origin=peer.url))
        async with aiohttp.ClientSession(middlewares=chain) as session, session.get(peer.url + "/x") as response:
            assert response.status == 200
        async with ApiClient(peer.url, credentials=credential) as client:
            with pytest.raises(errors.RedirectRefused):
                await client.get("/x")
    finally:
        await runner.cleanup()
    assert peer.headers[0]["Authorization"] == "Bearer canary"
    assert len(seen) == 1
    assert "canary" not in str(seen)


async def test_law_14_many_endpoints_leave_no_state_behind(peer: Peer) -> None:
    """A thousand paths with ids are one endpoint; a thousand real ones are bounded."""
    async with ApiClient(peer.url) as client:
        requests = (Request(path=f"/things/{number}") for number in range(300))
        assert [result.ok async for result in client.batch(requests, concurrency=20)] == [True] * 300
        limiter: RateLimit = client.pipeline.find(RateLimit)
        assert len(limiter._lanes) == 1
