"""Hints between circuit breakers against a real Valkey server."""

import asyncio
import secrets
from collections.abc import Callable

import aiohttp
import pytest

from apiclient import ApiClient
from apiclient.middleware import CircuitBreaker
from apiclient.shared import Redis
from apiclient.stores.redis_hint_store import RedisHintStore
from tests.conftest import Peer
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")
ORIGIN = "https://api.test"


@pytest.fixture
def worker() -> Callable[[], Redis]:
    """Make what another process would have: an identity and connections of its own, on the same namespace."""
    name = secrets.token_hex(6)
    return lambda: Redis(common().url, namespace=name, timeout=5.0)


async def done(hints: RedisHintStore) -> None:
    """Let what is under way in the background end."""
    await asyncio.gather(*hints._tasks)


async def knows(hints: RedisHintStore, key: str = ORIGIN) -> bool:
    hints.hinted(key)
    await done(hints)
    return hints.hinted(key)


async def test_a_hint_reaches_the_others_and_not_its_sender(worker: Callable[[], Redis]) -> None:
    """For the circuit that it names, and no other."""
    one, two, three = worker().hints, worker().hints, worker().hints
    one.publish(ORIGIN, 30.0)
    await done(one)
    assert await knows(two)
    assert await knows(three)
    assert not await knows(one)
    assert not await knows(two, "https://other.test")


async def test_a_hint_ends_by_itself(worker: Callable[[], Redis]) -> None:
    """On the server, and in the memory of those who have heard it; a shorter one does not cut a longer one off."""
    shared, two = worker(), worker().hints
    shared.hints.publish(ORIGIN, 30.0)
    await done(shared.hints)
    shared.hints.publish(ORIGIN, 1.0)
    await done(shared.hints)
    left = await shared._quick.run(lambda client: client.pttl(shared.hints._name(ORIGIN)))
    assert 20_000 < left <= 30_000
    assert await knows(two)
    known = two._known.peek(ORIGIN)
    assert known is not None
    assert known.until - asyncio.get_running_loop().time() == pytest.approx(30.0, abs=5.0)
    known.until = known.again = 0.0
    await shared._quick.run(lambda client: client.delete(shared.hints._name(ORIGIN)))
    assert not await knows(two)


async def test_a_question_is_asked_once_a_second_in_the_background(worker: Callable[[], Redis]) -> None:
    """A thousand failures in a row are one question, and none of them waits for it."""
    hints = worker().hints
    assert not any(hints.hinted(ORIGIN) for _ in range(1000))
    assert len(hints._tasks) == 1
    await done(hints)


async def test_what_is_under_way_is_bounded(worker: Callable[[], Redis]) -> None:
    """However many circuits fail at once; and closing ends it."""
    shared = worker()
    for number in range(100):
        shared.hints.hinted(f"https://{number}.test")
        shared.hints.publish(f"https://{number}.test", 5.0)
    assert len(shared.hints._tasks) == 8
    await shared.aclose()
    assert not shared.hints._tasks


async def test_without_the_server_nothing_is_known_and_nothing_fails() -> None:
    """Hints are a courtesy."""
    server = Server()
    server.stop()
    hints = Redis(server.url, timeout=0.5).hints
    hints.publish(ORIGIN, 5.0)
    assert not await knows(hints)


async def test_two_clients_with_hints_open_on_less(peer: Peer, worker: Callable[[], Redis]) -> None:
    """One finds the origin down with its whole minimum, the other with a quarter of that."""
    peer.answers(503)
    sent = []
    for shared in (worker(), worker()):
        breaker = CircuitBreaker(hints=shared.hints, cooldown=60.0, max_cooldown=60.0)
        before = peer.count
        async with aiohttp.ClientSession(middlewares=(breaker,)) as session:
            while breaker.state(peer.url) == "closed":
                async with session.get(peer.url):
                    await done(shared.hints)
        await done(shared.hints)
        sent.append(peer.count - before)
    assert sent == [20, 5]


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_client_has_hints_by_option(*, wanted: bool) -> None:
    """Off by default: one bad host must not make the rest nervous."""
    shared = Redis(common().url, breaker_hints=True) if wanted else Redis(common().url)
    async with ApiClient("https://api.test", shared=shared) as client:
        breaker = client.pipeline.find(CircuitBreaker)
        assert ("hints=RedisHintStore(" in repr(breaker)) is wanted
