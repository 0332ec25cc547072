import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient.middleware import RateLimit
from apiclient.middleware._call import calling
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.testing import FixedWindow, QuotaServer, SlidingLog
from tests.conftest import Peer
from tests.middleware.quotas import BareRequest, BareResponse, Quotas, a_call, batch, lanes, within

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("make", [lambda: FixedWindow(5), lambda: SlidingLog(5)], ids=["fixed", "log"])
async def test_a_told_limit_is_used_up_and_never_exceeded(peer: Peer, make: Callable[[], QuotaServer]) -> None:
    """20 requests at 5/s take three periods and a little, and none is refused."""
    peer.handler = quotas = Quotas(make)
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="5/1s"),)) as session:
        began = loop.time()
        assert await batch(session, f"{peer.url}/a", 20) == [200] * 20
    assert quotas.rejected == 0
    assert loop.time() - began < 3.1


async def test_a_limit_is_learned_from_the_text_of_a_429(peer: Peer) -> None:
    """Nobody configured anything: two refusals at the start, then the quota to the full."""
    peer.handler = quotas = Quotas(lambda: FixedWindow(5))
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(RateLimit(),)) as session:
        began = loop.time()
        assert await batch(session, f"{peer.url}/a", 40) == [200] * 40
    assert quotas.rejected <= 2
    assert loop.time() - began < 7.2


async def test_a_429_pauses_the_endpoint_for_everybody_and_no_other(peer: Peer) -> None:
    """While one endpoint is paused, its siblings wait, and another endpoint goes on."""
    first = True
    times: dict[str, list[float]] = {"/a": [], "/b": []}
    loop = asyncio.get_running_loop()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal first
        times[request.path].append(loop.time())
        if request.path == "/a" and first:
            first = False
            return web.Response(status=429, headers={"Retry-After": "7"})
        return web.Response()

    peer.handler = handler
    async with aiohttp.ClientSession(middlewares=(RateLimit(),)) as session:
        began = loop.time()
        rejected = asyncio.create_task(batch(session, f"{peer.url}/a", 1))
        while not times["/a"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        results = await asyncio.gather(rejected, batch(session, f"{peer.url}/a", 3), batch(session, f"{peer.url}/b", 3))
    assert list(results) == [[200], [200] * 3, [200] * 3]
    assert [time - began >= 7 for time in times["/a"]] == [False, True, True, True, True]
    assert all(time - began < 1 for time in times["/b"])


async def test_a_wait_beyond_the_deadline_is_not_begun(peer: Peer) -> None:
    """The call fails at once and says how long it would have waited."""
    policy = RateLimit(default="1/10s")
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(within(2.0), policy)) as session:
        assert await batch(session, peer.url, 1) == [200]
        began = loop.time()
        with pytest.raises(RateLimited) as caught:
            await batch(session, peer.url, 1)
        assert loop.time() - began < 0.1
    assert caught.value.would_have_waited == pytest.approx(10, abs=0.2)
    assert peer.count == 1


