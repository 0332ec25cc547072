"""Bodies of responses that no server sent: large, broken, slow, unread."""

import asyncio
import gc
import weakref

import aiohttp
import pytest

from apiclient.testing import MockTransport

from .conftest import OpenSession

X = "http://a.test/x"


async def test_a_large_body_arrives_whole(open_session: OpenSession) -> None:
    """300 kB, well over the reader's limit of flow control, arrive in one piece or in chunks."""
    body = bytes(range(256)) * 1200
    transport = MockTransport()
    transport.get("/x").respond(body=body)
    session = open_session(transport)
    assert await (await session.get(X)).read() == body
    async with session.get(X) as response:
        pieces = [piece async for piece in response.content.iter_chunked(65536)]
    assert len(pieces) > 1
    assert b"".join(pieces) == body


async def test_lines_of_a_body(open_session: OpenSession) -> None:
    """The content is a real StreamReader: it can be read by lines."""
    transport = MockTransport()
    transport.get("/x").respond(text="one\ntwo\n")
    async with open_session(transport).get(X) as response:
        assert [line async for line in response.content] == [b"one\n", b"two\n"]


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_a_truncated_body_fails_on_reading(open_session: OpenSession, after: int) -> None:
    """The head arrives with the full length announced; reading raises ClientPayloadError."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").truncate(after=after)
    response = await open_session(transport).get(X)
    assert response.content_length == 10
    assert not response.closed
    with pytest.raises(aiohttp.ClientPayloadError, match=f"stopped after {after} of 10 bytes"):
        await response.read()
    assert response.closed


async def test_every_byte_before_the_break_can_be_read(open_session: OpenSession) -> None:
    """A streaming reader gets what arrived and then the error, however often others run in between."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").truncate(after=4)
    got = b""
    response = await open_session(transport).get(X)
    with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the bytes before it are the point
        while True:
            for _ in range(5):
                await asyncio.sleep(0)
            got += await response.content.read(1)
    assert got == b"0123"


@pytest.mark.looptime
async def test_a_dripping_body_takes_its_time(open_session: OpenSession) -> None:
    """Each piece comes its interval after the reader began to wait."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").drip(size=4, every=60.0)
    loop = asyncio.get_running_loop()
    async with open_session(transport, timeout=aiohttp.ClientTimeout(total=None)).get(X) as response:
        began, seen = loop.time(), list[tuple[float, bytes]]()
        async for piece in response.content.iter_any():
            seen.append((round(loop.time() - began, 3), piece))
    assert seen == [(60.0, b"0123"), (120.0, b"4567"), (180.0, b"89")]


@pytest.mark.looptime
async def test_a_dripping_body_can_break_off(open_session: OpenSession) -> None:
    """Drip and truncate go together: the pieces, then the error."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").drip(size=2, every=1.0).truncate(after=3)
    response = await open_session(transport).get(X)
    assert [await response.content.readany(), await response.content.readany()] == [b"01", b"2"]
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.content.readany()


@pytest.mark.looptime
async def test_the_time_limit_ends_a_slow_body(open_session: OpenSession) -> None:
    """The session's total limit holds while a body drips, as with a server."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").drip(size=1, every=10.0)
    response = await open_session(transport, timeout=aiohttp.ClientTimeout(total=25)).get(X)
    with pytest.raises(TimeoutError):
        await response.read()


@pytest.mark.looptime
async def test_a_cancelled_reader_loses_nothing(open_session: OpenSession) -> None:
    """Cancelled while waiting for a piece, the next read gets that piece, once."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"abcd").drip(size=2, every=10.0)
    response = await open_session(transport, timeout=aiohttp.ClientTimeout(total=None)).get(X)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await response.content.readany()
    assert [await response.content.readany(), await response.content.readany()] == [b"ab", b"cd"]
    assert loop.time() - began == pytest.approx(20.0)
    assert await response.content.readany() == b""


async def test_release_and_close_end_an_unread_body(open_session: OpenSession) -> None:
    """A response let go of before its body came is closed, tells so, and reading it fails as in aiohttp."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").drip(size=1, every=10.0)
    session = open_session(transport)
    for ending in ("release", "close"):
        response = await session.get(X)
        freed = asyncio.Event()
        connection = response.connection
        assert connection is not None
        connection.add_callback(freed.set)
        assert not response.closed
        getattr(response, ending)()
        assert freed.is_set()
        assert (response.closed, response.connection is None) == (True, True)
        with pytest.raises(aiohttp.ClientConnectionError):
            await response.read()


async def test_a_response_is_freed_with_its_last_reference(open_session: OpenSession) -> None:
    """A mocked response leaves nothing behind that keeps it alive."""
    transport = MockTransport()
    transport.get("/x").respond(body=b"0123456789").truncate(after=2)
    response = await open_session(transport).get(X)
    gone = weakref.ref(response)
    response.release()
    del response
    gc.collect()
    assert gone() is None


async def test_traces_see_the_request(open_session: OpenSession) -> None:
    """A TraceConfig gets the start and the end of a mocked call."""
    seen: list[str] = []
    trace = aiohttp.TraceConfig()

    async def note(*args: object) -> None:
        seen.append(type(args[-1]).__name__)

    trace.on_request_start.append(note)
    trace.on_request_end.append(note)
    transport = MockTransport()
    transport.get("/x").respond()
    await open_session(transport, trace_configs=[trace]).get(X)
    assert seen == ["TraceRequestStartParams", "TraceRequestEndParams"]
