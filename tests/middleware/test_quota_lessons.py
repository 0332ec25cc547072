"""What one limiter learned, its siblings keep to: through a store in memory, in virtual time."""

import asyncio
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Heard, Learned, Lease
from apiclient.middleware.rate_limit import RateLimit
from tests.conftest import Peer
from tests.middleware.quotas import batch

pytestmark = pytest.mark.looptime

TEN = Learned(Rate(10), fixed=True)


class Board:
    """A store that leases whatever is wanted and hands on what it is taught.

    Args:
        *learned: Known from the beginning.
        slow: Seconds that each question takes.
        broken: Whether it fails.
    """

    def __init__(self, *learned: Learned, slow: float = 0.0, broken: bool = False, pause: float = 0.0) -> None:
        self.learned = learned
        self.slow = slow
        self.broken = broken
        self.pausing = pause
        self.asked = 0
        self.taught: list[Learned] = []
        self.leased: list[tuple[Rate, ...]] = []
        self.uses: list[tuple[int, float]] = []
        self.news = False

    async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
        self.leased.append(rates)
        return Lease(want, news=self.news)

    async def pause(self, key: str, seconds: float) -> None:
        """Do nothing."""

    async def teach(self, key: str, learned: tuple[Learned, ...]) -> None:
        self.taught += learned

    async def heard(self, key: str) -> Heard:
        self.asked += 1
        if self.broken:
            raise ConnectionError("no store here")
        await asyncio.sleep(self.slow)
        self.news = False
        return Heard(self.learned, self.pausing)

    def spent(self, key: str, rates: tuple[Rate, ...], uses: Iterable[tuple[int, float]]) -> None:
        self.uses += uses


def opened(store: Board, **options: Any) -> tuple[RateLimit, aiohttp.ClientSession]:
    policy = RateLimit(store=store, **options)
    return policy, aiohttp.ClientSession(middlewares=(policy,))


def rates(policy: RateLimit) -> list[str]:
    return [str(rate) for standing in policy.standing() for rate in standing.rates]


async def test_a_limit_that_others_learned_holds_from_the_first_request(peer: Peer) -> None:
    """Nothing is configured here, and nothing was refused here: the store is asked before anything leaves."""
    loop = asyncio.get_running_loop()
    store = Board(TEN, slow=0.1)
    policy, session = opened(store)
    async with session:
        began = loop.time()
        assert await batch(session, peer.url, 25) == [200] * 25
        assert 2.0 < loop.time() - began < 2.5
    assert rates(policy) == ["10/1s"]
    assert set(store.leased) == {(Rate(10),)}
    assert not store.taught, "what was only heard is not told again"


async def test_what_a_429_states_is_told(peer: Peer) -> None:
    """Once, with what was sent before; and it is leased from then on."""
    store = Board()
    policy, session = opened(store)
    async with session:
        assert await batch(session, peer.url, 2) == [200] * 2
        peer.answers(429, 200, body=b"maximum admitted 10 per 1 second", headers={"Retry-After": "1"})
        assert await batch(session, peer.url, 1) == [200]
        peer.answers(429, 200, body=b"maximum admitted 10 per 1 second", headers={"Retry-After": "1"})
        assert await batch(session, peer.url, 1) == [200]
    assert store.taught == [TEN]
    assert [units for units, _ in store.uses] == [1, 1]
    assert (Rate(10),) in store.leased
    assert rates(policy) == ["10/1s"]


async def test_what_headers_state_is_told(peer: Peer) -> None:
    """An accepting answer teaches siblings as well."""
    store = Board()
    _, session = opened(store)
    peer.answers(200, headers={"RateLimit-Policy": '"a";q=30;w=60'})
    async with session:
        assert await batch(session, peer.url, 3) == [200] * 3
    assert [each.rate for each in store.taught] == [Rate(30, per=60.0)]


