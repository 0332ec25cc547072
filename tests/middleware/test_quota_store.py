import asyncio
import math
from typing import Any

import aiohttp
import pytest

from apiclient.middleware._call import calling
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Lease
from apiclient.middleware.rate_limit import RateLimit
from tests.conftest import Peer
from tests.middleware.quotas import a_call, batch

pytestmark = pytest.mark.looptime


class Shared:
    """A store in memory: so many units, counted for all who draw from it."""

    def __init__(self, units: int = 10**9, *, slow: float = 0.0, broken: bool = False) -> None:
        self.units = units
        self.slow = slow
        self.broken = broken
        self.asked: list[tuple[str, tuple[Rate, ...], int]] = []
        self.paused: list[tuple[str, float]] = []

    async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
        self.asked.append((key, rates, want))
        if self.broken:
            raise ConnectionError("no store here")
        await asyncio.sleep(self.slow)
        units = min(want, self.units)
        self.units -= units
        return Lease(units, seconds=1.0, wait=0.5)

    async def pause(self, key: str, seconds: float) -> None:
        self.paused.append((key, seconds))


async def session_of(store: Shared, **options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(middlewares=(RateLimit(default="5/1s", store=store, **options),))


async def test_each_request_uses_a_leased_unit(peer: Peer) -> None:
    """The key, the rates and how many are wanted go to the store."""
    store = Shared()
    async with await session_of(store) as session:
        assert await batch(session, peer.url, 3) == [200] * 3
    assert {(key, rates) for key, rates, _ in store.asked} == {(f"{peer.url} GET /", (Rate(5),))}
    assert sum(want for *_, want in store.asked) >= 3


async def test_without_units_one_waits_and_asks_again(peer: Peer) -> None:
    """Other processes have used the quota up; later there is room."""
    store = Shared(units=0)
    async with await session_of(store) as session:
        task = asyncio.create_task(batch(session, peer.url, 1))
        await asyncio.sleep(1.2)
        assert peer.count == 0
        store.units = 5
        assert await task == [200]


async def test_a_request_that_costs_more_than_the_quota_takes_all_of_it(peer: Peer) -> None:
    """As in process: it goes when the whole quota is free, and is told as that much."""

    class Windows(Shared):
        """Five units in each second."""

        told = 0

        async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
            self.units = 5
            return (await super().lease(key, rates, want))._replace(seconds=0.25)

        def landed(self, key: str, units: int, ago: float | None) -> None:
            self.told += units

    store = Windows()

    async def costly(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        with calling(a_call(cost=7)):
            return await handler(request)

    middlewares = (costly, RateLimit(default="5/1s", store=store, max_wait=5.0))
    async with aiohttp.ClientSession(middlewares=middlewares) as session:
        assert await batch(session, peer.url, 2) == [200] * 2
    assert store.told == 10


async def test_where_nothing_may_leave_without_the_server_the_error_says_so(peer: Peer) -> None:
    """It names no time that would never come: an outbox asks again after a moment."""

    class Gone(Shared):
        async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
            return Lease(0, wait=math.inf)

    async with await session_of(Gone()) as session:
        with pytest.raises(RateLimited, match="cannot be reached, and without it nothing may leave") as caught:
            await batch(session, peer.url, 1)
    assert caught.value.retry_after == 1.0
    assert caught.value.would_have_waited is None


async def test_a_wait_for_other_processes_obeys_the_longest_wait(peer: Peer) -> None:
    """It is refused at once, with the time it would have taken, and its slot given back."""
    store = Shared(units=0)
    async with await session_of(store, max_wait=0.2) as session:
        for _ in range(20):
            with pytest.raises(RateLimited) as caught:
                await batch(session, peer.url, 1)
            assert caught.value.would_have_waited == 0.5


@pytest.mark.parametrize("store", [Shared(broken=True), Shared(slow=5.0)], ids=["broken", "slow"])
async def test_a_store_out_of_order_is_passed_over(peer: Peer, store: Shared) -> None:
    """The process goes by its own count, and asks again only after a moment."""
    loop = asyncio.get_running_loop()
    async with await session_of(store) as session:
        began = loop.time()
        assert await batch(session, peer.url, 15) == [200] * 15
    assert 2.0 < loop.time() - began < 4.0
    assert len(store.asked) <= 5


async def test_a_429_pauses_the_other_processes_too(peer: Peer) -> None:
    """The store is told for how long."""
    store = Shared()
    peer.answers(429, 200, headers={"Retry-After": "3"})
    async with await session_of(store) as session:
        assert await batch(session, peer.url, 1) == [200]
    ((key, seconds),) = store.paused
    assert key == f"{peer.url} GET /"
    assert seconds == pytest.approx(3, abs=0.1)


async def test_cancelled_while_asking_the_store_gives_the_slot_back(peer: Peer) -> None:
    """Its siblings, who wait for the same answer, get theirs."""
    store = Shared(slow=0.2)
    async with await session_of(store, store_timeout=1.0) as session:
        tasks = [asyncio.create_task(batch(session, peer.url, 1)) for _ in range(5)]
        await asyncio.sleep(0.1)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done] == [asyncio.CancelledError, list, list, list, list]


@pytest.mark.parametrize("more", [19, 500])
async def test_where_there_is_plenty_nobody_waits_for_the_store(peer: Peer, more: int) -> None:
    """It is asked again before a lease is used up, or too old to be used: then what is left is given back."""

    class Ample(Shared):
        def __init__(self) -> None:
            super().__init__(slow=0.02)
            self.held = 0

        async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
            self.held += want + more
            return (await super().lease(key, rates, want + more))._replace(seconds=0.25)

        def landed(self, key: str, units: int, ago: float | None) -> None:
            self.held -= units

    loop = asyncio.get_running_loop()
    store = Ample()
    policy = RateLimit(default="1000/1s", store=store)
    async with aiohttp.ClientSession(middlewares=(policy,)) as session:
        await batch(session, peer.url, 1)
        began = loop.time()
        for _ in range(100):
            await batch(session, peer.url, 1)
            await asyncio.sleep(0.01)
        assert loop.time() - began < 1.01
    assert 5 <= len(store.asked) <= 9
    assert store.held <= more + 20, "no more than the last lease"


async def test_each_unit_is_told_once_where_several_are_told_together(peer: Peer) -> None:
    """What landed within a hundredth of a period is told as one, not earlier than the last of it counted."""

    class Told(Shared):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[tuple[float, int, float | None]] = []

        async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
            return await super().lease(key, rates, want + 99)

        def landed(self, key: str, units: int, ago: float | None) -> None:
            self.told.append((asyncio.get_running_loop().time(), units, ago))

    store = Told()
    async with aiohttp.ClientSession(middlewares=(RateLimit(default="1000/1s", store=store),)) as session:
        for _ in range(300):
            await batch(session, peer.url, 1)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        await batch(session, peer.url, 1)
    assert sum(units for _, units, _ in store.told) == 301
    assert len(store.told) <= 60
    assert all(ago is not None and 0 <= ago < 0.02 for *_, ago in store.told)
