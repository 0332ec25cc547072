"""A compressed body that is cut off inside a whole HTTP message."""

import gzip
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, errors
from tests.hostile.rows import ASK, GZIP, ROWS, sized
from tests.hostile.test_wire import facing
from tests.integration.scripted import Close, Scripted, Send

pytestmark = pytest.mark.looptime
CUTS = {"in the data": gzip.compress(b"fine" * 100)[:-30], "before the trailer": gzip.compress(b"fine")[:-8]}


@pytest.mark.xfail(strict=True, reason="aiohttp 3.14 checks the end of deflate, and not that of gzip")
@pytest.mark.parametrize("cut", CUTS)
async def test_gzip_that_is_cut_off_is_no_success(cut: str) -> None:
    """A proxy that ends the message properly when its own upstream broke leaves only the coding to tell."""
    script = (*ASK, Send(sized(CUTS[cut], GZIP)), Close())
    async with Scripted(otherwise=script) as server, ApiClient(server.url) as client:
        with pytest.raises(errors.ResponseBroken):
            await client.get("/x")


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


WAYS: dict[str, Callable[[aiohttp.ClientResponse], Awaitable[Any]]] = {
    "read": lambda response: response.read(),
    "iter_any": lambda response: _all(response.content.iter_any()),
    "iter_chunks": lambda response: _all(response.content.iter_chunks()),
    "readline": lambda response: _all(response.content),
    "read_some": _some,
}