async def test_a_retry_after_beyond_the_deadline_ends_everybody_who_waits(peer: Peer) -> None:
    """The pause of one 429 refuses its siblings in the queue at once, too."""
    peer.answers(429, headers={"Retry-After": "30"})
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(within(5.0), RateLimit(default="1/3s"))) as session:
        began = loop.time()
        outcomes = await asyncio.gather(*(batch(session, peer.url, 1) for _ in range(2)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RateLimited, RateLimited]
        assert loop.time() - began < 0.1
    assert peer.count == 1


async def test_a_cancelled_waiter_leaves_no_trace(peer: Peer) -> None:
    """Half of the queue is cancelled: the other half is served in the time that it needs alone."""
    policy = RateLimit(default="5/1s")
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        began = loop.time()
        tasks = [asyncio.create_task(batch(session, peer.url, 1)) for _ in range(40)]
        await asyncio.sleep(0.2)
        for task in tasks[5::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(1 for each in done if each == [200]) == peer.count == 22
    assert loop.time() - began < 4.1
    (lane,) = lanes(policy)
    assert not lane.pacer.flights
    assert not lane.pacer.queue


async def test_a_slot_whose_request_never_left_is_given_back(peer: Peer) -> None:
    """A connection that cannot be made takes nothing of the quota."""
    policy = RateLimit(default="2/10s", key=lambda _: "one")
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        for _ in range(5):
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post("http://127.0.0.1:1/")
        assert await asyncio.wait_for(batch(session, peer.url, 2), 1) == [200, 200]


async def test_a_rejected_post_is_sent_again_with_its_body(peer: Peer) -> None:
    """A 429 is a definite refusal: a POST without key may go again, whole."""
    peer.answers(429, 200, headers={"Retry-After": "1"})
    async with (
        aiohttp.ClientSession(middlewares=(RateLimit(),)) as session,
        session.post(peer.url, json={"a": 1}) as response,
    ):
        assert response.status == 200
    assert [body for _, _, body in peer.seen] == [b'{"a": 1}'] * 2


async def test_a_body_that_is_gone_is_not_sent_again(peer: Peer) -> None:
    """The 429 itself is the answer where the body cannot be sent twice."""
    peer.answers(429, 200, headers={"Retry-After": "1"})

    async def once() -> AsyncIterator[bytes]:
        yield b"body"

    async with (
        aiohttp.ClientSession(middlewares=(RateLimit(),)) as session,
        session.post(peer.url, data=once()) as response,
    ):
        assert response.status == 429
    assert peer.count == 1


async def test_a_file_is_sent_again_from_its_beginning(peer: Peer) -> None:
    """A seekable body is replayed whole."""
    peer.answers(429, 200, headers={"Retry-After": "1"})
    async with (
        aiohttp.ClientSession(middlewares=(RateLimit(),)) as session,
        session.post(peer.url, data=io.BytesIO(b"file")) as response,
    ):
        assert response.status == 200
    assert [body for _, _, body in peer.seen] == [b"file"] * 2


@pytest.mark.parametrize("learn", [True, False])
async def test_many_429s_withlarge_bodies_need_only_one_connection(peer: Peer, learn: bool) -> None:  # noqa: FBT001
    """A response that is not returned is released: one connection is enough for all of them."""
    peer.answers(*[429] * 4, 200, body=b"x" * 2_000_000, headers={"Retry-After": "1"})
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, middlewares=(RateLimit(learn=learn),)) as session:
        assert await asyncio.wait_for(batch(session, peer.url, 2), 60) == [200, 200]


async def test_nobody_leaves_while_the_text_of_a_429_is_being_read(peer: Peer) -> None:
    """The pause begins with the head of the answer, however long its body takes."""
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def handler(request: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        if len(times) > 1:
            return web.Response()
        response = web.StreamResponse(status=429, headers={"Retry-After": "5"})
        await response.prepare(request)
        await response.write(b"API calls ")
        await asyncio.sleep(1)
        await response.write(b"quota exceeded")
        return response

    peer.handler = handler
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="9/1s"),)) as session:
        first = asyncio.create_task(batch(session, peer.url, 1))
        await asyncio.sleep(0.5)
        assert await batch(session, peer.url, 3) == [200] * 3
        await first
    assert len(times) == 5
    assert all(time - times[0] >= 5 for time in times[1:])


async def test_a_slot_counts_from_when_its_bytes_left(peer: Peer) -> None:
    """Neither from when it was granted, nor from when a slow endpoint answers at last."""
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def handler(_: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        await asyncio.sleep(2)
        return web.Response()

    async def delay(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if not times:
            await asyncio.sleep(0.5)
        return await handler(request)

    peer.handler = handler
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="1/1s"), delay)) as session:
        await batch(session, peer.url, 3)
    gaps = [later - time for time, later in itertools.pairwise(times)]
    assert all(1.0 <= gap < 1.2 for gap in gaps), gaps


async def test_the_429_is_returned_when_the_attempts_are_used_up(peer: Peer) -> None:
    """A server that refuses for ever is not asked for ever."""
    peer.answers(429, headers={"Retry-After": "0"})
    async with aiohttp.ClientSession(middlewares=(RateLimit(attempts=3),)) as session:
        assert await batch(session, peer.url, 1) == [429]
    assert peer.count == 3


async def test_a_full_queue_refuses_at_once(peer: Peer) -> None:
    """max_queue bounds those who wait."""
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="1/1s", max_queue=2),)) as session:
        tasks = [asyncio.create_task(batch(session, peer.url, 1)) for _ in range(4)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done] == [list, list, list, RateLimited]


async def test_another_event_loop_is_refused(peer: Peer) -> None:
    """State of one loop never leaks into another."""
    policy = RateLimit()
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        await batch(session, peer.url, 1)

    async def elsewhere() -> None:
        async with aiohttp.ClientSession(middlewares=(policy,)) as session:
            await session.get("http://127.0.0.1:1/")

    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, elsewhere())


async def test_a_higher_priority_goes_first_and_nobody_starves() -> None:
    """Of eight turns one goes to whoever has waited longest."""
    order: list[int] = []
    policy = RateLimit(default="1/1s")

    async def handler(request: Any) -> Any:
        order.append(request.priority)
        return BareResponse()

    async def one(priority: int) -> None:
        call = a_call(priority=priority)
        with calling(call):
            await policy(BareRequest(priority), handler)  # type: ignore[arg-type]

    await asyncio.gather(one(9), *(one(0) for _ in range(3)), *(one(5) for _ in range(12)))
    assert order == [9, *[5] * 7, 0, *[5] * 5, 0, 0]


