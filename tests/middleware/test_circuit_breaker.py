"""CircuitBreaker on a bare session against a real server on loopback, on virtual time."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web
from yarl import URL

from apiclient import ApiClient, Pipeline
from apiclient.middleware import errors
from apiclient.middleware._breaker import State
from apiclient.middleware._call import joined
from apiclient.middleware.attempt_timeout import AttemptTimeout
from apiclient.middleware.circuit_breaker import CircuitBreaker
from apiclient.middleware.deadline import Deadline
from apiclient.middleware.retry import Retry
from tests.conftest import Peer
from tests.integration.scripted import FINE, Close, Head, Scripted, Step

pytestmark = pytest.mark.looptime


def breaker(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(**({"minimum": 4, "cooldown": 5.0} | options))


async def get(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(url) as response:
        await response.read()
        return response.status


async def broken(client: aiohttp.ClientSession, peer: Peer) -> None:
    peer.answers(503)
    for _ in range(4):
        assert await get(client, peer.url) == 503


async def test_open_means_no_wire_request_at_all(peer: Peer) -> None:
    """Law 10: after it opened a thousand calls send nothing, and each says when to come back."""
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await broken(client, peer)
        assert subject.state(peer.url) is State.OPEN
        for _ in range(999):
            with pytest.raises(errors.CircuitOpen):
                await client.get(peer.url)
        with pytest.raises(errors.CircuitOpen) as caught:
            await client.get(peer.url)
        assert caught.value.retry_after == pytest.approx(5.0, abs=0.5)
        assert caught.value.origin == str(URL(peer.url).origin())
    assert peer.count == 4


async def test_it_recovers_through_probes(peer: Peer) -> None:
    """After the cooldown at most two of many callers probe, and their success closes it."""
    subject = breaker()

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await broken(client, peer)
        peer.handler = slow
        await asyncio.sleep(5)
        results = await asyncio.gather(*(get(client, peer.url) for _ in range(50)), return_exceptions=True)
        assert [result for result in results if result == 200] == [200, 200]
        assert peer.count == 6
        assert subject.state(peer.url) is State.CLOSED
        assert await get(client, peer.url) == 200


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 425, 429, 501, 505])
async def test_what_says_nothing_about_the_origin_never_opens_it(peer: Peer, status: int) -> None:
    """4xx, 429 and what the server does not support are no failures of it."""
    peer.answers(status)
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        for _ in range(50):
            assert await get(client, peer.url) == status
    assert subject.state(peer.url) is State.CLOSED


@pytest.mark.parametrize("status", [408, 425, 429])
async def test_what_says_neither_is_no_success_either(peer: Peer, status: int) -> None:
    """Many a 429 among the failures does not hide them."""
    peer.answers(503, 503, *[status] * 20, 503, 503)
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        for _ in range(24):
            await get(client, peer.url)
    assert subject.state(peer.url) is State.OPEN


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited(),
        errors.DeadlineExceeded(),
        errors.TokenUnavailable(),
        aiohttp.InvalidURL("x"),
        ZeroDivisionError(),
    ],
)
async def test_what_happened_on_this_side_never_opens_it(peer: Peer, error: Exception) -> None:
    """A refusal of the limiter, a full pool, a dead token or a bug say nothing about the origin."""

    async def fail(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        raise error

    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject, fail)) as client:
        for _ in range(50):
            with pytest.raises(type(error)):
                await client.get(peer.url)
    assert subject.state(peer.url) is State.CLOSED


async def test_dead_connections_of_the_pool_never_open_it() -> None:
    """A POST that met one is not sent again; the server has said nothing, though."""
    subject = breaker()
    kept: tuple[Step, ...] = (*FINE, Head(), Close())
    async with (
        Scripted(otherwise=kept) as server,
        ApiClient(server.url, pipeline=Pipeline([Retry(), subject])) as client,
    ):
        for _ in range(10):
            await client.get("/x")
            with pytest.raises(errors.OutcomeUnknown):
                await client.post("/x", json={})
        assert subject.state(server.url) is State.CLOSED


async def test_connections_refused_open_it(unused_tcp_port: int) -> None:
    """A host that is not there is down."""
    subject = breaker()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        # aiohttp reruns the chain for a ClientOSError of a GET: a POST is not rerun.
        for _ in range(4):
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.post(url)
        with pytest.raises(errors.CircuitOpen):
            await client.post(url)


async def test_a_cancelled_probe_gives_its_place_back(peer: Peer) -> None:
    """Half-open with one probe allowed: after the prober is cancelled, the next caller probes."""
    subject = breaker(probes=1)
    stall = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await broken(client, peer)
        await asyncio.sleep(5)
        peer.handler = hang
        for _ in range(3):
            prober = asyncio.create_task(get(client, peer.url))
            await asyncio.sleep(0.5)
            assert subject.state(peer.url) is State.HALF_OPEN
            with pytest.raises(errors.CircuitOpen):
                await client.get(peer.url)
            prober.cancel()
            with pytest.raises(asyncio.CancelledError):
                await prober
        stall.set()
        assert await get(client, peer.url) == 200
    assert subject.state(peer.url) is State.CLOSED


async def test_timeouts_of_attempts_open_it(peer: Peer) -> None:
    """A host that accepts and never answers is down."""
    stall = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    peer.handler = hang
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject, AttemptTimeout(1.0))) as client:
        for _ in range(4):
            with pytest.raises(errors.AttemptTimedOut):
                await client.get(peer.url)
        with pytest.raises(errors.CircuitOpen):
            await client.get(peer.url)
    stall.set()


async def test_a_host_that_hangs_opens_it_though_the_deadline_strikes_first(peer: Peer) -> None:
    """A call's time shorter than an attempt's must not hide a host that never answers."""
    stall = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    peer.handler = hang
    subject = breaker()
    chain = (Deadline(2.0), Retry(), subject, AttemptTimeout(30.0))
    async with aiohttp.ClientSession(middlewares=chain) as client:
        for _ in range(4):
            with pytest.raises(errors.DeadlineExceeded):
                await client.get(peer.url)
        with pytest.raises(errors.CircuitOpen):
            await client.get(peer.url)
    stall.set()


@pytest.mark.parametrize(("waiting", "by"), [(1.9, "deadline"), (0.0, "caller")])
async def test_time_lost_elsewhere_is_no_evidence(peer: Peer, waiting: float, by: str) -> None:
    """A call that spent its time in the limiter, or whose caller lost patience, says nothing about the host."""
    stall = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    async def limiter(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        assert call is not None
        await call.sleep(waiting, "limiter")
        return await handler(request)

    peer.handler = hang
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(Deadline(2.0), subject, limiter)) as client:
        for _ in range(8):
            with pytest.raises((errors.DeadlineExceeded, TimeoutError)):
                async with asyncio.timeout(1.9 if by == "caller" else None):
                    await client.get(peer.url)
    assert subject.state(peer.url) is State.CLOSED
    stall.set()


@pytest.mark.parametrize("limit", ["connect", "attempt"])
async def test_a_full_pool_never_opens_it(peer: Peer, limit: str) -> None:
    """Whether aiohttp's own limit or that of an attempt ends the wait for a connection."""
    stall = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await stall.wait()
        return web.Response()

    peer.handler = hang
    subject = breaker()
    chain: tuple[Any, ...] = (subject,) if limit == "connect" else (subject, AttemptTimeout(1.0))
    timeout = aiohttp.ClientTimeout(total=None, connect=1.0 if limit == "connect" else None)
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        holder = asyncio.ensure_future(get(client, peer.url))
        await asyncio.sleep(0.1)
        for _ in range(8):
            with pytest.raises((aiohttp.ConnectionTimeoutError, errors.AttemptTimedOut)):
                await client.get(peer.url, middlewares=chain)
        assert subject.state(peer.url) is State.CLOSED
        stall.set()
        assert await holder == 200
    assert peer.count == 1


