"""The queue of a batch in a real Valkey server: each operation, without the runners around it."""

import secrets
from collections.abc import Iterable
from typing import Any

import pytest

from apiclient.shared import Redis
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import RedisQueueStore
from tests.valkey import Server, common, connections

__all__ = ["connections"]

pytestmark = pytest.mark.usefixtures("connections")


def opened(**options: Any) -> RedisQueueStore:
    return Redis(common().url, namespace=secrets.token_hex(6)).queue(**options)


async def loaded(count: int, **options: Any) -> RedisQueueStore:
    store = opened(**options)
    await store.load("input", "run", count, position=0, part=[(n, b"line %d" % n) for n in range(1, count + 1)])
    return store


async def takes(store: RedisQueueStore, runner: str, wanted: int, done: Iterable[int] = ()) -> list[int]:
    """Return the places that *runner* gets."""
    answer = await store.round(runner, "run", wanted=wanted, done=list(done))
    assert answer is not None
    return [line.place for line in answer.lines]


async def silent(store: RedisQueueStore, *runners: str, seen: float = 0.0) -> None:
    """Let the leases of *runners* be over; *seen* seconds ago somebody was heard."""

    async def work(client: Any) -> None:
        await client.zadd(f"{store._base}:runners", dict.fromkeys(runners, 1))
        if seen:
            now = (await client.time())[0]
            await client.hset(f"{store._base}:facts", "seen", now - seen)

    await store._server.run(work)


async def test_lines_come_as_they_were_loaded() -> None:
    """Number and text of each line are kept, whatever bytes they are, and they come in order."""
    store = opened()
    part = [(1, b'{"a": 1}\n'), (7, b"\xff\x00 nonsense"), (8, b"")]
    facts = await store.load("input", "run", 3, position=0, part=part)
    assert facts == ("input", "run", 3, 3, 0)
    answer = await store.round("one", "run", wanted=10, done=[])
    assert answer is not None
    assert [(line.number, line.raw) for line in answer.lines] == part


async def test_loading_again_changes_nothing() -> None:
    """A part that is there, or that leaves a gap, is not added; the first loader's run stays, and another input out."""
    store = opened()
    assert await store.facts() is None
    await store.load("input", "run", 4, position=0, part=[(1, b"a"), (2, b"b")])
    for position in (0, 1, 3):
        facts = await store.load("input", "other", 4, position=position, part=[(9, b"x")])
        assert facts == ("input", "run", 4, 2, 0)
    assert (await store.load("another", "other", 9, position=2, part=[(3, b"x")])).input == "input"
    assert (await store.load("input", "other", 4, position=2, part=[(3, b"c"), (4, b"d")])).loaded == 4
    answer = await store.round("one", "run", wanted=9, done=[])
    assert answer is not None
    assert [line.raw for line in answer.lines] == [b"a", b"b", b"c", b"d"]


async def test_nobody_has_more_than_an_equal_part() -> None:
    """Of what is left no runner holds more than its share, and whoever holds nothing gets a line if there is one."""
    store = await loaded(100)
    assert await takes(store, "one", 40) == list(range(1, 41))
    assert len(await takes(store, "two", 80)) == 50
    assert await takes(store, "two", 80) == []
    assert len(await takes(store, "three", 80)) == 10
    assert await takes(store, "four", 80) == []
    assert len(await takes(store, "one", 80, done=range(1, 41))) == 0
    await store.leave("two", "run")
    assert await takes(store, "one", 80) == list(range(41, 61))


async def test_a_line_is_done_once() -> None:
    """Whoever acknowledges it first, it is counted once, handed out no more, and leaves the server."""
    store = await loaded(3)
    assert await takes(store, "one", 3) == [1, 2, 3]
    for _ in range(2):
        assert await takes(store, "two", 0, done=[2]) == []
    facts = await store.facts()
    assert facts is not None
    assert facts.done == 1
    await store.leave("one", "run")
    assert await takes(store, "two", 9) == [1, 3]
    await takes(store, "two", 0, done=[1, 2, 3])
    keys = await store._server.run(lambda client: client.keys(f"{store._base}:*"))
    assert {key.rpartition(b":")[2] for key in keys} == {b"facts", b"runners"}
    assert 0 < await store._server.run(lambda client: client.ttl(f"{store._base}:facts")) <= 2592000


