"""A full outage and its end: 200 calls a second, on virtual time, over real sockets."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient.middleware import errors
from apiclient.middleware._breaker import State
from apiclient.middleware.circuit_breaker import CircuitBreaker
from apiclient.middleware.retry import Retry
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
RATE = 200
OUTAGE = 10.0
AFTER = 4.0


class Outage:
    """Fails everything for ten seconds, and notes when each wire request came."""

    def __init__(self, peer: Peer, headers: dict[str, str] | None = None) -> None:
        self.times: list[float] = []
        self.ends = asyncio.get_running_loop().time() + OUTAGE
        self.headers = headers
        peer.handler = self

    async def __call__(self, _: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        self.times.append(now)
        return web.Response(status=503, headers=self.headers) if now < self.ends else web.Response()

    @property
    def during(self) -> int:
        return sum(1 for at in self.times if at < self.ends)

    def most_after(self, window: float = 0.1) -> int:
        """Return the most wire requests in any window of that length that begins after the end."""
        after = [at for at in self.times if at >= self.ends]
        return max(sum(1 for at in after if start <= at < start + window) for start in after)


async def offered(client: aiohttp.ClientSession, url: str, seconds: float) -> list[int | BaseException]:
    """Make calls at the rate, evenly, none waiting for another; return how each ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def call(number: int) -> int:
        await asyncio.sleep(began + number / RATE - loop.time())
        async with client.get(url) as response:
            return response.status

    return await asyncio.gather(*(call(number) for number in range(int(RATE * seconds))), return_exceptions=True)


@pytest.mark.parametrize("headers", [None, {"Retry-After": "1"}])
async def test_the_wire_carries_little_more_than_the_calls_while_the_server_fails(
    peer: Peer, headers: dict[str, str] | None
) -> None:
    """Law 10: 2,000 calls, at most 1.2 times as many wire requests and the floor of 100; then no herd."""
    outage = Outage(peer, headers)
    calls = int(RATE * OUTAGE)
    async with aiohttp.ClientSession(middlewares=(Retry(),)) as client:
        results = await offered(client, peer.url, OUTAGE + AFTER)
    assert calls <= outage.during <= 1.2 * calls + 100
    assert outage.most_after() <= 1.5 * RATE / 10
    assert results[-RATE:] == [200] * RATE


async def test_with_a_circuit_breaker_hardly_anything_leaves(peer: Peer) -> None:
    """Some tens of requests to learn that it is down, then only probes; and it is found up again."""
    outage = Outage(peer)
    breaker = CircuitBreaker(cooldown=1.0, max_cooldown=2.0)
    async with aiohttp.ClientSession(middlewares=(Retry(), breaker)) as client:
        results = await offered(client, peer.url, OUTAGE + AFTER)
    assert outage.during < 100
    assert outage.most_after() <= 1.5 * RATE / 10
    assert sum(isinstance(result, errors.CircuitOpen) for result in results) > 0.9 * RATE * OUTAGE
    assert breaker.state(peer.url) is State.CLOSED
    assert results[-RATE:] == [200] * RATE


async def test_a_blip_costs_no_call(peer: Peer) -> None:
    """A failure of 50 ms disappears: every call succeeds."""
    outage = Outage(peer)
    outage.ends -= OUTAGE - 0.05
    draws: Callable[[], float] = iter([0.9] * 10_000).__next__
    options: dict[str, Any] = {"random": draws}
    async with aiohttp.ClientSession(middlewares=(Retry(**options),)) as client:
        results = await offered(client, peer.url, 1.0)
    assert results == [200] * RATE
