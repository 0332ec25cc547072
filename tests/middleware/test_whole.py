"""Responses that undo the content coding themselves."""

import asyncio
import gzip
import json
import zlib
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware import Fallback, Retry, Substitute
from apiclient.middleware._answered import CheckedResponse
from apiclient.middleware._whole import DecodedStream, WholeResponse
from tests.hostile.rows import ASK, GZIP, OK, sized
from tests.integration.scripted import Close, Pause, Scripted, Send, Serve, Step

pytestmark = pytest.mark.looptime
CHUNKED = GZIP + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_the_chunks_of_a_coded_stream_are_kept() -> None:
    """What the server flushes as one chunk is handed on as one."""
    press = zlib.compressobj(wbits=31)
    pieces = [press.compress(data) + press.flush(zlib.Z_SYNC_FLUSH) for data in (b"one", b"two", b"three")]
    pieces.append(press.flush())
    steps: list[Step] = [Send(CHUNKED)]
    for piece in pieces:
        steps += [Send(chunk(piece)), Pause(0.1)]
    async with (
        Scripted((*ASK, *steps, Send(b"0\r\n\r\n"), Serve())) as server,
        ApiClient(server.url) as client,
        client.get("/x") as response,
    ):
        read = [each async for each in response.content.iter_chunks()]
    assert read[:6] == [(b"one", False), (b"", True), (b"two", False), (b"", True), (b"three", False), (b"", True)]
    assert not any(data for data, _ in read[6:])


async def test_a_coded_stream_is_a_stream() -> None:
    """Every way of reading, its end, and what was counted."""
    body = gzip.compress(b"ab\ncd\nefgh;ij")
    async with (
        Scripted((*ASK, Send(sized(body, GZIP)), Serve())) as server,
        ApiClient(server.url) as client,
        client.get("/x", max_body=None) as response,
    ):
        content = response.content
        assert isinstance(content, DecodedStream)
        ended: list[bool] = []
        content.on_eof(lambda: ended.append(True))
        await content.wait_eof()
        assert ended == [True]
        assert content.is_eof()
        assert await content.readline() == b"ab\n"
        assert await content.readexactly(2) == b"cd"
        assert await content.readuntil(b";") == b"\nefgh;"
        assert not content.at_eof()
        assert content.read_nowait(1) == b"i"
        assert await content.read() == b"j"
        assert content.at_eof()
        assert content.total_bytes == 13
        assert content.total_raw_bytes == len(body)
        assert content.exception() is None


async def test_a_reader_learns_that_the_response_was_closed() -> None:
    """It does not wait for bytes that nobody brings."""
    head = GZIP + b"Content-Length: 100\r\n\r\n" + gzip.compress(b"fine" * 100)[:20]
    async with (
        Scripted((*ASK, Send(head), Pause(1000))) as server,
        ApiClient(server.url) as client,
        client.get("/x") as response,
    ):
        reader = asyncio.create_task(response.content.read())
        await asyncio.sleep(0.1)
        response.close()
        with pytest.raises(aiohttp.ClientError):
            await reader


async def test_what_broke_a_coded_stream_is_told_to_who_reads_later() -> None:
    """The first reason, and not that the connection ended."""
    head = GZIP + b"Content-Length: 100\r\n\r\n" + gzip.compress(b"fine" * 100)[:20]
    async with (
        Scripted((*ASK, Send(head), Close())) as server,
        ApiClient(server.url) as client,
        client.get("/x") as response,
    ):
        await asyncio.sleep(1)
        assert response.content.exception() is not None
        with pytest.raises(aiohttp.ClientPayloadError, match="Not enough data"):
            await response.content.read()


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    """What had come before is there for the next."""
    packed = gzip.compress(b"fine")
    script = (
        *ASK,
        Send(GZIP + b"Content-Length: %d\r\n\r\n" % len(packed) + packed[:-3]),
        Pause(10),
        Send(packed[-3:]),
    )
    async with Scripted(script) as server, ApiClient(server.url) as client, client.get("/x") as response:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.read(), 1)
        # aiohttp gives what was read so far to nobody, and so it is read in blocks here.
    async with Scripted(script) as server, ApiClient(server.url) as client, client.get("/x") as response:
        assert await response.content.readany() == b"fine"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), 1)
        assert await response.content.readany() == b""


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No\r\nContent-Encoding: gzip\r\n\r\n", sized(b"", GZIP)])
async def test_an_answer_without_a_body_may_have_a_coding(head: bytes) -> None:
    """There is nothing to undo."""
    async with Scripted((*ASK, Send(head), Serve())) as server, ApiClient(server.url) as client:
        assert await (await client.get("/x")).read() == b""


