import asyncio

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient import ApiClient, Pipeline, current_call, errors
from apiclient.middleware import AttemptTimeout, Deadline, Retry, StatusErrors
from tests.conftest import Peer
from tests.integration.scripted import Pause, Scripted

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def stall(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(10_000)
    return web.Response()


@pytest.mark.parametrize(("seconds", "late"), [(0.3, 0.02), (7.0, 0.12)])
async def test_the_call_ends_at_its_deadline(peer: Peer, seconds: float, late: float) -> None:
    """Law 5: total time is total, on a bare session as in a client."""
    peer.handler = stall
    async with aiohttp.ClientSession(middlewares=(Deadline(seconds), Retry())) as session:
        with pytest.raises(errors.DeadlineExceeded, match="used up"):
            await session.get(peer.url)
    assert seconds <= now() <= seconds + late


async def test_any_mix_of_waits_ends_in_time_and_nothing_leaves_after_it(peer: Peer) -> None:
    """Law 5: retries, stalls and a custom middleware's own sleep all count, and the wire is quiet afterwards."""

    async def dawdle(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        await asyncio.sleep(0.11)
        return await handler(request)

    peer.answers(503)
    async with ApiClient(peer.url, timeout=0.3) as client:
        with pytest.raises(errors.ApiError):
            await client.get("/x", pipeline=client.pipeline.after(Retry, dawdle))
        assert now() <= 0.32
        count = peer.count
        await asyncio.sleep(60)
        assert peer.count == count


async def test_a_wait_that_does_not_fit_is_not_begun(peer: Peer) -> None:
    """Law 5: it fails at once and says how long it would have waited."""

    async def wait(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        await current_call().sleep(30.0, "backoff")
        return await handler(request)

    async with ApiClient(peer.url, timeout=10.0, pipeline=Pipeline([Deadline(), wait])) as client:
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await client.get("/x")
    assert now() == 0
    assert caught.value.would_have_waited == 30.0
    assert peer.count == 0


async def test_a_call_that_comes_too_late_sends_nothing(peer: Peer) -> None:
    """Law 5: no request leaves after the deadline, whatever used up the time before."""

    async def dawdle(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        await asyncio.sleep(2)
        return await handler(request)

    async with ApiClient(peer.url, timeout=1.0) as client:
        await client.get("/warm")
        with pytest.raises(errors.DeadlineExceeded, match="used up"):
            await client.get("/x", pipeline=Pipeline([dawdle, Deadline()]))
        await asyncio.sleep(1)
    assert peer.count == 1


async def test_a_post_cut_off_on_the_wire_has_an_unknown_outcome(peer: Peer) -> None:
    """Law 3: a deadline that falls while the request is under way does not make it safe to send again."""
    peer.handler = stall
    async with ApiClient(peer.url, timeout=2.0) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.post("/x", json={})
        with pytest.raises(errors.DeadlineExceeded):
            await client.post("/x", json={}, idempotency_key="k")


async def test_a_post_that_never_left_has_a_known_outcome(peer: Peer) -> None:
    """Time was up while it waited for a connection, or for one to be made: sending it again is safe."""
    peer.handler = stall
    async with ApiClient(peer.url, timeout=2.0, connections=1) as client:
        first = asyncio.ensure_future(client.post("/x", json={}))
        await asyncio.sleep(0.5)
        with pytest.raises(errors.DeadlineExceeded):
            await client.post("/x", json={}, timeout=1.0)
        with pytest.raises(errors.OutcomeUnknown):
            await first
    assert peer.count == 1
    # It accepts, and never shakes hands.
    async with (
        Scripted(otherwise=(Pause(1000),)) as server,
        ApiClient(server.url.replace("http:", "https:"), timeout=2.0) as client,
    ):
        with pytest.raises(errors.DeadlineExceeded):
            await client.post("/x", json={})


async def test_a_post_that_left_after_one_that_did_not_has_an_unknown_outcome(peer: Peer) -> None:
    """Each attempt is judged by itself: the one that the time ends is what counts."""
    peer.handler = stall
    attempts = 0

    async def twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await handler(request)
        return await handler(request)

    async with ApiClient(peer.url, timeout=2.0) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.post("/x", json={}, pipeline=Pipeline([Deadline(), twice]))
    assert peer.count == 2


async def test_a_cancellation_is_not_taken_for_the_deadline(peer: Peer) -> None:
    """Law 9: who cancels gets a CancelledError."""
    peer.handler = stall
    async with aiohttp.ClientSession(middlewares=(Deadline(5.0),)) as session:
        task = asyncio.ensure_future(session.get(peer.url))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_time_spent_is_told(peer: Peer) -> None:
    """The error says where the time went."""
    peer.answers(503, headers={"Retry-After": "2"})
    async with ApiClient(peer.url, timeout=5.0) as client:
        with pytest.raises(errors.ServerError) as caught:
            await client.get("/x")
    assert caught.value.stopped == "deadline"
    assert caught.value.attempts == peer.count == 3


async def test_each_attempt_has_a_limit_of_its_own(peer: Peer) -> None:
    """A stalled attempt leaves time for another."""
    count = 0

    async def first_stalls(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return await stall(request) if count == 1 else web.Response()

    peer.handler = first_stalls
    chain = (StatusErrors(), Deadline(30), Retry(), AttemptTimeout(3.0))
    async with aiohttp.ClientSession(middlewares=chain) as session, session.get(peer.url) as response:
        assert response.status == 200
    assert 3.0 <= now() < 4.0


async def test_a_stalled_body_of_a_buffered_call_is_an_attempt_that_failed(peer: Peer) -> None:
    """The body is read inside the attempt, so its stall ends there and the call goes on."""
    count = 0

    async def half(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        if count == 1:
            await asyncio.sleep(10_000)
        await response.write(b"67890")
        return response

    peer.handler = half
    async with ApiClient(peer.url) as client:
        assert await (await client.get("/x")).read() == b"1234567890"
    assert count == 2


async def test_the_attempts_error_names_its_limit(peer: Peer) -> None:
    """A person reads which limit it was."""
    peer.handler = stall
    async with aiohttp.ClientSession(middlewares=(AttemptTimeout(1.5),)) as session:
        with pytest.raises(errors.AttemptTimedOut, match=r"1\.5 s"):
            await session.get(peer.url)


@pytest.mark.parametrize("kind", [Deadline, AttemptTimeout])
@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_wrong_options_are_named(kind: type[Deadline | AttemptTimeout], seconds: float) -> None:
    """A wrong option fails in the constructor and names option and value."""
    with pytest.raises(ValueError, match=f"seconds must be above 0, got {seconds}"):
        kind(seconds)


def test_reprs() -> None:
    """The repr names the limit."""
    assert repr(Deadline()) == "Deadline(60)"
    assert repr(AttemptTimeout()) == "AttemptTimeout(30)"
