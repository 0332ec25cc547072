import asyncio
import json
import math
import re
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse, web
from yarl import URL

from apiclient.middleware import RateLimit
from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._parsing.quota import Quota
from apiclient.testing import FixedWindow
from apiclient.testing._models import Verdict
from tests.conftest import Peer
from tests.middleware.quotas import Quotas, batch, lanes

pytestmark = pytest.mark.looptime


async def test_what_was_learned_serves_the_next_run(peer: Peer) -> None:
    """Exported as plain data and given again: not one refusal."""
    peer.handler = Quotas(lambda: FixedWindow(5))
    policy = RateLimit()
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        await batch(session, f"{peer.url}/a", 12)
    learned = json.loads(json.dumps(policy.learned()))
    assert [entry["limits"] for entry in learned.values()] == [[{"rate": "5/1s", "fixed": True, "exact": True}]]
    peer.handler = quotas = Quotas(lambda: FixedWindow(5))
    async with aiohttp.ClientSession(middlewares=(RateLimit(learned=learned),)) as session:
        await batch(session, f"{peer.url}/a", 12)
    assert quotas.rejected == 0


async def test_what_was_learned_long_ago_is_only_a_hint(peer: Peer) -> None:
    """An hour later the limit may be another: it is tried, and then one more."""
    learned = {f"{peer.url} GET /a": {"at": 0.0, "limits": [{"rate": "5/1s"}]}}
    peer.handler = quotas = Quotas(lambda: FixedWindow(5))
    async with aiohttp.ClientSession(middlewares=(RateLimit(learned=learned),)) as session:
        await batch(session, f"{peer.url}/a", 12)
    assert quotas.rejected == 1


@pytest.mark.parametrize("entry", [{}, {"at": "now", "limits": []}, {"at": 1.0, "limits": [{"rate": "many"}]}, None])
def test_learned_limits_that_are_none_are_refused(entry: object) -> None:
    """The message names the entry."""
    with pytest.raises(ValueError, match=re.escape("learned['http://a.test GET /a']")):
        RateLimit(learned={"http://a.test GET /a": entry})


def _usual(server: FixedWindow, verdict: Verdict) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(server.limit),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Reset": f"{math.ceil(verdict.reset)}",
    }


def _draft_8(server: FixedWindow, verdict: Verdict) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"default";q={server.limit};w=1',
        "RateLimit": f'"default";r={verdict.remaining};t={math.ceil(verdict.reset)}',
    }


def _aspnetcore(_: FixedWindow, verdict: Verdict) -> dict[str, str]:
    return {"X-Rate-Limit-Limit": "1s", "X-Rate-Limit-Remaining": str(verdict.remaining)}


@pytest.mark.parametrize("state", [_usual, _draft_8, _aspnetcore], ids=["usual", "draft-8", "aspnetcore"])
async def test_headers_on_success_are_enough(
    peer: Peer, state: Callable[[FixedWindow, Verdict], dict[str, str]]
) -> None:
    """A server that states its limit never has to refuse."""
    server = FixedWindow(5)

    async def handler(_: web.Request) -> web.StreamResponse:
        verdict = server.arrive(asyncio.get_running_loop().time())
        return web.Response(status=200 if verdict.accepted else 429, headers=state(server, verdict))

    peer.handler = handler
    policy = RateLimit()
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        assert await batch(session, peer.url, 30) == [200] * 30
    assert server.rejected == 0
    assert [(meter.limit, meter.period) for meter in lanes(policy)[0].pacer.meters] == [(5, 1.0)]


@pytest.mark.parametrize(
    ("headers", "options", "status"),
    [
        ({"Retry-After": "1"}, {"also": (503,)}, 200),
        ({}, {"also": (503,)}, 503),
        ({}, {"statuses": (429, 503)}, 200),
        ({"Retry-After": "1"}, {}, 503),
    ],
)
async def test_other_statuses_can_mean_a_limit(
    peer: Peer, headers: dict[str, str], options: dict[str, Any], status: int
) -> None:
    """503, and 403, by option: with a sign of a limit, or always."""
    peer.answers(503, 200, headers=headers)
    async with aiohttp.ClientSession(middlewares=(RateLimit(**options),)) as session:
        assert await batch(session, peer.url, 1) == [status]


async def test_buckets_of_two_apis_are_two_though_their_names_are_one(peer: Peer) -> None:
    """A partition key names a bucket of its server: what is used up there says nothing of another's."""
    policy = RateLimit()
    peer.answers(200, headers={"RateLimit-Policy": '"default";q=3;w=60;pk=:dXNlcg==:'})
    connector = aiohttp.TCPConnector(family=socket.AF_INET)
    async with aiohttp.ClientSession(middlewares=(policy,), connector=connector) as session:
        for host in ("127.0.0.1", "localhost"):
            for path in ("a", "b", "c"):
                await batch(session, f"http://{host}:{URL(peer.url).port}/{path}", 1)
    one, other = ({id(each.pacer.meters[0]) for each in lanes(policy)[i : i + 3]} for i in (0, 3))
    assert len(one) == len(other) == 1
    assert one != other


async def test_an_odd_api_has_a_reader_of_its_own(peer: Peer) -> None:
    """A function reads what no standard says."""

    def read(response: ClientResponse) -> list[Quota]:
        return [Quota(int(response.headers["Calls-Per-Minute"]), 60.0, None, None, None, None, "own")]

    policy = RateLimit(read=read)
    peer.answers(200, headers={"Calls-Per-Minute": "9"})
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        await batch(session, peer.url, 1)
    assert [each.pacer.lessons for each in lanes(policy)] == [[Lesson(9, 60.0)]]


async def test_a_reader_that_fails_leaks_no_connection(peer: Peer) -> None:
    """Its exception reaches the caller, the response is closed."""
    connector = aiohttp.TCPConnector(limit=1)
    policy = RateLimit(read=lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    peer.handler = large
    async with aiohttp.ClientSession(connector=connector, middlewares=(policy,)) as session:
        kept: list[BaseException] = []  # A traceback would keep the response alive, and with it the connection.
        for _ in range(3):
            with pytest.raises(ZeroDivisionError) as caught:
                await asyncio.wait_for(batch(session, peer.url, 1), 5)
            kept.append(caught.value)
    assert not lanes(policy)[0].pacer.flights


async def test_an_endpoint_that_never_had_a_limit_gets_one(peer: Peer) -> None:
    """Hundreds of requests passed without a slot; then the server begins to count, and the limit is learned."""
    policy = RateLimit()
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        for _ in range(10):
            await batch(session, f"{peer.url}/a", 60)
        (lane,) = lanes(policy)
        assert lane.pacer.free(lane.time())
        peer.handler = quotas = Quotas(lambda: FixedWindow(5))
        assert await batch(session, f"{peer.url}/a", 30) == [200] * 30
        assert await batch(session, f"{peer.url}/a", 30) == [200] * 30
    assert quotas.rejected <= 25
    assert [str(lesson.limit) for lesson in lane.pacer.lessons] == ["5"]
    assert lane.pacer.passing == 0
    assert not lane.pacer.flights


async def large(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 5_000_000)
