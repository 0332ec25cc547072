"""The shared limiter against a real Valkey server: each decision, without the processes around it."""

import asyncio
import contextlib
import json
import math
import secrets
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import RateLimited
from apiclient.middleware.quota_store import Lease, UsageStore
from apiclient.middleware.rate_limit import RateLimit
from apiclient.shared import Redis
from apiclient.stores._redis_quota_lua import LEASE
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_quota_store import RedisQuotaStore
from tests.conftest import Peer
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")

SLOW = (Rate(50, per=3600.0),)


def worker(namespace: str, server: Server | None = None, **options: Any) -> RedisQuotaStore:
    """Return a store as another process would have it: with an identity and connections of its own."""
    address = (common() if server is None else server).url
    return Redis(address, namespace=namespace, timeout=5.0, cooldown=0.01, **options).quotas


@pytest.fixture
def name() -> str:
    return secrets.token_hex(6)


async def test_all_draw_from_one_quota(name: str) -> None:
    """Two processes together get what there is, and not a unit more; another key has a quota of its own."""
    one, two = worker(name), worker(name)
    assert isinstance(one, UsageStore)
    assert (await one.lease("k", SLOW, 30)).units == 30
    assert (await two.lease("k", SLOW, 30)).units == 20
    refused = await two.lease("k", SLOW, 30)
    assert refused.units == 0
    assert refused.wait > 1000
    assert (await two.lease("other", SLOW, 30)).units == 30


async def test_of_several_rates_the_tightest_rules(name: str) -> None:
    """A unit counts in each of them."""
    rates = (Rate(10, per=60.0), Rate(12, per=3600.0))
    one = worker(name)
    assert (await one.lease("k", rates, 50)).units == 10
    assert (await one.lease("k", rates[1:], 50)).units == 2


async def test_who_waits_has_a_turn(name: str) -> None:
    """A greedy process leaves the others theirs, as soon as they are known to wait."""
    greedy, modest, third = worker(name), worker(name), worker(name)
    assert (await greedy.lease("k", SLOW, 50)).units == 50
    for each in (modest, third, greedy):
        assert (await each.lease("k", SLOW, 40)).units == 0
    greedy.landed("k", 50, None)  # never used after all
    got = [(await each.lease("k", SLOW, 40)).units for each in (greedy, greedy, modest, third)]
    assert got == [16, 2, 16, 16]


async def test_units_given_back_are_there_for_others(name: str) -> None:
    """What was leased and not used counts no more."""
    one, two = worker(name), worker(name)
    assert (await one.lease("k", SLOW, 50)).units == 50
    one.landed("k", 20, None)
    await one.lease("k", SLOW, 0)
    assert (await two.lease("k", SLOW, 50)).units == 20


async def test_what_was_given_back_once_is_not_given_back_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's answer is lost nobody knows whether it heard: units of others must not come free by it."""
    one, two, three = worker(name), worker(name), worker(name)
    assert (await one.lease("k", SLOW, 30)).units == 30
    assert (await two.lease("k", SLOW, 20)).units == 20
    one.landed("k", 20, None)
    script = one._server.script

    async def deaf(*arguments: Any) -> None:
        await script(*arguments)
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(one._server, "script", deaf)
        await one.lease("k", SLOW, 0)
    await one.lease("k", SLOW, 0)
    assert (await three.lease("k", SLOW, 50)).units == 20


async def test_a_unit_is_held_one_period_from_its_use(name: str) -> None:
    """Used later than it was granted, it comes free later: no window of the API sees more than its limit."""
    one = worker(name)
    assert (await one.lease("k", SLOW, 50)).units == 50
    before = (await one.lease("k", SLOW, 1)).wait
    one.landed("k", 50, 0.0)
    after = (await one.lease("k", SLOW, 1)).wait
    assert after < before, "the time allowed for spending is over"
    assert after > 0.9 * 3600


async def test_a_pause_is_everybodys(name: str) -> None:
    """A 429 that one process met stops the endpoint for all, and no other endpoint."""
    one, two = worker(name), worker(name)
    await one.lease("k", SLOW, 1)
    await one.pause("k", 30.0)
    refused = await two.lease("k", SLOW, 1)
    assert refused.units == 0
    assert 29 < refused.wait <= 30
    assert (await two.lease("other", SLOW, 1)).units == 1


async def test_keys_expire_by_themselves(name: str) -> None:
    """Nothing has to be cleaned up: every key has an end, and no name of an endpoint is in it."""
    await worker(name).lease("https://api.test GET /x/{id}", (Rate(5),), 3)
    async with redis.asyncio.Redis.from_url(common().url) as client:
        names: list[Any] = await client.keys(f"{name}:*")
        left = [await client.pttl(each) for each in names]
    assert names
    assert all(0 < each <= 63_000 for each in left)
    assert len({each[each.index(b"{") : each.index(b"}")] for each in names}) == 1, "one node of a cluster"


