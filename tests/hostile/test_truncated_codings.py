"""A compressed body that is cut off inside a whole HTTP message."""

import gzip

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


@pytest.mark.xfail(strict=True, reason="aiohttp 3.14 takes a reset for the orderly end of a body without a length")
@pytest.mark.parametrize("name", ["no length, reset", "no length, reset later"])
async def test_a_streamed_body_without_a_length_that_is_reset_is_no_success(name: str) -> None:
    """Buffered, it is known (see the table); the reader of a stream is told that it is whole."""
    async with facing(ROWS[name]) as (client, _):
        with pytest.raises(Exception, match="ended before"):
            async with client.get("/x") as response:
                await response.read()
