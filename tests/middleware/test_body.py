import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientRequest, ClientResponse, ClientSession, FormData, web

from apiclient.middleware._body import cap, discard, head_of, read_body, replayable
from apiclient.middleware.errors import BodyTooLarge, UnexpectedContentType
from tests.conftest import Peer

BODY = b"0123456789" * 1000


async def blocks() -> AsyncIterator[bytes]:
    yield b"once"


def pipe() -> Any:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (lambda: None, True),
        (lambda: b"", True),
        (lambda: b"x", True),
        (lambda: bytearray(b"x"), True),
        (lambda: memoryview(b"x"), True),
        (lambda: "x", True),
        (lambda: {"a": "b"}, True),
        (lambda: FormData({"a": "b"}), True),
        (lambda: io.BytesIO(b"x"), True),
        (lambda: io.StringIO("x"), True),
        (blocks, False),
        (pipe, False),
    ],
)
async def test_what_can_be_sent_twice_is_the_same_twice(peer: Peer, data: Callable[[], Any], *, again: bool) -> None:
    """Law 2: asked before the first attempt and before the second, the answer is right for each kind of body."""
    asked: list[bool] = []

    async def twice(request: ClientRequest, handler: aiohttp.ClientHandlerType) -> ClientResponse:
        first = replayable(request)
        response = await handler(request)
        asked.extend([first, replayable(request)])
        if all(asked):
            discard(response, request)
            response = await handler(request)
        return response

    async with ClientSession(middlewares=(twice,)) as session:
        await session.post(peer.url, data=data())
    assert all(asked) is again
    assert peer.count == (2 if again else 1)
    assert len({seen[2] for seen in peer.seen}) == 1


async def test_what_expects_a_go_ahead_is_not_sent_twice(peer: Peer) -> None:
    """``Expect: 100-continue`` does not survive a resend."""
    asked: list[bool] = []

    async def ask(request: ClientRequest, handler: aiohttp.ClientHandlerType) -> ClientResponse:
        asked.append(replayable(request))
        return await handler(request)

    async with ClientSession(middlewares=(ask,)) as session:
        await session.post(peer.url, data=b"x", expect100=True)
    assert asked == [False]


def serve(peer: Peer, body: bytes = BODY, **headers: str) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    peer.handler = handler


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("limit", "fits"), [(None, True), (10_000, True), (9_999, False), (1, False)])
async def test_a_body_is_read_up_to_the_limit(peer: Peer, *, packed: bool, limit: int | None, fits: bool) -> None:
    """Exactly the limit passes; one byte more closes the connection; packed bytes count unpacked."""
    serve(peer, gzip.compress(BODY) if packed else BODY, **({"Content_Encoding": "gzip"} if packed else {}))
    async with ClientSession() as session:
        response = await session.get(peer.url)
        if fits:
            await read_body(response, limit)
            assert await response.read() == BODY
        else:
            with pytest.raises(BodyTooLarge, match=f"limit of {limit} bytes"):
                await read_body(response, limit)
            assert response.closed
            assert response.connection is None


async def test_the_beginning_of_a_body_is_had_in_any_case(peer: Peer) -> None:
    """``head_of`` never raises: what fits stays readable, what is longer is cut, what is broken is empty."""
    serve(peer)
    async with ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        response = await session.get(peer.url)
        assert await head_of(response, 10_000) == BODY
        assert await response.read() == BODY
        response = await session.get(peer.url)
        assert await head_of(response, 25) == BODY[:25]
        assert response.closed
        serve(peer, b"no gzip", Content_Encoding="gzip")
        assert await head_of(await session.get(peer.url)) == b""
        serve(peer, b"{}", Content_Encoding="gzip, gzip")
        assert await head_of(await session.get(peer.url)) == b""
        serve(peer, b"")
        assert await head_of(await session.head(peer.url)) == b""


async def test_a_head_of_a_large_resource_is_no_large_body(peer: Peer) -> None:
    """HEAD promises a length that never comes."""
    serve(peer)
    async with ClientSession() as session:
        response = await session.head(peer.url)
        assert response.content_length == 10_000
        await read_body(response, 10)
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("codings", "refused"),
    [
        ("", False),
        ("gzip", False),
        ("identity", False),
        ("identity, gzip", False),
        ("gzip, gzip", True),
        ("gzip,br,zstd", True),
    ],
)
async def test_more_than_one_coding_is_refused(peer: Peer, codings: str, *, refused: bool) -> None:
    """Aiohttp decodes one; ``identity`` is none (RFC 9110 section 12.5.3)."""
    serve(peer, gzip.compress(b"{}"), Content_Encoding=codings)
    async with ClientSession(auto_decompress=False) as session:
        response = await session.get(peer.url)
        if refused:
            with pytest.raises(UnexpectedContentType, match="encoded"):
                cap(response, None)
            assert response.closed
        else:
            cap(response, None)
            assert await response.read() == gzip.compress(b"{}")


async def test_what_surely_fits_is_read_without_a_detour(peer: Peer) -> None:
    """A length within the limit, and no limit, leave aiohttp's own stream in place."""
    serve(peer)
    async with ClientSession() as session:
        for limit in (None, 10_000):
            response = await session.get(peer.url)
            cap(response, limit)
            assert isinstance(response.content, aiohttp.StreamReader)
            assert await response.read() == BODY


async def test_a_discarded_answer_keeps_its_cookies(peer: Peer) -> None:
    """FACTS 1.7: a cookie of an answer that is not returned goes out with the resend."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.Response()
        response.set_cookie("session", "abc")
        return response

    async def twice(request: ClientRequest, handler: aiohttp.ClientHandlerType) -> ClientResponse:
        discard(await handler(request), request)
        return await handler(request)

    peer.handler = handler
    async with ClientSession(middlewares=(twice,), cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        await session.get(peer.url)
    assert peer.headers[1]["Cookie"] == "session=abc"