async def test_facts_last_as_long_as_what_is_counted_by_them(name: str) -> None:
    """Also where the last to ask knows of the shorter of two periods only; and from the first word on they end."""
    rates = (Rate(10, per=60.0), Rate(12, per=3600.0))
    one = worker(name)
    (facts,) = one._keys("k", ())[:1]
    await one.lease("k", rates, 3)
    await one.lease("k", rates[:1], 1)
    async with redis.asyncio.Redis.from_url(common().url) as client:
        assert await client.pttl(facts) > 3_600_000
        await client.delete(*await client.keys(f"{name}:*"))
        # As of a worker that the server has forgotten, and that dies before it could tell everything.
        quota = one._quotas.get("k", 0.0)
        question = {"me": "x", "generation": quota.generation, "whole": False, "away": 0, "workers": 1}
        question |= {"rates": [[10, 60_000_000]]}
        assert (await client.eval(LEASE, 5, *one._keys("k", rates[:1]), json.dumps(question)))[0] == -1
        assert 0 < await client.pttl(facts) <= 60_000


@pytest.mark.looptime
async def test_what_is_known_of_a_quota_is_forgotten_in_time(name: str) -> None:
    """Units that nobody told of any more, leased or to be reported, come free by themselves and keep nothing here."""
    one = Redis("redis://127.0.0.1:1", namespace=name).quotas
    for key in ("a", "b"):
        await one.lease(key, (Rate(64),), 2)
        one.landed(key, 1, None)
    one._quotas.get("a", 0.0).over.append((1, None, ["1"]))
    await asyncio.sleep(7200)
    await one.lease("c", (Rate(64),), 1)
    assert [key for key, _ in one._quotas.items()] == ["c"]


async def test_without_the_server_each_has_a_share(name: str) -> None:
    """The limit divided by the processes last known, what was used before included; never unlimited."""
    server = Server()
    one, two = worker(name, server), worker(name, server)
    await two.lease("k", SLOW, 5)
    await one.lease("k", SLOW, 10)
    server.stop()
    careful = await one.lease("k", SLOW, 50)
    assert careful.units == 0, "two may have used more than its share just before"
    assert careful.wait <= 2.0
    (quota,) = (quota for _, quota in one._quotas.items())
    quota.contact -= 2.0
    assert (await one.lease("k", SLOW, 50)).units == 15
    assert (await one.lease("k", SLOW, 50)).units == 0
    assert (await worker(name, server, workers=10).lease("k", SLOW, 50)).units == 5
    few = await worker(name, server, workers=100).lease("k", SLOW, 50)
    assert few.units == 1


async def test_without_the_server_it_can_refuse(name: str) -> None:
    """By option nothing leaves, and nobody waits for it either."""
    server = Server()
    one = worker(name, server, unreachable="refuse")
    server.stop()
    assert await one.lease("k", SLOW, 1) == Lease(0, wait=math.inf)


async def test_a_server_that_forgot_is_told(name: str) -> None:
    """Started again with an empty memory it knows at once what the processes used: no burst on return."""
    server = Server()
    try:
        one, two = worker(name, server), worker(name, server)
        for store, units in ((one, 5), (two, 25), (one, 20)):
            assert (await store.lease("k", SLOW, units)).units == units
        server.crash()
        assert await _answered(one) == 0
        assert await _answered(two) == 0
        assert await _answered(worker(name, server)) == 0, "one that is new learns of it too"
    finally:
        server.stop()


async def test_those_who_are_back_are_not_all(name: str) -> None:
    """While others may be away yet, the first to reach the server again go by their share, however often they ask."""
    server = Server()
    try:
        workers = [worker(name, server) for _ in range(8)]
        got = dict.fromkeys(workers, 0)
        for each in workers * 2:
            got[each] += (await each.lease("k", SLOW, 1)).units
        server.crash()
        one, two = workers[:2]
        for each in (one, two):
            got[each] += await _answered(each)
        for each in (one, two, one, two):
            got[each] += (await each.lease("k", SLOW, 50)).units
        assert [got[one], got[two]] == [6, 6], "50 for eight of them, what was used before included"
        assert (await worker(name, server, workers=1).lease("k", SLOW, 50)).units == 6, "also to one that is new"
        assert [quota.workers for _, quota in one._quotas.items()] == [8], "should the server fail again"
    finally:
        server.stop()


async def test_who_was_alone_for_a_while_has_a_share_when_it_is_back(name: str) -> None:
    """Others may have gone by theirs meanwhile, though the server kept its memory and does not know of it."""
    server = Server(save="", appendonly="yes", appendfsync="always")
    try:
        workers = [worker(name, server) for _ in range(5)]
        for _ in range(2):
            for each in workers:
                await each.lease("k", SLOW, 1)
        server.halt()
        for each in workers:
            await each.lease("k", SLOW, 3)
        server.start()
        got = [await _answered(each) for each in workers]
        assert sum(got) <= 40
        assert max(got) <= 10 - 2
    finally:
        server.stop()


