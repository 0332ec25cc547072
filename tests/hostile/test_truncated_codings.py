"""A compressed body that is cut off inside a whole HTTP message, and one that is not."""

import gzip
import random
import zlib
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, errors
from tests.hostile.rows import ASK, OK, ROWS, sized
from tests.hostile.test_wire import facing
from tests.integration.scripted import Close, Drip, Scripted, Send, Serve, Step

pytestmark = pytest.mark.looptime
# Incompressible, so that half of the coded bytes is half of the body.
BODY = random.Random(1).randbytes(3000)


def headless(data: bytes) -> bytes:
    """The deflate of servers that leave zlib's header out."""
    return zlib.compress(data)[2:-4]


CODED: dict[str, tuple[bytes, bytes]] = {
    "gzip": (b"gzip", gzip.compress(BODY)),
    "x-gzip": (b"X-Gzip", gzip.compress(BODY)),
    "two members": (b"gzip", gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:])),
    "deflate": (b"deflate", zlib.compress(BODY)),
    "deflate without its header": (b"deflate", headless(BODY)),
}
# How many bytes are missing.
CUTS = {"the last byte": 1, "its second half": 1500}


def answer(coding: bytes, body: bytes) -> bytes:
    return sized(body, OK + b"Content-Encoding: " + coding + b"\r\n")


@pytest.mark.parametrize("most", [100_000, None])
@pytest.mark.parametrize("missing", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", CODED)
async def test_a_coding_that_is_cut_off_is_no_success(name: str, missing: int, most: int | None) -> None:
    """A proxy that ends the message properly when its own upstream broke leaves only the coding to tell."""
    coding, body = CODED[name]
    script = (*ASK, Send(answer(coding, body[:-missing])), Close())
    async with Scripted(otherwise=script) as server, ApiClient(server.url) as client:
        with pytest.raises(errors.ResponseBroken) as caught:
            await client.get("/x", max_body=most)
        assert caught.value.attempts == server.wire == 4


@pytest.mark.parametrize("name", CODED)
async def test_a_coding_that_comes_to_its_end_later_is_waited_for(name: str) -> None:
    """The end byte by byte, on a connection that is kept: one attempt."""
    whole = answer(*CODED[name])
    script: tuple[Step, ...] = (*ASK, Send(whole[:-50]), Drip(whole[-50:], 0.001), Serve())
    async with Scripted(script) as server, ApiClient(server.url, connections=1) as client:
        assert await (await client.get("/x")).read() == BODY
        assert await (await client.get("/after")).text() == "fine"
        assert server.connections == 1


@pytest.mark.parametrize("status", [b"404 No", b"502 Bad"])
async def test_an_error_whose_coding_is_cut_off_is_that_error(status: bytes) -> None:
    """What came of its body is all that can be shown; the status is known."""
    body = gzip.compress(b'{"error": "broken"}')[:-9]
    head = b"HTTP/1.1 %b\r\nContent-Encoding: gzip\r\n" % status
    async with Scripted(otherwise=(*ASK, Send(sized(body, head)), Close())) as server, ApiClient(server.url) as client:
        with pytest.raises(errors.StatusError) as caught:
            await client.get("/x")
        assert caught.value.status == int(status[:3])


@pytest.mark.parametrize("way", ["read", "iter_any", "iter_chunks", "readline", "read_some", "to_the_end"])
@pytest.mark.parametrize("name", CODED)
async def test_a_streamed_coding_that_is_cut_off_is_no_success(name: str, way: str) -> None:
    """However it is read, what is there comes first, and then the error."""
    coding, body = CODED[name]
    script = (*ASK, Send(answer(coding, body[:-1])), Serve())
    async with Scripted(script) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(aiohttp.ClientPayloadError, match="Content-Encoding"):
            async with client.get("/x") as response:
                await WAYS[way](response)
        assert await (await client.get("/after")).text() == "fine"


@pytest.mark.parametrize("most", [100, None])
@pytest.mark.parametrize("way", ["read", "iter_any", "iter_chunks", "readline", "read_some"])
@pytest.mark.parametrize("name", ["no length, reset", "no length, reset later"])
async def test_a_streamed_body_without_a_length_that_is_reset_is_no_success(
    name: str, way: str, most: int | None
) -> None:
    """However it is read, limited or not: aiohttp 3.14 takes the reset for the orderly end."""
    async with facing(ROWS[name]) as (client, _):
        with pytest.raises(aiohttp.ClientPayloadError, match="ended before"):
            async with client.get("/x", max_body=most) as response:
                await WAYS[way](response)


async def _all(blocks: AsyncIterable[Any]) -> None:
    async for _ in blocks:
        pass


async def _some(response: aiohttp.ClientResponse) -> None:
    while await response.content.read(2):
        pass


async def _to_the_end(response: aiohttp.ClientResponse) -> None:
    while not response.content.at_eof():
        await response.content.readany()


WAYS: dict[str, Callable[[aiohttp.ClientResponse], Awaitable[Any]]] = {
    "read": lambda response: response.read(),
    "iter_any": lambda response: _all(response.content.iter_any()),
    "iter_chunks": lambda response: _all(response.content.iter_chunks()),
    "readline": lambda response: _all(response.content),
    "read_some": _some,
    "to_the_end": _to_the_end,
}
