import asyncio
from typing import Any

import aiohttp
import pytest

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Lease
from apiclient.middleware.rate_limit import RateLimit
from tests.conftest import Peer
from tests.middleware.quotas import batch

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