async def test_a_host_that_swallows_packets_opens_it() -> None:
    """No connection within the time to connect is evidence against the host, unlike a full pool."""
    with socket.socket() as listener, contextlib.ExitStack() as backlog:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # The queue of connections not yet accepted: what comes after it gets no answer.
            filler = backlog.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        subject = breaker()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1.0)
        async with aiohttp.ClientSession(middlewares=(subject,), timeout=timeout) as client:
            for _ in range(4):
                with pytest.raises(aiohttp.ConnectionTimeoutError):
                    await client.get(url)
            with pytest.raises(errors.CircuitOpen):
                await client.get(url)


async def test_an_open_circuit_ends_a_call_and_its_retries(peer: Peer) -> None:
    """Inside Retry: four attempts open it, and the next call is refused without a single wait."""
    subject = breaker()
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(Retry(jitter=None), subject)) as client:
        assert await get(client, peer.url) == 503
        with pytest.raises(errors.CircuitOpen):
            await client.get(peer.url)
    assert peer.count == 4


async def test_slow_answers_open_it_where_asked_and_local_waits_do_not_count(peer: Peer) -> None:
    """Seconds in the limiter inside it are no slowness of the origin."""

    async def waiting(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = joined()
        assert call is not None
        await call.sleep(3.0, "limiter")
        return await handler(request)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return web.Response()

    patient, strict = breaker(slow=2.0), breaker(slow=2.0)
    async with aiohttp.ClientSession(middlewares=(patient, waiting)) as client:
        for _ in range(8):
            await get(client, peer.url)
    peer.handler = slow
    async with aiohttp.ClientSession(middlewares=(strict,)) as client:
        for _ in range(4):
            await get(client, peer.url)
    assert (patient.state(peer.url), strict.state(peer.url)) == (State.CLOSED, State.OPEN)


async def test_one_endpoint_may_be_down_alone(peer: Peer) -> None:
    """``per="endpoint"`` keeps a circuit for each."""
    subject = breaker(per="endpoint")
    peer.answers(503)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        for number in range(4):
            await get(client, f"{peer.url}/slow/{number}")
        with pytest.raises(errors.CircuitOpen):
            await client.get(f"{peer.url}/slow/9")
        assert await get(client, f"{peer.url}/fast") == 503
    assert subject.state(peer.url, "GET /slow/{}") is State.OPEN
    assert subject.state(peer.url, "GET /fast") is State.CLOSED
    with pytest.raises(ValueError, match="endpoint must be given"):
        subject.state(peer.url)


async def test_it_can_be_held_open_and_closed_by_hand(peer: Peer) -> None:
    """For maintenance, and against a breaker that is wrong."""
    subject = breaker()
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        subject.hold(peer.url, "open")
        with pytest.raises(errors.CircuitOpen) as caught:
            await client.get(peer.url)
        assert caught.value.retry_after is None
        subject.hold(peer.url, "closed")
        peer.answers(503)
        for _ in range(20):
            assert await get(client, peer.url) == 503
        subject.hold(peer.url, None)
        assert subject.states() == {str(URL(peer.url).origin()): State.CLOSED}
    assert peer.count == 20


async def test_each_change_is_an_event(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Opened as a warning with its reason, half-open and closed for information."""
    subject = breaker(probes=1)
    with caplog.at_level(logging.INFO, "apiclient"):
        async with aiohttp.ClientSession(middlewares=(subject,)) as client:
            await broken(client, peer)
            await asyncio.sleep(5)
            peer.answers(200)
            await get(client, peer.url)
    events = [(record.message, record.levelname) for record in caplog.records if record.message.startswith("breaker.")]
    assert events == [("breaker.opened", "WARNING"), ("breaker.half_open", "INFO"), ("breaker.closed", "INFO")]
    assert vars(caplog.records[0])["reason"] == "of 4 attempts 4 failed and 0 were slow"


class Hints:
    """What processes tell one another, without a store between them."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.published: list[tuple[str, float]] = []
        self.asked = 0

    def __repr__(self) -> str:
        return "Hints()"

    def publish(self, key: str, seconds: float) -> None:
        self.published.append((key, seconds))

    def hinted(self, key: str) -> bool:
        self.asked += 1
        return key in self.known


async def test_what_opens_here_is_told_to_others_until_its_cooldown_ends(peer: Peer) -> None:
    """Once per opening, also of a failed probe; never for longer than the longest cooldown, whatever Retry-After says."""
    hints = Hints()
    subject = breaker(hints=hints, max_cooldown=20.0)
    origin = str(URL(peer.url).origin())
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        await broken(client, peer)
        await asyncio.sleep(5)
        peer.answers(503, headers={"Retry-After": "600"})
        await get(client, peer.url)
        subject.hold(peer.url, "open")
    assert hints.published == [(origin, pytest.approx(5.0, abs=0.1)), (origin, 20.0)]


async def test_a_hint_from_a_bad_host_stops_nobody_who_gets_through(peer: Peer) -> None:
    """While its own attempts succeed a hint changes nothing, and nobody even asks for one."""
    hints = Hints()
    hints.known.add(str(URL(peer.url).origin()))
    subject = breaker(hints=hints, minimum=20)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        for _ in range(50):
            assert await get(client, peer.url) == 200
        peer.answers(404, 429)
        assert [await get(client, peer.url) for _ in range(2)] == [404, 429]
        assert hints.asked == 0
        for _ in range(12):
            peer.answers(200, 503, 200)
            assert [await get(client, peer.url) for _ in range(3)] == [200, 503, 200]
            await asyncio.sleep(3)
        assert hints.asked == 12
    assert subject.state(peer.url) is State.CLOSED
    assert hints.published == []


async def test_a_hint_that_its_own_failures_confirm_opens_it_early(peer: Peer) -> None:
    """Five attempts instead of twenty; and what opened on hearsay is passed on to nobody."""
    hints = Hints()
    hints.known.add(str(URL(peer.url).origin()))
    subject = breaker(hints=hints, minimum=20)
    async with aiohttp.ClientSession(middlewares=(subject,)) as client:
        peer.answers(503)
        for _ in range(5):
            await get(client, peer.url)
        with pytest.raises(errors.CircuitOpen):
            await client.get(peer.url)
    assert (peer.count, hints.published) == (5, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failure_ratio": 0}, "failure_ratio must be above 0 and at most 1, got 0"),
        ({"slow_ratio": 1.5}, "slow_ratio must be above 0 and at most 1, got 1.5"),
        ({"minimum": 0}, "minimum must be at least 1, got 0"),
        ({"probes": 0}, "probes must be at least 1, got 0"),
        ({"window": 0}, "window must be above 0 seconds and finite, got 0"),
        ({"cooldown": float("inf")}, "cooldown must be above 0 seconds and finite, got inf"),
        ({"growth": 0.5}, "growth must be at least 1, got 0.5"),
        ({"slow": 0}, "slow must be above 0 seconds, got 0"),
        ({"per": "host"}, "per must be 'origin' or 'endpoint', got 'host'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    """Options out of range fail in the constructor with their name and value."""
    with pytest.raises(ValueError, match=message):
        CircuitBreaker(**options)


def test_the_repr_tells_the_options() -> None:
    """A person sees when it opens."""
    assert repr(CircuitBreaker()) == "CircuitBreaker(failure_ratio=0.5, cooldown=5)"
    assert (
        repr(CircuitBreaker(slow=2, per="endpoint"))
        == "CircuitBreaker(failure_ratio=0.5, cooldown=5, slow=2, per='endpoint')"
    )
    assert repr(CircuitBreaker(hints=Hints())) == "CircuitBreaker(failure_ratio=0.5, cooldown=5, hints=Hints())"
