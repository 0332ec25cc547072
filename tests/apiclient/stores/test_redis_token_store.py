"""Tokens in a real Valkey server: the law of all token stores, and encryption."""

import asyncio
import secrets
from typing import Any

import pytest
import redis.asyncio
from cryptography.fernet import Fernet

from apiclient.shared import Redis
from apiclient.stores import TokenStore
from apiclient.stores._redis_server import RedisServer, StoreUnavailable
from apiclient.stores.redis_token_store import RedisTokenStore
from apiclient.stores.token_store import RenewableTokenStore
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")


def opened(name: str, **options: Any) -> RedisTokenStore:
    server = RedisServer(common().url, timeout=5.0, cooldown=0.01, options={})
    return RedisTokenStore(server, namespace=name, **options)


async def raw(command: str, *arguments: Any) -> Any:
    async with redis.asyncio.Redis.from_url(common().url) as client:
        connection: Any = client
        return await connection.execute_command(command, *arguments)


async def lapse(namespace: str) -> None:
    """Let everything in *namespace* run out that does so by itself."""
    for name in await raw("KEYS", f"{namespace}:*"):
        if await raw("PTTL", name) >= 0:
            await raw("DEL", name)


@pytest.fixture
def name() -> str:
    return secrets.token_hex(6)


async def test_what_is_saved_is_loaded(name: str) -> None:
    """The last text wins; keys do not mix; nothing is there at first; another process sees it."""
    store = opened(name)
    assert isinstance(store, TokenStore)
    assert await store.load("a") is None
    lease = await store.acquire("a", 10.0)
    assert lease is not None
    assert await store.save("a", "one", lease)
    assert await store.save("a", "two \u00e9 '\"", lease)
    assert await opened(name).load("a") == "two \u00e9 '\""
    assert await store.load("b") is None


async def test_one_holder_at_a_time(name: str) -> None:
    """While a lease is held nobody else gets it; given back or run out, the next one does."""
    store = opened(name)
    first = await store.acquire("a", 10.0)
    assert first is not None
    assert await opened(name).acquire("a", 10.0) is None
    assert await store.acquire("b", 10.0) is not None
    await store.release("a", first)
    second = await store.acquire("a", 10.0)
    assert second not in {None, first}
    await lapse(name)
    assert await store.acquire("a", 10.0) not in {None, first, second}


async def test_a_lease_ends_by_itself(name: str) -> None:
    """A holder that died stops nobody: the server lets it run out after its time."""
    store = opened(name)
    assert await store.acquire("a", 10.0) is not None
    (lock,) = await raw("KEYS", f"{name}:*:lock")
    assert 0 < await raw("PTTL", lock) <= 10_000


async def test_only_the_holder_saves(name: str) -> None:
    """Who lost the lease to another cannot overwrite; who merely let it run out still can."""
    store = opened(name)
    late = await store.acquire("a", 10.0)
    assert late is not None
    await lapse(name)
    assert await store.save("a", "late", late)
    taken = await store.acquire("a", 10.0)
    assert taken is not None
    assert not await store.save("a", "too late", late)
    assert await store.save("a", "in time", taken)
    assert await store.load("a") == "in time"


async def test_who_saves_very_late_overwrites_nothing(name: str) -> None:
    """However long it was away, and though the newer holder is done: what that one saved stays."""
    store = opened(name)
    late = await store.acquire("a", 10.0)
    assert late is not None
    await lapse(name)
    newer = await store.acquire("a", 10.0)
    assert newer is not None
    assert await store.save("a", "newer", newer)
    await store.release("a", newer)
    await lapse(name)
    assert not await store.save("a", "late", late)
    assert await store.load("a") == "newer"


async def test_a_renewed_lease_lasts_from_then_on(name: str) -> None:
    """Also one that had run out, unless another has it by now, or it was given back."""
    store = opened(name)
    assert isinstance(store, RenewableTokenStore)
    first = await store.acquire("a", 10.0)
    assert first is not None
    assert await store.renew("a", first, 100.0)
    (lock,) = await raw("KEYS", f"{name}:*:lock")
    assert 10_000 < await raw("PTTL", lock) <= 100_000
    await lapse(name)
    assert await store.renew("a", first, 10.0)
    assert await store.acquire("a", 10.0) is None
    await lapse(name)
    second = await store.acquire("a", 10.0)
    assert second is not None
    assert not await store.renew("a", first, 60.0)
    await store.release("a", second)
    assert not await store.renew("a", second, 60.0)
    assert not await store.renew("never", second, 60.0)
    assert await store.acquire("a", 10.0) is not None


async def test_giving_back_what_is_not_held_changes_nothing(name: str) -> None:
    """An old holder cannot free the lease of the next."""
    store = opened(name)
    old = await store.acquire("a", 10.0)
    assert old is not None
    await lapse(name)
    assert await store.acquire("a", 10.0) is not None
    await store.release("a", old)
    await store.release("never", old)
    assert await store.acquire("a", 10.0) is None


async def test_of_many_at_once_one_gets_the_lease(name: str) -> None:
    """30 tasks on as many connections: one winner."""
    store = opened(name)
    leases = await asyncio.gather(*(store.acquire("a", 10.0) for _ in range(30)))
    assert sum(lease is not None for lease in leases) == 1


async def test_encrypted_texts_do_not_show_on_the_server(name: str) -> None:
    """Neither the token nor the key that it is kept under can be read there."""
    store = opened(name, keys=[Fernet.generate_key()])
    lease = await store.acquire("issuer/client", 10.0)
    assert lease is not None
    assert await store.save("issuer/client", "refresh-secret", lease)
    assert await store.load("issuer/client") == "refresh-secret"
    names = await raw("KEYS", f"{name}:*")
    assert not any(b"client" in each for each in names)
    texts = [await raw("GET", each) for each in names if not each.endswith((b":lock", b":fence"))]
    assert texts
    assert not any(b"refresh-secret" in each for each in texts)


async def test_keys_can_be_replaced(name: str) -> None:
    """The newest encrypts, all decrypt; what no key opens, or was kept under another name, is unreadable."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    before = opened(name, keys=[old])
    lease = await before.acquire("a", 10.0)
    assert lease is not None
    assert await before.save("a", "text", lease)
    assert await opened(name, keys=[new, old]).load("a") == "text"
    assert await opened(name, keys=[new]).load("a") == ""
    stolen = await raw("GET", before._name("a"))
    await raw("SET", before._name("b"), stolen)
    assert await before.load("b") == ""


async def test_a_dead_server_is_an_error_at_once(name: str) -> None:
    """The credential reports it as a token that is unavailable; it does not hang."""
    server = Server()
    shared = Redis(server.url, patience=1.0)
    server.stop()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await shared.tokens.load("a")
    with pytest.raises(StoreUnavailable, match="failed a moment ago"):
        await shared.tokens.acquire("a", 1.0)
    await shared.aclose()


def test_a_key_that_is_none_is_refused_without_showing_it() -> None:
    """The message says what a key looks like."""
    with pytest.raises(ValueError, match="keys must be Fernet keys") as caught:
        opened("x", keys=["my-password"])
    assert "my-password" not in str(caught.value)