async def test_each_side_can_count_what_a_runner_has() -> None:
    """Every answer says how many lines are held, also for one whose lease is over, and for thousands at once."""
    store = await loaded(2500)
    answer = await store.round("one", "run", wanted=2400, done=[])
    assert answer is not None
    assert (answer.held, len(answer.lines)) == (2400, 2400)
    answer = await store.round("one", "run", wanted=0, done=range(1, 2302))
    assert answer is not None
    assert (answer.held, answer.facts.done) == (99, 2301)
    await takes(store, "two", 0)
    await silent(store, "one")
    await takes(store, "two", 0)
    answer = await store.round("one", "run", wanted=0, done=[])
    assert answer is not None
    assert answer.held == 0


async def test_the_lines_of_a_silent_runner_go_to_others_first() -> None:
    """They come back in order, before what nobody had, and an acknowledgement that comes late still counts."""
    store = await loaded(6)
    assert await takes(store, "one", 3) == [1, 2, 3]
    await takes(store, "two", 0)
    await silent(store, "one")
    assert await takes(store, "two", 4) == [1, 2, 3, 4]
    assert await takes(store, "one", 0, done=[1, 2, 3, 4]) == []
    await store.leave("two", "run")
    assert await takes(store, "one", 9) == [5, 6]


async def test_after_silence_of_all_everybody_keeps_their_lines() -> None:
    """Where nobody was heard for half a lease nobody could renew: leases begin anew, and nothing runs twice."""
    store = await loaded(4, lease=10.0)
    assert await takes(store, "one", 2) == [1, 2]
    await takes(store, "two", 0)
    await silent(store, "one", "two", seen=7.0)
    assert await takes(store, "two", 2) == [3, 4]
    await silent(store, "one", "two", seen=-100.0)
    assert await takes(store, "two", 2) == []
    await silent(store, "one")
    assert await takes(store, "two", 2) == [1, 2]


async def test_both_sides_agree_anew_on_who_has_what() -> None:
    """What the server gave in an answer that was lost comes back; what it forgot is the runner's again."""
    store = await loaded(6)
    assert await takes(store, "one", 4) == [1, 2, 3, 4]
    assert await store.agree("one", "run", known=[1, 2]) == {1, 2}
    assert await takes(store, "two", 2) == [3, 4]
    await store.leave("one", "run")
    assert await store.agree("one", "run", known=[1, 3, 6]) == {1, 6}
    assert await takes(store, "two", 9) == [2]
    assert await takes(store, "three", 9) == [5]
    await silent(store, "one")
    assert await takes(store, "three", 9) == [1, 6]


async def test_a_queue_that_is_gone_is_nobodys() -> None:
    """Forgotten, loaded anew, or with lines missing: every operation says so, and changes nothing."""
    store = await loaded(3)
    await takes(store, "one", 2)
    await store.forget()
    assert await store._server.run(lambda client: client.keys(f"{store._base}*")) == []
    await store.load("input", "anew", 3, position=0, part=[(1, b"a")])
    assert await store.round("one", "run", wanted=1, done=[1]) is None
    assert not await store.agree("one", "run", known=[1])
    assert not await store.leave("one", "run", done=[1])
    facts = await store.facts()
    assert facts is not None
    assert facts.done == 0
    await store._server.run(lambda client: client.delete(f"{store._base}:lines"))
    assert await store.round("one", "anew", wanted=1, done=[]) is None


async def test_whether_the_disk_has_it_is_known() -> None:
    """A server without an append-only file does not pass for one that has it."""
    assert not await (await loaded(1)).kept()


async def test_a_dead_server_is_an_error_within_the_patience() -> None:
    """No operation waits for ever."""
    server = Server()
    store = Redis(server.url, patience=0.5).queue()
    server.stop()
    with pytest.raises(StoreUnavailable):
        await store.facts()


def test_wrong_options_are_refused() -> None:
    """The message names option and value."""
    shared = Redis("redis://worker:secret@127.0.0.1:6379/2")
    with pytest.raises(ValueError, match="name must be a name without braces, got ''"):
        shared.queue("")
    with pytest.raises(ValueError, match=r"lease must be from 1 to 3600 seconds, got 0\.5"):
        shared.queue(lease=0.5)
    with pytest.raises(ValueError, match="patience must be above 0 seconds, got 0"):
        RedisQueueStore(shared._slow, namespace="x", patience=0)
    assert repr(shared.queue("a")) == "RedisQueueStore(redis://127.0.0.1:6379/2, 'apiclient:{queue:a}', lease=30)"