async def test_a_head_with_a_coding_has_no_body() -> None:
    """The answer to HEAD says what that to GET would have."""
    answer = GZIP + b"Content-Length: 100\r\n\r\n"
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url) as client:
        assert await (await client.head("/x")).read() == b""


@pytest.mark.parametrize("coding", [b"identity", b"aws-chunked", b"", b"gzip\xa0"])
async def test_a_coding_that_is_none_of_ours_is_left_alone(coding: bytes) -> None:
    """As aiohttp does."""
    answer = sized(b"fine", OK + b"Content-Encoding: " + coding + b"\r\n")
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url) as client:
        assert await (await client.get("/x")).text() == "fine"


async def test_a_coding_beside_identity_is_undone() -> None:
    """As it is, aiohttp would hand the caller compressed bytes."""
    answer = sized(gzip.compress(b"fine"), OK + b"Content-Encoding: identity, gzip\r\n")
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url) as client:
        assert await (await client.get("/x")).text() == "fine"


async def test_a_coding_that_cannot_be_undone_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor would it be the next time."""

    def missing(coding: str) -> None:
        raise LookupError("none of brotli is installed")

    monkeypatch.setattr("apiclient.middleware._whole.Decoding", missing)
    answer = sized(b"fine", OK + b"Content-Encoding: br\r\n")
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url) as client:
        with pytest.raises(errors.ResponseBroken, match="br, and none of brotli is installed") as caught:
            await client.get("/x")
        assert caught.value.attempts == 1


async def test_a_session_of_the_users_own_decodes_as_it_did() -> None:
    """Nothing about it is changed."""
    answer = sized(gzip.compress(b"fine"), GZIP)
    async with (
        Scripted((*ASK, Send(answer), Serve())) as server,
        aiohttp.ClientSession() as session,
        ApiClient(server.url, session=session) as client,
    ):
        response = await client.get("/x")
        assert await response.text() == "fine"
        assert not isinstance(response, WholeResponse)


async def test_a_response_is_strict_and_whole() -> None:
    """``ContentType`` gives the response its strict ``json()``, and takes nothing away."""
    answer = sized(gzip.compress(b'{"a": NaN}'), GZIP + b"Content-Type: application/json\r\n")
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url) as client:
        response: Any = await client.get("/x")
        assert isinstance(response, WholeResponse)
        assert isinstance(response, CheckedResponse)
        with pytest.raises(json.JSONDecodeError):
            await response.json()
    plain = Pipeline([Retry()])
    async with Scripted((*ASK, Send(answer), Serve())) as server, ApiClient(server.url, pipeline=plain) as client:
        response = await client.get("/x")
        assert isinstance(response, WholeResponse)
        assert not isinstance(response, CheckedResponse)


async def test_an_answer_that_no_server_sent_is_taken_as_it_is() -> None:
    """A stand-in's body is not coded, whatever its headers say."""
    stale = Fallback({"GET /x": Substitute(body=b"fine", headers={"Content-Encoding": "gzip"})})
    async with (
        Scripted(otherwise=(Close(),)) as server,
        ApiClient(server.url, pipeline=Pipeline([stale, Retry(attempts=1)])) as client,
    ):
        assert await (await client.get("/x")).text() == "fine"