async def test_what_was_counted_is_told_as_such(peer: Peer) -> None:
    """A 429 that states nothing: others have a part in the limit, so that the parts can be added."""
    store = Board()
    _, session = opened(store)
    async with session:
        assert await batch(session, peer.url, 1) == [200]
        assert await batch(session, peer.url, 1) == [200]
        peer.answers(429, 200, headers={"Retry-After": "1"})
        assert await batch(session, peer.url, 1) == [200]
    (told,) = store.taught
    assert told.rate == Rate(2)
    assert told.counted is not None
    assert not told.exact


async def test_what_an_accepted_answer_lets_conclude_is_told_at_once(peer: Peer) -> None:
    """A refusal is judged when all that left with it is answered, and siblings need not wait for the next one."""
    store = Board()
    _, session = opened(store)
    async with session:
        for count in (1, 2):
            assert await batch(session, peer.url, count) == [200] * count
        left = [200, 429, 200]

        async def handler(_: web.Request) -> web.StreamResponse:
            status = left.pop(0)
            if len(left) == 2:
                await asyncio.sleep(0.2)
            return web.Response(status=status, headers={"Retry-After": "1"})

        peer.handler = handler
        sending = asyncio.create_task(batch(session, peer.url, 2))
        await asyncio.sleep(0.1)
        assert not store.taught
        await asyncio.sleep(0.2)
        assert len(store.taught) == 1
        await sending


async def test_what_was_heard_is_kept_like_what_was_learned(peer: Peer) -> None:
    """``learned()`` has it, and it is not told again."""
    store = Board(TEN)
    policy, session = opened(store)
    async with session:
        await batch(session, peer.url, 3)
    assert [each["limits"] for each in policy.learned().values()] == [[{"rate": "10/1s", "fixed": True, "exact": True}]]
    assert not store.taught


async def test_a_process_has_its_part_in_what_another_counted(peer: Peer) -> None:
    """It tells how many of its own requests were let through up to that refusal, and goes by the sum."""
    store = Board()
    policy, session = opened(store)
    async with session:
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0.1)
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0.3)
        store.learned = (Learned(Rate(3), exact=False, counted=0.1),)
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0)
        assert [each.rate for each in store.taught] == [Rate(2)]
        assert rates(policy) == ["3/1s"]
        store.learned = (Learned(Rate(5), exact=False, counted=0.5),)
        store.news = True
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0.01)
    assert rates(policy) == ["5/1s"]
    assert len(store.taught) == 1


async def test_a_process_has_its_part_in_each_later_count_too(peer: Peer) -> None:
    """Lessons are forgotten after an hour, and one that is new then counts alone: all tell their parts of that as well."""
    store = Board(Learned(Rate(10), exact=False, counted=0.0))
    policy, session = opened(store)
    async with session:
        for _ in range(4):
            assert await batch(session, peer.url, 5) == [200] * 5
            await asyncio.sleep(1.0)
        assert not store.taught
        assert await batch(session, peer.url, 5) == [200] * 5
        store.learned, store.news = (Learned(Rate(1), exact=False, counted=0.0),), True
        await asyncio.sleep(0.5)
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0.01)
        assert [(each.rate, each.counted is None) for each in store.taught] == [(Rate(5), False)]
        store.learned, store.news = (Learned(Rate(6), exact=False, counted=0.6),), True
        await asyncio.sleep(1.0)
        assert await batch(session, peer.url, 1) == [200]
        await asyncio.sleep(0.01)
    assert len(store.taught) == 1
    assert rates(policy) == ["6/1s"]


async def test_a_configured_rate_always_wins(peer: Peer) -> None:
    """What others learned about the same period changes nothing; about another it holds as well."""
    store = Board(TEN, Learned(Rate(100, per=60.0)))
    store.news = True
    policy, session = opened(store, default="5/1s")
    async with session:
        assert await batch(session, peer.url, 5) == [200] * 5
        await asyncio.sleep(0.01)
    assert rates(policy) == ["5/1s", "100/60s"]


