"""The watch, on a bare session and in a client's chain."""

from datetime import UTC, datetime

import aiohttp
import pytest
from sunset import Ending, SunsetWatch

from apiclient import ApiClient, default_pipeline
from apiclient.middleware import Retry
from apiclient.testing import MockTransport

LAST = {"Sunset": "Wed, 30 Jun 2027 23:59:59 GMT"}


@pytest.fixture
def api() -> MockTransport:
    transport = MockTransport()
    transport.get("/old").respond(headers=LAST)
    transport.get("/odd").respond(headers={"Deprecation": "@1688169599", "Sunset": "soon"})
    transport.get("/new").respond()
    return transport


async def test_each_endpoint_is_told_once(api: MockTransport) -> None:
    told: list[Ending] = []
    async with aiohttp.ClientSession("https://a.example", middlewares=(SunsetWatch(told.append), api)) as session:
        for path in ("/old?page=1", "/old?page=2", "/new", "/odd"):
            await session.get(path)
    assert [(each.url.path, each.until) for each in told] == [
        ("/old", datetime(2027, 6, 30, 23, 59, 59, tzinfo=UTC)),
        ("/odd", None),
    ]


async def test_it_hears_of_it_on_any_attempt(mock_api: MockTransport) -> None:
    told: list[Ending] = []
    mock_api.get("/flaky").respond(status=503, headers=LAST).respond()
    pipeline = default_pipeline().after(Retry, SunsetWatch(told.append))
    async with ApiClient("https://a.example", pipeline=pipeline) as client:
        await client.get("/flaky")
    assert len(told) == 1


async def test_it_remembers_no_more_than_it_may(api: MockTransport) -> None:
    told: list[Ending] = []
    async with aiohttp.ClientSession(
        "https://a.example", middlewares=(SunsetWatch(told.append, most=1), api)
    ) as session:
        await session.get("/old")
        await session.get("/odd")
    assert len(told) == 1


def test_its_options_are_checked() -> None:
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        SunsetWatch(print, most=0)
    assert repr(SunsetWatch(print)) == "SunsetWatch(0 told, most=1000)"