async def test_processes_that_never_met_the_server_do_not_use_a_quota_each(name: str) -> None:
    """Started while it is down, up to sixteen of them stay within one quota together; more need ``workers``."""
    server = Server()
    server.stop()
    got = [(await worker(name, server).lease("k", SLOW, 50)).units for _ in range(16)]
    assert got == [3] * 16
    assert (await worker(name, server, workers=1).lease("k", SLOW, 50)).units == 50


async def test_how_many_there_are_is_known_for_other_endpoints_too(name: str) -> None:
    """A quota that was never asked for is shared by as many as the server has told of others."""
    server = Server()
    one, two = worker(name, server), worker(name, server)
    for each in (one, two, one):
        await each.lease("k", SLOW, 1)
    server.stop()
    assert (await one.lease("other", SLOW, 50)).units == 25


async def _answered(store: RedisQuotaStore) -> int:
    """Return what *store* grants once it has reached its server again."""
    units = 0
    for _ in range(200):
        units += (await store.lease("k", SLOW, 50)).units
        if not store._server.down:
            break
        await asyncio.sleep(0.01)
    return units


async def test_a_server_that_hangs_holds_nobody_for_long(name: str) -> None:
    """An address that swallows everything: after the stated time each goes on with its share."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        port = silent.sockets[0].getsockname()[1]
        shared = Redis(f"redis://127.0.0.1:{port}", timeout=0.05, workers=5, namespace=name)
        async with asyncio.timeout(5.0):
            assert (await shared.quotas.lease("k", SLOW, 50)).units == 10
        await shared.aclose()
    finally:
        silent.close()
        await asyncio.sleep(0.05)


async def test_a_key_of_ones_own_is_one_quota_for_all_processes(peer: Peer, name: str) -> None:
    """Named by its text, whatever the endpoint; what the text says of whom cannot be read on the server."""
    limiters = [
        RateLimit(default="5/3600s", key=lambda _: "tenant-7@example.com", store=worker(name), max_wait=1.0)
        for _ in range(2)
    ]
    served = 0
    for number in range(8):
        async with aiohttp.ClientSession(middlewares=(limiters[number % 2],)) as session:
            with contextlib.suppress(RateLimited):
                async with session.get(f"{peer.url}/{'abc'[number % 3]}") as response:
                    served += response.status == 200
    assert served == peer.count == 5
    async with redis.asyncio.Redis.from_url(common().url) as client:
        names: list[Any] = await client.keys(f"{name}:*")
        assert names
        kept = [each + bytes(await client.dump(each) or b"") for each in names]
        assert not any(b"tenant-7" in each for each in kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"cooldown": -1.0}, "cooldown must be above 0 seconds, got -1.0"),
        ({"patience": 0}, "patience must be above 0 seconds, got 0"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"unreachable": "ignore"}, "unreachable must be"),
        ({"namespace": "a{b"}, "namespace must be a name without braces, got 'a{b'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    """The message names option and value."""
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        Redis("redis://127.0.0.1", **options)  # type: ignore[arg-type]


def test_a_url_of_another_kind_is_refused() -> None:
    """It says which there are."""
    with pytest.raises(ValueError, match="url must begin with one of redis, rediss"):
        Redis("http://127.0.0.1")


class Counted:
    """A store that leases what is wanted, and notes what it is told of its use."""

    def __init__(self) -> None:
        self.used: list[tuple[int, float | None]] = []

    async def lease(self, key: str, rates: tuple[Rate, ...], want: int) -> Lease:
        return Lease(want)

    async def pause(self, key: str, seconds: float) -> None:
        """Do nothing."""

    def landed(self, key: str, units: int, ago: float | None) -> None:
        self.used.append((units, ago))


async def test_the_limiter_tells_what_it_used(peer: Peer) -> None:
    """Each unit is reported once, when its answer is there: accepted, refused, or never sent."""
    store = Counted()
    session = aiohttp.ClientSession(middlewares=(RateLimit(default="50/1s", store=store),))
    async with session:
        async with session.get(peer.url) as response:
            assert response.status == 200
        assert [units for units, _ in store.used] == [1]
        peer.answers(429, 200, headers={"Retry-After": "0"})
        async with session.get(peer.url) as response:
            assert response.status == 200
        assert [units for units, _ in store.used] == [1, 1, 1]
        assert all(ago is not None and 0 <= ago < 1 for _, ago in store.used)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://127.0.0.1:1/")
        assert store.used[-1] == (1, None)
