"""Chaos: the same faults each time, and none unless asked for."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from apiclient.testing import Chaos, MockTransport

from .conftest import OpenSession

X = "http://a.test/x"
FAULTS = ("error", "status", "latency", "reset", "truncation", "slow_body")


async def outcomes(open_session: OpenSession, chaos: Chaos, number: int) -> list[str]:
    transport = MockTransport()
    transport.any().respond(body=b"0123456789")
    session, seen = open_session(chaos, transport), list[str]()
    for _ in range(number):
        try:
            # POST, since aiohttp itself would send an idempotent one again.
            async with session.post(X) as response:
                seen.append(f"{response.status} {len(await response.read())}")
        except aiohttp.ClientError as error:
            seen.append(type(error).__name__)
    return seen


async def test_off_by_default(open_session: OpenSession) -> None:
    """Whatever the rates, nothing happens before it is enabled."""
    chaos = Chaos(seed=1, error=1, status=1, reset=1, truncation=1)
    assert await outcomes(open_session, chaos, 3) == ["200 10"] * 3
    assert not chaos.injected


@pytest.mark.looptime
async def test_one_seed_one_series(open_session: OpenSession) -> None:
    """The same seed gives the same faults, another seed others."""
    rates: dict[str, Any] = dict.fromkeys(FAULTS, 0.2)
    first, second, other = [
        await outcomes(open_session, Chaos(seed=seed, enabled=True, **rates), 60) for seed in (7, 7, 8)
    ]
    assert first == second != other
    assert {"ClientConnectorError", "ClientOSError", "ClientPayloadError", "200 10"} <= set(first)


@pytest.mark.looptime
async def test_a_rate_leaves_the_other_faults_where_they_were(open_session: OpenSession) -> None:
    """Raising one rate adds faults of that kind and moves no other."""
    plain = await outcomes(open_session, Chaos(seed=3, error=0.3, enabled=True), 40)
    mixed = await outcomes(open_session, Chaos(seed=3, error=0.3, slow_body=0.5, latency=0.5, enabled=True), 40)
    assert plain == mixed
    assert 4 < plain.count("ClientConnectorError") < 20


@pytest.mark.parametrize(
    ("fault", "outcome", "sent"),
    [
        ("error", "ClientConnectorError", 0),
        ("status", "503", 0),
        ("reset", "ClientOSError", 1),
        ("truncation", "ClientPayloadError", 1),
    ],
)
async def test_what_a_fault_looks_like(open_session: OpenSession, fault: str, outcome: str, sent: int) -> None:
    """Error and status happen before anything is sent, reset and truncation after the server has answered."""
    rate: dict[str, Any] = {fault: 1.0}
    chaos = Chaos(seed=1, statuses=(503,), enabled=True, **rate)
    transport = MockTransport()
    transport.any().respond(body=b"0123456789")
    session = open_session(chaos, transport)
    try:
        response = await session.post(X)
        await response.read()
        seen = str(response.status)
        assert await response.text() == "Service Unavailable (chaos)\n"
    except aiohttp.ClientError as error:
        seen = type(error).__name__
    assert seen == outcome
    transport.assert_call_count(sent)
    assert chaos.injected == {fault: 1}


@pytest.mark.looptime
async def test_latency_and_slow_bodies_take_time(open_session: OpenSession) -> None:
    """Latency passes before the request is sent; a slow body takes its delay from the first wait to the last piece."""
    loop = asyncio.get_running_loop()
    transport = MockTransport()
    transport.any().respond(body=b"0123456789" * 3)
    chaos = Chaos(seed=1, latency=1.0, slow_body=1.0, delay=20.0, enabled=True)
    began = loop.time()
    response = await open_session(chaos, transport).get(X)
    assert transport.requests[0].time - began == pytest.approx(20.0)
    assert await response.read() == b"0123456789" * 3
    assert loop.time() - began == pytest.approx(40.0)


async def test_on_a_real_connection(open_session: OpenSession) -> None:
    """A broken body closes the connection that brought it, and leaves the pool clean for the next request."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=b"a" * 300_000)

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        chaos = Chaos(seed=1, truncation=1.0)
        session = open_session(chaos, connector=aiohttp.TCPConnector(limit=1))
        with chaos.on():
            for _ in range(3):
                response = await session.get(server.make_url("/"))
                assert response.connection is None
                with pytest.raises(aiohttp.ClientPayloadError, match="chaos stopped it"):
                    await response.read()
        assert not chaos.enabled
        assert len(await (await session.get(server.make_url("/"))).read()) == 300_000


async def test_a_lost_answer_leaks_no_connection(open_session: OpenSession) -> None:
    """A response that chaos throws away gives its connection back: a pool of one goes on serving."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=b"a" * 2_000_000)

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app) as server:
        chaos = Chaos(seed=1, reset=1.0, enabled=True)
        session = open_session(chaos, connector=aiohttp.TCPConnector(limit=1))
        for _ in range(3):
            with pytest.raises(aiohttp.ClientOSError, match="reset by chaos"):
                await session.post(server.make_url("/"))
        chaos.enabled = False
        assert len(await (await session.post(server.make_url("/"))).read()) == 2_000_000


@pytest.mark.looptime
async def test_only_what_happened_is_counted(open_session: OpenSession) -> None:
    """An attempt that is never sent has no answer to spoil, and no such fault is counted."""
    chaos = Chaos(seed=1, error=1.0, latency=1.0, reset=1.0, truncation=1.0, enabled=True)
    await outcomes(open_session, chaos, 2)
    assert chaos.injected == {"latency": 2, "error": 2}


async def test_a_slow_body_of_a_real_response_is_whole(open_session: OpenSession) -> None:
    """Slowing a body down changes none of its bytes."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=bytes(range(256)) * 1200)

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        chaos = Chaos(seed=1, slow_body=1.0, delay=0.0, enabled=True)
        response = await open_session(chaos).get(server.make_url("/"))
        assert await response.read() == bytes(range(256)) * 1200


async def test_only_some_requests(open_session: OpenSession) -> None:
    """A filter keeps the faults away from what it does not name, and takes no draw for it."""
    chaos = Chaos(seed=1, error=1.0, enabled=True, only=lambda request: request.url.path != "/token")
    transport = MockTransport()
    transport.any().respond()
    session = open_session(chaos, transport)
    assert (await session.get("http://a.test/token")).status == 200
    with pytest.raises(aiohttp.ClientConnectorError, match=r"a\.test:80 .*refused by chaos"):
        await session.get(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"error": 1.5}, "error must be from 0 to 1, got 1.5"),
        ({"slow_body": float("nan")}, "slow_body must be from 0 to 1, got nan"),
        ({"statuses": ()}, r"statuses must be some of 200 to 999, got \(\)"),
        ({"statuses": (99,)}, r"statuses must be some of 200 to 999, got \(99,\)"),
        ({"delay": -1}, "delay must be one number, or two in order, not negative and finite, got -1"),
        ({"delay": (2, 1)}, r"delay must be .*, got \(2, 1\)"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    """Options are checked in the constructor; the message names option and value."""
    with pytest.raises(ValueError, match=message):
        Chaos(seed=1, **options)


def test_repr() -> None:
    """The repr names the seed, the rates that are not zero, and whether it is on."""
    assert repr(Chaos(seed=1, error=0.25)) == "Chaos(seed=1, error=0.25, off)"
    assert repr(Chaos(seed=2, enabled=True)) == "Chaos(seed=2, enabled)"
