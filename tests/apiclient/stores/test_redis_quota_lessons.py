"""What processes learn from each other through a real Valkey server."""

import asyncio
import secrets
from typing import Any

import pytest
import redis.asyncio

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.quota_store import Heard, Learned, LessonStore
from apiclient.shared import Redis
from apiclient.stores.redis_quota_store import RedisQuotaStore
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")

TEN = Learned(Rate(10), fixed=True)
GUESS = Learned(Rate(40, per=60.0), exact=False)


def worker(namespace: str, server: Server | None = None) -> RedisQuotaStore:
    """Return a store as another process would have it."""
    return Redis((common() if server is None else server).url, namespace=namespace, timeout=5.0, cooldown=0.01).quotas


def counted(units: int, ago: float = 0.0) -> Learned:
    return Learned(Rate(units), exact=False, counted=ago)


@pytest.fixture
def name() -> str:
    return secrets.token_hex(6)


async def test_what_one_process_learned_the_others_hear(name: str) -> None:
    """Rate, kind of window and whether it was stated come over; another key has no part in it."""
    one, two = worker(name), worker(name)
    assert isinstance(one, LessonStore)
    assert await two.heard("k") == Heard()
    await one.teach("k", (TEN, GUESS))
    heard = await two.heard("k")
    assert set(heard.learned) == {TEN, GUESS}
    assert heard.pause == 0
    assert await two.heard("other") == Heard()


async def test_a_pause_is_heard_of_before_any_limit_is_known(name: str) -> None:
    """A 429 that says nothing but when to come back holds for all."""
    one, two = worker(name), worker(name)
    await one.pause("k", 30.0)
    assert 29 < (await two.heard("k")).pause <= 30


async def test_what_was_stated_last_holds(name: str) -> None:
    """Of two statements about one period the later replaces the earlier."""
    one, two = worker(name), worker(name)
    await one.teach("k", (TEN,))
    await two.teach("k", (Learned(Rate(20)),))
    assert (await one.heard("k")).learned == (Learned(Rate(20)),)


async def test_what_was_guessed_gives_way_to_what_is_known(name: str) -> None:
    """A period that was only guessed is forgotten once another is stated."""
    one, two = worker(name), worker(name)
    await one.teach("k", (GUESS,))
    await two.teach("k", (TEN,))
    assert (await one.heard("k")).learned == (TEN,)


async def test_counts_of_one_refusal_add_up(name: str) -> None:
    """Each process saw only its own part of the limit; each is counted once, and a later refusal is another matter."""
    one, two, three = worker(name), worker(name), worker(name)
    await one.teach("k", (counted(4),))
    await two.teach("k", (counted(5, ago=0.1),))
    await two.teach("k", (counted(5, ago=0.1),))
    await three.teach("k", (counted(9, ago=5.0),))
    (heard,) = (await three.heard("k")).learned
    assert heard.rate == Rate(9)
    assert heard.counted is not None
    assert not heard.exact


async def test_what_was_stated_replaces_what_was_counted(name: str) -> None:
    """And no count is kept beside a statement."""
    one, two = worker(name), worker(name)
    await one.teach("k", (counted(4),))
    await two.teach("k", (TEN,))
    await two.teach("k", (counted(5),))
    assert (await one.heard("k")).learned == (TEN,)


async def test_a_count_that_proves_too_high_is_lowered(name: str) -> None:
    """Each third refusal takes one off, a quarter at most: two processes may have counted the same."""
    one = worker(name)
    await one.teach("k", (counted(8, ago=60.0),))
    client: Any = redis.asyncio.Redis.from_url(common().url)
    (facts,) = one._keys("k", ())[:1]
    found: list[int] = []
    for refusals in range(12):
        if refusals:
            await client.hset(facts, "refused", 0)
        await one.pause("k", 0.001)
        ((rate, *_),) = (await one.heard("k")).learned
        found.append(rate.limit)
    await client.aclose()
    assert found == [8, 8, 7, 7, 7, 6, 6, 6, 6, 6, 6, 6]


async def test_a_lease_says_that_there_is_news(name: str) -> None:
    """Until it has been asked for; what was only said again is none."""
    one, two = worker(name), worker(name)
    rates = (Rate(50, per=3600.0),)
    assert not (await two.lease("k", rates, 1)).news
    await one.teach("k", (TEN,))
    assert (await two.lease("k", rates, 1)).news
    await two.heard("k")
    assert not (await two.lease("k", rates, 1)).news
    await one.teach("k", (TEN,))
    assert not (await two.lease("k", rates, 1)).news


async def test_lessons_are_forgotten_after_an_hour(name: str) -> None:
    """Of their own accord, and each by its own age."""
    one = worker(name)
    await one.teach("k", (TEN, Learned(Rate(500, per=60.0))))
    client: Any = redis.asyncio.Redis.from_url(common().url)
    (facts,) = one._keys("k", ())[:1]
    assert 3_590_000 < await client.pttl(f"{facts}:lessons") <= 3_600_000
    old = (await client.hget(f"{facts}:lessons", "stated:1000000")).split()
    old[-1] = b"%d" % (int(old[-1]) - 3_600_000_001)
    await client.hset(f"{facts}:lessons", "stated:1000000", b" ".join(old))
    await client.aclose()
    assert (await one.heard("k")).learned == (Learned(Rate(500, per=60.0)),)


async def test_what_was_used_before_there_was_a_limit_counts(name: str) -> None:
    """It is told with the first question for a lease."""
    one, two = worker(name), worker(name)
    rates = (Rate(50, per=3600.0),)
    one.spent("k", rates, [(20, 5.0), (10, 100.0)])
    assert (await one.lease("k", rates, 50)).units == 20
    assert (await two.lease("k", rates, 50)).units == 0


async def test_a_server_that_forgot_is_told_again(name: str) -> None:
    """By those who go on; each of them its own part of what was counted."""
    server = Server()
    try:
        one, two = worker(name, server), worker(name, server)
        rates = (Rate(50, per=3600.0),)
        await one.teach("stated", (TEN,))
        await two.heard("stated")
        for store, units in ((one, 4), (two, 5)):
            await store.teach("counted", (counted(units),))
            await store.heard("counted")
            for key in ("stated", "counted"):
                await store.lease(key, rates, 1)
        server.crash()
        new = worker(name, server)
        stated: tuple[Learned, ...] = ()
        counts: tuple[Learned, ...] = ()
        for _ in range(200):
            for store in (two, one):
                await store.lease("counted", rates, 1)
            await two.lease("stated", rates, 1)
            stated, counts = [(await new.heard(key)).learned for key in ("stated", "counted")]
            if stated and counts and counts[0].rate.limit == 9:
                break
            await asyncio.sleep(0.01)
        assert stated == (TEN,)
        assert [each.rate for each in counts] == [Rate(9)]
    finally:
        server.stop()
