"""A primary that dies and a replica that takes its place: what goes on, what may be lost, and how to lose nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.errors import OutboxError
from apiclient.shared import Redis
from apiclient.stores import Draft
from apiclient.stores._redis_server import StoreUnavailable
from tests.apiclient.stores.outbox import ORIGIN, intent
from tests.integration.test_redis_topologies import asked, sentinel
from tests.valkey import Server, connections, has_waitaof

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")
KEY, LIMIT = "https://api.test GET /x", 10
RATES = (Rate(LIMIT, per=3600.0),)


class Pair:
    """A primary with a replica.

    Args:
        **config: Of both.
    """

    def __init__(self, **config: Any) -> None:
        config |= {"repl-diskless-sync-delay": 0}
        self.primary = Server(**config)
        self.replica = Server(replicaof=f"127.0.0.1 {self.primary.port}", **config)

    def stop(self) -> None:
        self.primary.stop()
        self.replica.stop()

    async def linked(self) -> None:
        await until(lambda: facts(self.replica), lambda found: found["master_link_status"] == "up")

    async def level(self) -> None:
        """Wait until the replica has all that the primary has now."""
        offset = (await facts(self.primary))["master_repl_offset"]
        await until(lambda: facts(self.replica), lambda found: found["master_repl_offset"] >= offset)


async def until(ask: Callable[[], Awaitable[Any]], fits: Callable[[Any], bool]) -> Any:
    while True:
        if fits(found := await ask()):
            return found
        await asyncio.sleep(0.01)


async def facts(server: Server) -> Any:
    return await asked(server, "INFO", "replication")


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.stop()


async def leased(shared: Redis, want: int = 3) -> int:
    return (await shared.quotas.lease(KEY, RATES, want)).units


async def test_a_sentinel_promotes_the_replica_and_everything_goes_on(pair: Pair, tmp_path: Path) -> None:
    """What the replica had is there: token, items and what was used of the quota, which is not exceeded meanwhile."""
    await pair.linked()
    settings = ("down-after-milliseconds orders 300", "failover-timeout orders 3000")
    with sentinel(pair.primary, tmp_path, *settings) as port:
        one, two = (
            Redis(f"redis+sentinel://127.0.0.1:{port}/orders/0", timeout=1.0, cooldown=0.05, workers=2)
            for _ in range(2)
        )
        outbox = one.outbox()

        async def stored() -> bool:
            try:
                await outbox.put(Draft("a", intent(1)))
            except OutboxError:
                return False
            return True

        await until(stored, bool)  # The sentinel has started, and knows the primary.
        used = {one: 0, two: 0}
        # Each asks after the other, and so knows how many they are.
        for each in (one, two, one, two):
            used[each] += await leased(each, 1)
        # While there is no primary each goes by its share, or stays with what it had where that is more.
        most = sum(max(had, LIMIT // 2) for had in used.values())
        lease = await one.tokens.acquire("key", 60.0)
        assert lease is not None
        assert await one.tokens.save("key", "refreshed", lease)
        # It asks every ten seconds only which replicas there are.
        await until(lambda: asked(f"redis://127.0.0.1:{port}", "SENTINEL", "REPLICAS", "orders"), bool)
        await pair.level()
        pair.primary.halt()

        async def back() -> bool:
            for each in used:
                used[each] += await leased(each)
            try:
                return (await outbox.stats()).pending == 1
            except OutboxError:
                return False

        await until(back, bool)
        assert (await facts(pair.replica))["role"] == "master"

        async def kept() -> str | None:
            try:
                return await two.tokens.load("key")
            except StoreUnavailable:  # It has asked the sentinel for the primary a moment too early.
                return None

        assert await until(kept, bool) == "refreshed"
        assert await two.tokens.acquire("key", 60.0) is None, "the lease went over too"
        (entry,) = await outbox.claim(ORIGIN, limit=5, seconds=60)
        assert await outbox.ack(entry.id, str(entry.lease), status=200)

        async def answered() -> bool:
            failures = one.quotas.failures + two.quotas.failures
            for each in used:
                used[each] += await leased(each)
            return one.quotas.failures + two.quotas.failures == failures

        for _ in range(5):
            await until(answered, bool)
        assert sum(used.values()) <= most


async def test_writes_that_no_replica_had_are_lost(pair: Pair) -> None:
    """Replication is asynchronous: grants are forgotten, once, and items that only the primary acknowledged are gone."""
    await pair.linked()
    shared = Redis(pair.primary.url, timeout=5.0, workers=2)
    kept = await leased(shared)
    await shared.outbox().put(Draft("kept", intent(1)))
    await pair.level()
    await asked(pair.replica, "REPLICAOF", "NO", "ONE")
    lost = await leased(shared)
    await shared.outbox().put(Draft("lost", intent(2)))
    pair.primary.halt()
    after = Redis(pair.replica.url, timeout=5.0, workers=2)
    assert [entry.id for entry in await after.outbox().page()] == ["kept"]
    granted = sum([await leased(after) for _ in range(10)])
    assert LIMIT < kept + lost + granted <= LIMIT + lost


async def test_with_replicas_an_item_is_there_before_put_returns(pair: Pair) -> None:
    """Without append-only files in their memory; and where no replica has it the caller knows."""
    await pair.linked()
    outbox = Redis(pair.primary.url, timeout=5.0, patience=20.0).outbox(replicas=1)
    for number in range(20):
        await outbox.put(Draft(f"item-{number}", intent(number)))
        assert await Redis(pair.replica.url).outbox().get(f"item-{number}") is not None
    await asked(pair.replica, "REPLICAOF", "NO", "ONE")
    with pytest.raises(OutboxError, match=r"1 replicas .* may be stored") as caught:
        await Redis(pair.primary.url, timeout=5.0, patience=0.5).outbox(replicas=1).put(Draft("lost", intent(99)))
    assert caught.value.recoverable


async def test_with_replicas_and_append_only_files_it_is_on_both_disks() -> None:
    """Both killed at once, the replica's file alone has every item."""
    pair = Pair(appendonly="yes", appendfsync="everysec")
    try:
        if not await has_waitaof(pair.primary):
            pytest.skip("the server has no WAITAOF")
        await pair.linked()
        outbox = Redis(pair.primary.url, timeout=5.0).outbox(durable=True, replicas=1)
        await asyncio.gather(*(outbox.put(Draft(f"item-{number}", intent(number))) for number in range(20)))
        pair.primary.halt()
        pair.replica.crash()
        assert len(await Redis(pair.replica.url, timeout=5.0).outbox().page()) == 20
    finally:
        pair.stop()


async def test_a_primary_that_was_demoted_is_left(pair: Pair) -> None:
    """Its connections are closed, so that an address that leads to another server now is followed."""
    await pair.linked()
    shared = Redis(pair.primary.url, timeout=5.0, cooldown=0.001)
    assert await shared.tokens.acquire("one", 60.0) is not None
    await asked(pair.replica, "REPLICAOF", "NO", "ONE")
    await asked(pair.primary, "REPLICAOF", "127.0.0.1", pair.replica.port)
    with pytest.raises(StoreUnavailable):
        await shared.tokens.acquire("two", 60.0)
    assert not shared._slow._clients
    await asked(pair.primary, "REPLICAOF", "NO", "ONE")
    await asyncio.sleep(0.002)
    assert await shared.tokens.acquire("two", 60.0) is not None
