"""The outbox in a real Valkey server: the law of all outbox stores, and what is its own."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import pytest

from apiclient.middleware.errors import OutboxError
from apiclient.shared import Redis
from apiclient.stores import Draft, OutboxStore
from apiclient.stores._redis_server import RedisServer
from apiclient.stores.redis_outbox_store import RedisOutboxStore
from tests.apiclient.stores import outbox, test_outbox_store, test_outbox_store_model
from tests.apiclient.stores.outbox import ORIGIN, Clock, Make, drafts, intent
from tests.apiclient.stores.test_outbox_store import clock, store
from tests.valkey import Server, common, has_waitaof

__all__ = ["clock", "store"]

# The tests of the law, collected here once more with this module's ``make``.
globals().update({name: test for name, test in vars(test_outbox_store).items() if name.startswith("test_")})


def opened(name: str, clock: Clock | None = None, server: Server | None = None, **options: Any) -> RedisOutboxStore:
    address = (common() if server is None else server).url
    return RedisOutboxStore(
        RedisServer(address, timeout=5.0, cooldown=0.01, options={}), namespace=name, now=clock, **options
    )


@pytest.fixture
def make() -> Make:
    name = secrets.token_hex(6)
    return lambda clock: opened(name, clock)


def kept_in_redis(folder: Path, clock: Clock) -> OutboxStore:
    return opened(folder.name, clock)


@pytest.mark.parametrize(
    "examples", [5, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_the_store_does_what_its_model_does(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """In any order of operations, crashes and jumps of the clock no item is lost or settled twice."""
    monkeypatch.setitem(outbox.STORES, "redis", (kept_in_redis, True))
    test_outbox_store_model.check("redis", examples=examples, steps=20, remembers=True)


async def test_times_are_the_servers() -> None:
    """Without a clock of the test's own, what is due is due by the server's clock, whatever this machine's says."""
    store = opened(secrets.token_hex(6))
    await store.put(Draft("now", intent(1)))
    await store.put(Draft("later", intent(2), delay=3600))
    entries = await store.claim(ORIGIN, limit=9, seconds=60)
    assert [entry.id for entry in entries] == ["now"]
    await store.aclose()


async def test_put_once_more_after_a_lost_answer_stores_nothing_new() -> None:
    """The same item under the same id is the same item."""
    store = opened(secrets.token_hex(6))
    assert await store.put(Draft("a", intent(1))) == "a"
    assert await store.put(Draft("a", intent(1))) == "a"
    assert (await store.stats()).pending == 1
    await store.aclose()


async def test_a_server_with_an_append_only_file_keeps_what_was_put() -> None:
    """Killed at once and started again, it has every item that ``put`` returned for: that is what WAITAOF is for."""
    server = Server(appendonly="yes", appendfsync="everysec")
    try:
        if not await has_waitaof(server):
            pytest.skip("the server has no WAITAOF")
        store = opened("kept", server=server, durable=True)
        await asyncio.gather(*(store.put(draft) for draft in drafts(20)))
        server.crash()
        for _ in range(100):
            try:
                assert (await store.stats()).pending == 20
                break
            except OutboxError:
                await asyncio.sleep(0.02)
        else:
            pytest.fail("it does not answer")
        await store.aclose()
    finally:
        server.stop()


async def test_durable_is_an_error_where_the_server_keeps_nothing() -> None:
    """It is never said to be on the disk when it is not; with None such a server is taken as it is."""
    strict = opened(secrets.token_hex(6), durable=True)
    with pytest.raises(OutboxError, match="append-only") as caught:
        await strict.put(Draft("a", intent()))
    assert caught.value.recoverable
    lenient = opened(secrets.token_hex(6))
    assert await lenient.put(Draft("a", intent())) == "a"
    await strict.aclose()
    await lenient.aclose()


async def test_a_dead_server_is_an_error_within_the_patience() -> None:
    """Nothing is swallowed: who wanted to store knows that it is not stored."""
    server = Server()
    store = opened("x", server=server)
    server.stop()
    with pytest.raises(OutboxError, match="cannot be reached") as caught:
        await store.put(Draft("a", intent()))
    assert caught.value.recoverable
    await store.aclose()


def test_wrong_options_are_refused() -> None:
    """The message names option and value."""
    server = RedisServer("redis://127.0.0.1", timeout=1, cooldown=1, options={})
    with pytest.raises(ValueError, match="name must not be empty, got ''"):
        RedisOutboxStore(server, namespace="x", name="")
    with pytest.raises(ValueError, match="replicas must be at least 0, got -1"):
        RedisOutboxStore(server, namespace="x", replicas=-1)
    with pytest.raises(ValueError, match="patience must be above 0 seconds, got 0"):
        RedisOutboxStore(server, namespace="x", patience=0)


def test_the_repr_has_no_password() -> None:
    """Server and key."""
    shared = Redis("redis://worker:secret@127.0.0.1:6379/2")
    assert repr(shared.outbox("mail")) == "RedisOutboxStore(redis://127.0.0.1:6379/2, 'apiclient:{outbox:mail}')"
    assert repr(shared) == "Redis('redis://127.0.0.1:6379/2', namespace='apiclient')"
    assert "secret" not in f"{shared!r} {shared.quotas!r} {shared.tokens!r}"
