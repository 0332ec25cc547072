"""A server that closes, resets, stalls or truncates at every stage of request and response."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware.attempt_timeout import AttemptTimeout
from apiclient.middleware.circuit_breaker import CircuitBreaker
from apiclient.middleware.deadline import Deadline
from apiclient.middleware.retry import Retry
from apiclient.middleware.status_errors import StatusErrors
from tests.integration.scripted import Body, Close, Head, Reset, Scripted, Send, Some, Stall, Step

pytestmark = pytest.mark.looptime

WHOLE = (Head(), Body())
OK = b"HTTP/1.1 200 OK\r\n"
UNSENT = b"x" * 3_000_000

# Everything that can go wrong before a whole answer has arrived, and may be other the next time.
FAULTS: dict[str, tuple[Step, ...]] = {
    "closed on accept": (Close(),),
    "reset on accept": (Reset(),),
    "stalled on accept": (Stall(),),
    "closed in the request head": (Some(8), Close()),
    "reset in the request head": (Some(8), Reset()),
    "closed after the request": (*WHOLE, Close()),
    "reset after the request": (*WHOLE, Reset()),
    "stalled after the request": (*WHOLE, Stall()),
    "closed in the status line": (*WHOLE, Send(b"HTTP/1.1 2"), Close()),
    "stalled in the status line": (*WHOLE, Send(b"HTTP/1.1 2"), Stall()),
    "closed in the headers": (*WHOLE, Send(OK + b"Content-Le"), Close()),
    "reset in the headers": (*WHOLE, Send(OK + b"Content-Le"), Reset()),
    "stalled in the headers": (*WHOLE, Send(OK + b"Content-Le"), Stall()),
    "closed before the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\n"), Close()),
    "reset before the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\n"), Reset()),
    "stalled before the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\n"), Stall()),
    "closed in the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\nhalf"), Close()),
    "reset in the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\nhalf"), Reset()),
    "stalled in the body": (*WHOLE, Send(OK + b"Content-Length: 9\r\n\r\nhalf"), Stall()),
    "closed in a chunk": (*WHOLE, Send(OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"), Close()),
    "closed before the last chunk": (*WHOLE, Send(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Close()),
    "garbage for gzip": (*WHOLE, Send(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"), Close()),
    "503 and closed in its body": (*WHOLE, Send(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nhalf"), Close()),
    "503 and stalled in its body": (*WHOLE, Send(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nhalf"), Stall()),
    "503 and closed": (*WHOLE, Send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), Close()),
}
GARBAGE: dict[str, tuple[Step, ...]] = {
    "no HTTP at all": (*WHOLE, Send(b"220 mail.example.com ESMTP\r\n\r\n"), Stall()),
    "a chunk without a size": (*WHOLE, Send(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), Stall()),
    "a header without a colon": (*WHOLE, Send(OK + b"nonsense\r\n\r\n"), Stall()),
}


@asynccontextmanager
async def client_of(server: Scripted, **options: Any) -> AsyncIterator[ApiClient]:
    """One connection, so that any leak is a deadlock; and after all no connection in use."""
    chain = Pipeline(
        [StatusErrors(), Deadline(30), Retry(jitter=None, **options), CircuitBreaker(), AttemptTimeout(2.0)]
    )
    async with ApiClient(server.url, pipeline=chain, connections=1) as client:
        yield client
        assert client._session is not None
        connector: Any = client._session.connector
        async with asyncio.timeout(5):
            assert await (await client.get("/after")).text() == "fine"
        await asyncio.sleep(0.01)
        assert not connector._acquired
        assert not connector._waiters


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_get_gets_its_answer_all_the_same(fault: str) -> None:
    """One attempt fails, the next succeeds; as many connections as attempts, and a clean pool."""
    async with Scripted(FAULTS[fault]) as server, client_of(server) as client:
        pending = client.get("/x")
        assert await (await pending).text() == "fine"
        assert pending.call is not None
        assert pending.call.attempts == server.connections == 2
        assert len(pending.call.trail) == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_get_that_keeps_failing_ends_in_one_error_of_ours(fault: str) -> None:
    """Four attempts, each in the trail; never an error that makes aiohttp run the chain again."""
    async with Scripted(*[FAULTS[fault]] * 4) as server, client_of(server) as client:
        with pytest.raises(errors.ApiError) as caught:
            await client.get("/x")
        error = caught.value
        assert error.attempts == len(error.trail) == server.connections == 4
        assert isinstance(error, errors.ServerError if fault.startswith("503") else errors.TransportError)
        assert not isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
        assert error.recoverable


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_post_without_a_key_is_sent_once_and_its_outcome_unknown(fault: str) -> None:
    """Law 3, at every stage at which a byte may have left."""
    async with Scripted(FAULTS[fault]) as server, client_of(server) as client:
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.post("/x", json={"a": 1})
        assert caught.value.attempts == server.connections == 1
        assert not caught.value.recoverable
        assert len(server.bodies) <= 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_post_with_a_key_is_sent_again_the_same(fault: str) -> None:
    """Law 3: same key, same body, same headers."""
    async with Scripted(FAULTS[fault]) as server, client_of(server) as client:
        response = await client.post("/x", json={"a": 1}, headers={"Idempotency-Key": "k"})
        assert await response.text() == "fine"
        assert server.connections == 2
        assert set(server.bodies) == {b'{"a": 1}'}
        assert len(set(server.requests)) == 1


@pytest.mark.parametrize("fault", GARBAGE)
async def test_what_is_not_http_is_final(fault: str) -> None:
    """Another attempt would meet the same stranger; the error is no 400 that no server sent."""
    async with Scripted(GARBAGE[fault]) as server, client_of(server) as client:
        with pytest.raises(errors.ResponseBroken) as caught:
            await client.get("/x")
        assert caught.value.attempts == server.connections == 1


@pytest.mark.parametrize("step", [Close(), Reset(), Stall()])
async def test_an_upload_broken_off_is_sent_again_whole(step: Step) -> None:
    """Closed, reset or stalled in the middle of three megabytes."""
    script = (Head(), Body(100_000), step)
    async with Scripted(script) as server, client_of(server) as client:
        response = await client.put("/x", data=io.BytesIO(UNSENT))
        assert await response.text() == "fine"
        assert [len(body) for body in server.bodies] == [len(UNSENT)]


async def test_a_file_broken_off_is_sent_again_whole(tmp_path: Any) -> None:
    """The read under way when the connection broke takes nothing from the next attempt."""
    path = tmp_path / "upload"
    content = bytes(range(256)) * 12_000
    path.write_bytes(b"skipped" + content)
    with path.open("rb") as file:
        file.seek(7)
        async with Scripted((Head(), Body(100_000), Reset())) as server, client_of(server) as client:
            await client.put("/x", data=file)
            assert server.bodies == [content]


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"piece"


async def test_a_stream_broken_off_is_not_sent_again() -> None:
    """Law 2: the error names the way out, and the failure is its cause; never an empty second body."""
    async with Scripted((Head(), Close())) as server, client_of(server) as client:
        with pytest.raises(errors.BodyNotReplayable, match="buffer_body=True") as caught:
            await client.put("/x", data=_pieces())
        assert server.connections == caught.value.attempts == 1
        assert isinstance(caught.value.__cause__, aiohttp.ClientError)


async def test_a_stream_read_into_memory_is_sent_again() -> None:
    """``buffer_body=True`` is the way out that the error names."""
    async with Scripted((Head(), Close())) as server, client_of(server) as client:
        response = await client.put("/x", data=_pieces(), headers={"Content-Length": "15"}, buffer_body=True)
        assert response.status == 200
        assert (server.connections, server.bodies) == (2, [b"piece" * 3])


async def test_a_streamed_answer_that_breaks_off_is_the_readers_to_see() -> None:
    """The head arrived, so the call is over; reading tells, and the connection is not reused."""
    async with Scripted(FAULTS["closed in the body"]) as server, client_of(server) as client:
        async with client.get("/x") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert server.connections == 1


async def test_a_connection_refused_is_tried_again_for_any_method(unused_tcp_port: int) -> None:
    """Nothing was sent: a POST without a key may be tried again, and its outcome is known."""
    chain = Pipeline([StatusErrors(), Deadline(30), Retry(jitter=None), AttemptTimeout(2.0)])
    async with ApiClient(f"http://127.0.0.1:{unused_tcp_port}", pipeline=chain) as client:
        with pytest.raises(errors.ConnectFailed) as caught:
            await client.post("/x", json={})
        assert caught.value.attempts == 4
        assert not isinstance(caught.value, errors.OutcomeUnknown)


@pytest.mark.parametrize("waits", ["stall", "503", "retry-after"])
async def test_a_total_of_300_ms_ends_within_20_ms_of_it(waits: str) -> None:
    """Whatever is waited for; and no request leaves after it."""
    script: tuple[Step, ...] = {
        "stall": FAULTS["stalled after the request"],
        "503": FAULTS["503 and closed"],
        "retry-after": (*WHOLE, Send(b"HTTP/1.1 503 No\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"), Stall()),
    }[waits]
    async with Scripted(*[script] * 20) as server:
        chain = Pipeline([StatusErrors(), Deadline(30), Retry(attempts=20, jitter=None), AttemptTimeout(0.11)])
        async with ApiClient(server.url, pipeline=chain, timeout=0.3) as client:
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(errors.ApiError) as caught:
                await client.get("/x")
            assert loop.time() - began <= 0.32
            before = server.connections
            assert caught.value.attempts == before
            await asyncio.sleep(10)
            assert server.connections == before


@pytest.mark.parametrize(
    "fault", ["stalled on accept", "stalled after the request", "stalled in the body", "503 and closed"]
)
@pytest.mark.parametrize("after", [0.0, 0.001, 0.05, 1.0, 2.05])
async def test_cancelled_at_any_stage_the_pool_is_clean(fault: str, after: float) -> None:
    """Law 9: the CancelledError passes through, and the one connection is there for the next call."""
    async with Scripted(FAULTS[fault], FAULTS[fault]) as server, client_of(server) as client:
        task = asyncio.ensure_future(_awaited(client))
        await asyncio.sleep(after)
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        server.scripts = []


async def _awaited(client: ApiClient) -> aiohttp.ClientResponse:
    return await client.get("/x")