async def test_cost_takes_that_many_slots() -> None:
    """Calls that cost three fit three times into a quota of ten."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    policy = RateLimit(default="10/1s")

    async def handler(_: Any) -> Any:
        times.append(loop.time())
        return BareResponse()

    async def one() -> None:
        with calling(a_call(cost=3)):
            await policy(BareRequest(0), handler)  # type: ignore[arg-type]

    await asyncio.gather(*(one() for _ in range(9)))
    assert [int(time - times[0]) for time in times] == [0] * 3 + [1] * 3 + [2] * 3


async def test_groups_share_one_quota(peer: Peer) -> None:
    """Two endpoints in one group take their slots from the same limit."""
    loop = asyncio.get_running_loop()
    policy = RateLimit(limits={"search": "2/1s"}, groups={"search": ["GET /search", "GET /find"]})
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        began = loop.time()
        await asyncio.gather(batch(session, f"{peer.url}/search", 2), batch(session, f"{peer.url}/find", 2))
    assert 1.0 <= loop.time() - began < 1.1


async def test_several_rates_all_hold(peer: Peer) -> None:
    """2 per second and 3 per 5 seconds: the fourth waits for the longer period."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(RateLimit(default=("2/1s", Rate(3, per=5.0))),)) as session:
        began = loop.time()
        await batch(session, peer.url, 4)
    assert 5.0 <= loop.time() - began < 5.3


async def test_ten_thousand_idle_keys_shrink_back(peer: Peer) -> None:
    """Idle keys are dropped, live ones never."""
    policy = RateLimit(default="5/1s", capacity=100, key=lambda call: call.endpoint)

    async def handler(_: Any) -> Any:
        return BareResponse()

    for number in range(10_000):
        call = a_call()
        call.endpoint = str(number)
        with calling(call):
            await policy(BareRequest(0), handler)  # type: ignore[arg-type]
        if number % 50 == 0:
            await asyncio.sleep(2.0)
    assert len(lanes(policy)) <= 151


async def test_an_uncontended_call_does_not_await() -> None:
    """With room in the quota the policy adds no turn of the event loop."""
    policy = RateLimit(default="5/1s")

    async def handler(_: Any) -> Any:
        return BareResponse()

    with calling(a_call()):
        steps = policy(BareRequest(0), handler)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            steps.send(None)


async def test_what_passes_without_a_slot_leaves_no_trace_when_it_fails() -> None:
    """Errors and cancellation are handed on, and nothing stays counted."""
    policy = RateLimit(learn=False)

    async def handler(_: Any) -> Any:
        await asyncio.sleep(1)
        raise aiohttp.ServerDisconnectedError

    with calling(a_call()):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await policy(BareRequest(0), handler)  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await policy(BareRequest(0), handler)  # type: ignore[arg-type]
    assert lanes(policy)[0].pacer.passing == 0
    assert not lanes(policy)[0].busy


async def test_cancelled_while_under_way_counts_as_sent(peer: Peer) -> None:
    """Its bytes left, so the server may have counted it."""
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        return web.Response()

    peer.handler = handler
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="1/10s"),)) as session:
        task = asyncio.create_task(batch(session, peer.url, 1))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        peer.answers(200)
        began = loop.time()
        assert await batch(session, peer.url, 1) == [200]
        assert loop.time() - began > 9


async def test_cancelled_during_the_pause_lets_the_others_through(peer: Peer) -> None:
    """The one that was refused goes first; cancelled, it is nobody's turn but the next one's."""
    peer.answers(429, 200, headers={"Retry-After": "2"})
    async with aiohttp.ClientSession(middlewares=(RateLimit(),)) as session:
        first = asyncio.create_task(batch(session, peer.url, 1))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(batch(session, peer.url, 1))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await asyncio.wait_for(second, 3) == [200]
    assert peer.count == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_queue": -1}, "max_queue must be at least 0, got -1"),
        ({"max_wait": 0}, "max_wait must be above 0, got 0"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"store_timeout": 0}, "store_timeout must be above 0, got 0"),
        ({"default": "many"}, "many"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    """The constructor says which option and which value."""
    with pytest.raises(ValueError, match=message):
        RateLimit(**options)


def test_the_repr_shows_the_limits() -> None:
    """It is the first thing a person sees in a debugger."""
    policy = RateLimit(limits={"GET /a": ("5/1s", "100/min")}, default="3/s", learn=False)
    assert repr(policy) == "RateLimit(limits={'GET /a': '5/1s, 100/60s'}, default='3/1s', learn=False)"