async def test_what_an_own_answer_stated_is_not_changed_by_others(peer: Peer) -> None:
    """One odd answer to one process must not mislead those who know better."""
    store = Board()
    policy, session = opened(store)
    async with session:
        peer.answers(429, 200, body=b"maximum admitted 10 per 1 second", headers={"Retry-After": "1"})
        assert await batch(session, peer.url, 1) == [200]
        store.learned, store.news = (Learned(Rate(1)),), True
        assert await batch(session, peer.url, 3) == [200] * 3
        await asyncio.sleep(0.01)
    assert not store.news
    assert rates(policy) == ["10/1s"]


async def test_who_does_not_learn_does_not_listen(peer: Peer) -> None:
    """``learn=False`` neither asks nor tells."""
    store = Board(TEN)
    policy, session = opened(store, learn=False)
    async with session:
        peer.answers(429, 200, body=b"maximum admitted 10 per 1 second", headers={"Retry-After": "1"})
        assert await batch(session, peer.url, 1) == [200]
    assert store.asked == 0
    assert not store.taught
    assert rates(policy) == []


async def test_where_nothing_is_known_the_store_is_asked_now_and_then(peer: Peer) -> None:
    """Four times per second of use, not for each request, and nobody waits for it but the first."""
    loop = asyncio.get_running_loop()
    store = Board(slow=0.02)
    policy, session = opened(store)
    async with session:
        await batch(session, peer.url, 1)
        began = loop.time()
        for _ in range(100):
            assert await batch(session, peer.url, 10) == [200] * 10
            await asyncio.sleep(0.02)
        assert loop.time() - began < 2.2
        assert 6 <= store.asked <= 11
        store.learned = (TEN,)
        await asyncio.sleep(1.0)
        await batch(session, peer.url, 1)
        await asyncio.sleep(0.25)
    assert rates(policy) == ["10/1s"]


async def test_who_has_found_no_limit_hears_of_one_all_the_same(peer: Peer) -> None:
    """A burst of two thousand met no refusal; then another process learns ten per second."""
    loop = asyncio.get_running_loop()
    store = Board()
    policy, session = opened(store)
    async with session:
        assert await batch(session, peer.url, 2000) == [200] * 2000
        store.learned = (TEN,)
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert await batch(session, peer.url, 1) == [200]
        assert rates(policy) == ["10/1s"]
        began = loop.time()
        assert await batch(session, peer.url, 25) == [200] * 25
        assert loop.time() - began > 1.0


async def test_a_pause_of_others_holds_where_no_limit_is_known(peer: Peer) -> None:
    """Nothing leaves before its end, and who cannot wait so long is told."""
    loop = asyncio.get_running_loop()
    _, session = opened(Board(pause=3.0), max_wait=5.0)
    async with session:
        began = loop.time()
        await batch(session, peer.url, 1)
        assert loop.time() - began == pytest.approx(3.0, abs=0.1)
    _, session = opened(Board(pause=3.0), max_wait=2.0)
    async with session:
        with pytest.raises(RateLimited) as caught:
            await batch(session, peer.url, 1)
    assert caught.value.would_have_waited == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("store", [Board(broken=True), Board(slow=60.0)], ids=["broken", "slow"])
async def test_a_store_out_of_order_delays_the_first_request_only(peer: Peer, store: Board) -> None:
    """For no longer than it may; it is asked again a second later, and nobody waits for that."""
    loop = asyncio.get_running_loop()
    _, session = opened(store, store_timeout=0.5)
    async with session:
        began = loop.time()
        assert await batch(session, peer.url, 20) == [200] * 20
        assert loop.time() - began < 0.7
        began = loop.time()
        for _ in range(10):
            await batch(session, peer.url, 5)
            await asyncio.sleep(0.3)
        assert loop.time() - began < 3.2
    assert 2 <= store.asked <= 5
