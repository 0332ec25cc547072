"""Borders S13 to S17: how much of an answer is taken, how deep, how long, and for how long it is obeyed."""

import asyncio
import gzip
import json
import pickle
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse

from apiclient import ApiClient
from apiclient.middleware import Retry, StatusErrors
from apiclient.middleware._capped_stream import CappedStream
from apiclient.middleware.errors import (
    ApiError,
    BodyTooLarge,
    DeadlineExceeded,
    InvalidJson,
    NotFound,
    TooManyRequests,
    TransportError,
    UnexpectedContentType,
)
from tests.security.conftest import Arrived, Origin

LIMIT = 2**20
UNPACKED = 64 * 2**20


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """64 MB of zeros in 64 KB, packed while nobody measures."""
    packed: dict[str, bytes] = {}
    for name, bits in (("gzip", 31), ("deflate", 15)):
        press = zlib.compressobj(6, zlib.DEFLATED, bits)
        block = bytes(2**20)
        packed[name] = b"".join(press.compress(block) for _ in range(UNPACKED // 2**20)) + press.flush()
    return packed


@pytest.fixture
def flat() -> Iterator[None]:
    """Fail if Python's memory grows by more than a few times the limit."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        assert tracemalloc.get_traced_memory()[1] - before < 12 * LIMIT
    finally:
        tracemalloc.stop()


async def streamed(response: ClientResponse, way: str) -> int:
    """Read *response* one *way*, and return how many bytes came."""
    content = response.content
    ways: dict[str, Any] = {
        "iter_chunked": lambda: content.iter_chunked(65536),
        "iter_any": content.iter_any,
        "iter_chunks": content.iter_chunks,
        "lines": lambda: content,
    }
    if way == "read":
        return len(await response.read())
    if way == "readexactly":
        return len(await content.readexactly(UNPACKED))
    blocks: AsyncIterator[Any] = ways[way]()
    return sum([len(block[0] if way == "iter_chunks" else block) async for block in blocks])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_bomb_is_refused_and_memory_stays_flat(
    good: Origin, bombs: dict[str, bytes], flat: None, coding: str
) -> None:
    """S13: what counts are bytes after decompression, and nothing is tried again."""
    good.handler = good.reply(200, bombs[coding], Content_Encoding=coding)
    async with ApiClient(good.url, max_body=LIMIT) as client:
        with pytest.raises(BodyTooLarge, match="1048576 bytes") as caught:
            await client.get("/x")
    assert (len(good.requests), caught.value.attempts, caught.value.recoverable) == (1, 1, False)


@pytest.mark.parametrize("way", ["read", "iter_chunked", "iter_any", "iter_chunks", "readexactly"])
async def test_a_streamed_bomb_is_refused_however_it_is_read(
    good: Origin, bombs: dict[str, bytes], flat: None, way: str
) -> None:
    """S13: streaming has the same limit, whichever method takes the bytes."""
    good.handler = good.reply(200, bombs["gzip"], Content_Encoding="gzip")
    async with ApiClient(good.url, max_body=LIMIT) as client, client.get("/x") as response:
        with pytest.raises(BodyTooLarge):
            await streamed(response, way)
        assert response.closed


async def endless(_: Arrived, writer: asyncio.StreamWriter) -> None:
    """Answer with chunks for ever."""
    writer.write(b"HTTP/1.1 200 X\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + (b"x" * 511 + b"\n") * 8 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("way", ["read", "iter_any", "lines"])
async def test_an_endless_body_ends_at_the_limit(good: Origin, flat: None, way: str) -> None:
    """S13: no length is promised, and none is needed to stop."""
    good.handler = endless
    async with ApiClient(good.url, max_body=LIMIT) as client:
        with pytest.raises(BodyTooLarge):
            await client.get("/x")
        async with client.get("/x") as response:
            with pytest.raises(BodyTooLarge):
                await streamed(response, way)
        await asyncio.wait_for(good.closed.wait(), 5)


async def test_the_limit_is_the_calls_and_none_is_explicit(good: Origin) -> None:
    """S13: exactly at the limit passes, one more does not; ``max_body=None`` is a word that one has to say."""
    good.handler = good.reply(200, gzip.compress(b"x" * 5000), Content_Encoding="gzip")
    async with ApiClient(good.url, max_body=4999) as client:
        with pytest.raises(BodyTooLarge):
            await client.get("/x")
        assert len(await (await client.get("/x", max_body=5000)).read()) == 5000
        async with client.get("/x", max_body=None) as response:
            assert await streamed(response, "iter_chunked") == 5000
        async with client.get("/x", max_body=5000) as response:
            assert await streamed(response, "iter_chunks") == 5000
        async with client.get("/x", max_body=4999) as response:
            with pytest.raises(BodyTooLarge):
                await streamed(response, "iter_any")


async def test_a_capped_stream_is_a_stream(good: Origin) -> None:
    """What a limit stands before reads as it would without: lines, exact bytes, what is put back."""
    good.handler = good.reply(200, gzip.compress(b"ab\ncd\nefgh;ij"), Content_Encoding="gzip")
    async with ApiClient(good.url, max_body=13) as client, client.get("/x") as response:
        content: Any = response.content
        assert isinstance(content, CappedStream)
        assert await content.readline() == b"ab\n"
        assert await content.readexactly(2) == b"cd"
        assert await content.readuntil(b";") == b"\nefgh;"
        assert repr(content) == "<CappedStream 11 of 13 bytes>"
        assert await content.readany() + content.read_nowait() == b"ij"
        assert content.at_eof()


async def test_a_body_below_the_limit_is_too_short_and_not_too_large(good: Origin) -> None:
    """S13: more bytes were asked for than there are, or may be."""
    good.handler = good.reply(200, gzip.compress(b"fine"), Content_Encoding="gzip")
    async with ApiClient(good.url, max_body=100) as client, client.get("/x") as response:
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await response.content.readexactly(200)
        assert (caught.value.partial, caught.value.expected) == (b"fine", 200)


async def test_an_error_body_is_cut_and_still_tells(good: Origin) -> None:
    """S13: of an error the first 64 KB are read; a bomb costs nothing, and the error is still the error."""
    body = json.dumps({"error": "gone", "filler": "x" * 10}).encode() + b" " * 10 * 2**20
    good.handler = good.reply(404, gzip.compress(body), Content_Encoding="gzip")
    async with ApiClient(good.url) as client:
        with pytest.raises(NotFound) as caught:
            await client.get("/x")
    assert caught.value.problem is not None
    assert caught.value.problem.code == "gone"
    assert len(pickle.dumps(caught.value)) < 100_000


@pytest.mark.parametrize(
    "codings", ["gzip, gzip", "gzip,gzip,gzip,gzip,gzip,gzip,gzip", "br, gzip", "identity, gzip, x"]
)
@pytest.mark.parametrize("buffered", [True, False])
async def test_a_chain_of_codings_is_refused(good: Origin, codings: str, *, buffered: bool) -> None:
    """S14: one coding is decoded; more than one would reach the caller as compressed bytes."""
    good.handler = good.reply(200, gzip.compress(gzip.compress(b"{}")), Content_Encoding=codings)
    async with ApiClient(good.url) as client:
        call = client.get("/x")
        with pytest.raises(UnexpectedContentType, match="encoded"):
            await (call if buffered else call.__aenter__())
    assert len(good.requests) == 1


async def test_garbled_compression_is_an_error_and_no_crash(good: Origin) -> None:
    """S13: what cannot be unpacked is a broken answer."""
    good.handler = good.reply(200, b"this is no gzip", Content_Encoding="gzip")
    async with ApiClient(good.url) as client:
        with pytest.raises(ApiError):
            await client.get("/x", pipeline=client.pipeline.without(Retry))


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: 1\r\n" % n for n in range(1000)),
        b"X-Long: " + b"a" * 100_000 + b"\r\n",
        b"X-" + b"a" * 100_000 + b": 1\r\n",
    ],
)
async def test_headers_are_bounded_in_number_and_size(good: Origin, flat: None, headers: bytes) -> None:
    """S13: a thousand headers, or one of 100 KB, are no HTTP that is read."""

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n" + headers + b"Content-Length: 0\r\n\r\n")

    good.handler = answer
    async with ApiClient(good.url) as client:
        with pytest.raises(TransportError) as caught:
            await client.get("/x", pipeline=client.pipeline.without(Retry))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": NaN}', "NaN is no JSON value"),
        (b"[Infinity]", "Infinity is no JSON value"),
        (b'{"a": 1, "a": 2}', "same name twice"),
        (b'{"a": {"b": 1, "b": 2}}', "same name twice"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b'{"n": ' + b"9" * 5000 + b"}", "limit"),
        (b'{"a": ', "Expecting value"),
        (b'{"a": "\xff"}', "not utf-8"),
        (b"", None),
    ],
)
async def test_json_that_is_none_is_an_error_and_no_crash(good: Origin, body: bytes, message: str | None) -> None:
    """S15: broken, ambiguous and bottomless JSON end as one typed error, which is a ValueError as well."""
    good.handler = good.reply(200, body)
    async with ApiClient(good.url) as client:
        response = await client.get("/x")
        if message is None:
            assert await response.json() is None
            return
        with pytest.raises(InvalidJson, match=message) as caught:
            await response.json()
    assert isinstance(caught.value, json.JSONDecodeError)
    assert caught.value.doc == ""
    assert caught.value.__context__ is None
    assert pickle.loads(pickle.dumps(caught.value)).excerpt == caught.value.excerpt  # noqa: S301 - our own


@pytest.mark.parametrize(
    "body", [b"[" * 30_000, b'{"error":' * 7000, b'{"a": NaN, "error": "x"}', b'{"error":1,"error":2}']
)
async def test_a_hostile_error_body_is_an_error_and_no_crash(good: Origin, body: bytes) -> None:
    """S15: what an error says may be anything; it ends as that status' error."""
    good.handler = good.reply(404, body)
    async with ApiClient(good.url) as client:
        with pytest.raises(NotFound):
            await client.get("/x")


@pytest.mark.looptime
async def test_a_body_that_drips_ends_with_the_call(good: Origin) -> None:
    """S16: a byte now and then is no reason to wait longer than the call may take."""

    async def drip(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)

    good.handler = drip
    began = asyncio.get_running_loop().time()
    async with ApiClient(good.url) as client:
        with pytest.raises(DeadlineExceeded):
            await client.get("/x", timeout=4)
    assert asyncio.get_running_loop().time() - began == pytest.approx(4, abs=0.2)


@pytest.mark.looptime
@pytest.mark.parametrize(
    "value",
    [
        "99999999999999999999",
        "-1",
        "NaN",
        "inf",
        "1e400",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "\u0661",
        "1,2",
        " ",
        "9" * 4000,
    ],
)
async def test_no_retry_after_holds_the_client_up_or_crashes_it(good: Origin, value: str) -> None:
    """S17: nothing that a server says makes a call wait beyond its own time."""
    good.handler = good.reply(
        429, Retry_After=value.encode().decode("latin-1"), X_RateLimit_Reset=value.encode().decode("latin-1")
    )
    began = asyncio.get_running_loop().time()
    async with ApiClient(good.url) as client:
        with pytest.raises(ApiError):
            await client.get("/x", timeout=5)
    assert asyncio.get_running_loop().time() - began < 6
    assert len(good.requests) < 10


async def test_a_limit_stands_on_a_bare_session_where_the_policy_does(good: Origin) -> None:
    """``StatusErrors`` alone bounds the error body; a response of 200 is the session's own business."""
    good.handler = good.reply(404, gzip.compress(b'{"error": "gone"}' + b" " * 10 * 2**20), Content_Encoding="gzip")
    async with aiohttp.ClientSession(middlewares=(StatusErrors(max_body=1000),)) as session:
        with pytest.raises(NotFound) as caught:
            await session.get(good.url)
    assert caught.value.problem is not None
    assert caught.value.problem.code == "gone"


async def test_a_quota_that_cannot_be_waited_for_is_an_error(good: Origin) -> None:
    """S17: a wait beyond the deadline is not begun."""
    good.handler = good.reply(429, Retry_After="86400")
    async with ApiClient(good.url) as client:
        with pytest.raises((TooManyRequests, DeadlineExceeded)):
            await client.get("/x", timeout=5)
