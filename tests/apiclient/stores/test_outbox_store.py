"""The law of an outbox store, kept by each of them."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apiclient.middleware.errors import OutboxError
from apiclient.stores import Draft, Entry, OutboxStore, Stats
from tests.apiclient.stores.outbox import ORIGIN, STORES, Clock, Make, drafts, intent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return lambda clock: STORES[request.param][0](tmp_path, clock)


@pytest.fixture
async def store(make: Make, clock: Clock) -> AsyncIterator[OutboxStore]:
    store = make(clock)
    assert isinstance(store, OutboxStore)
    yield store
    await store.aclose()


async def claimed(store: OutboxStore, limit: int = 10, seconds: float = 60.0) -> list[Entry]:
    return await store.claim(ORIGIN, limit=limit, seconds=seconds)


async def one(store: OutboxStore) -> tuple[str, str]:
    """Claim one item; return its id and lease."""
    (entry,) = await claimed(store, 1)
    assert entry.lease is not None
    return entry.id, entry.lease


async def test_what_is_put_comes_out_as_it_was(store: OutboxStore, clock: Clock) -> None:
    """Method, path, headers, body and key survive byte by byte, whatever is in them."""
    odd = intent(2, path="/v1/a%20b?q=%C3%A9&r=%22", headers=(("Prefer", 'x="\u00e9"'),), body=bytes(range(256)))
    bare = intent(3, endpoint="DELETE /orders/{id}", body=b"", headers=(), idempotency_key=None)
    for number, each in enumerate((intent(), odd, bare)):
        assert await store.put(Draft(f"i{number}", each, error="ServerError: 503")) == f"i{number}"
    entries = await claimed(store)
    assert [entry.intent for entry in entries] == [intent(), odd, bare]
    assert [entry.id for entry in entries] == ["i0", "i1", "i2"]
    first = entries[0]
    assert (first.state, first.attempts, first.error, first.expired) == ("pending", 1, "ServerError: 503", False)
    assert (first.created, first.due, first.expires) == (clock.now, clock.now + 60, math.inf)


async def test_of_many_claimants_one_gets_each_item(store: OutboxStore) -> None:
    """Twenty claims at once share out ten items without overlap."""
    await asyncio.gather(*(store.put(draft) for draft in drafts(10)))
    got = await asyncio.gather(*(claimed(store, 3) for _ in range(20)))
    ids = [entry.id for entries in got for entry in entries]
    assert sorted(ids) == sorted({draft.id for draft in drafts(10)})
    assert all(len(entries) <= 3 for entries in got)


async def test_an_outcome_is_recorded_once_by_the_holder_of_the_lease(store: OutboxStore, clock: Clock) -> None:
    """Fencing: after the lease has gone to another, the first can record nothing; and what is final stays so."""
    await store.put(Draft("a", intent()))
    item, late = await one(store)
    clock.now += 61
    _, present = await one(store)
    assert late != present
    assert not await store.extend(item, late, 60)
    assert not await store.retry_at(item, late, 5, error="x")
    assert not await store.bury(item, late, error="x")
    assert not await store.ack(item, late, status=200)
    assert await store.ack(item, present, status=201, body=b"{}")
    assert not await store.ack(item, present, status=500)
    assert not await store.bury(item, present, error="x")
    assert not await store.retry_at(item, present, 1, error="x")
    found = await store.get("a")
    assert found is not None
    assert (found.state, found.status, found.body, found.error) == ("delivered", 201, b"{}", None)
    assert (found.settled, found.attempts, found.lease) == (clock.now, 2, None)


async def test_a_lease_that_merely_ran_out_still_counts(store: OutboxStore, clock: Clock) -> None:
    """Late, but nobody else came: the outcome is recorded rather than the request repeated."""
    await store.put(Draft("a", intent()))
    item, lease = await one(store)
    clock.now += 1000
    assert await store.ack(item, lease, status=200)
    assert await claimed(store) == []


async def test_a_lease_that_is_extended_lasts(store: OutboxStore, clock: Clock) -> None:
    """A slow delivery keeps its item as long as it gives signs of life; then the item is free again."""
    await store.put(Draft("a", intent()))
    item, lease = await one(store)
    clock.now += 50
    assert await store.extend(item, lease, 60)
    clock.now += 50
    assert await claimed(store) == []
    clock.now += 11
    assert [entry.attempts for entry in await claimed(store)] == [2]


async def test_an_item_is_claimed_when_it_is_due(store: OutboxStore, clock: Clock) -> None:
    """A delay of put and of retry_at holds it back to the second; the longest due goes first."""
    await store.put(Draft("later", intent(1), delay=10))
    await store.put(Draft("now", intent(2)))
    item, lease = await one(store)
    assert item == "now"
    assert await store.retry_at(item, lease, 20, error="ServerError: 503")
    clock.now += 9.9
    assert await claimed(store) == []
    clock.now += 11
    assert [entry.id for entry in await claimed(store, 1)] == ["later"]
    (entry,) = await claimed(store)
    assert (entry.id, entry.attempts, entry.error) == ("now", 2, "ServerError: 503")


async def test_an_attempt_that_was_none_is_not_counted(store: OutboxStore) -> None:
    """counted=False takes the count of the claim back and keeps the error that was there."""
    await store.put(Draft("a", intent(), error="first"))
    for counted, error, attempts in ((False, None, 1), (True, "second", 1), (False, None, 2)):
        (entry,) = await claimed(store)
        assert entry.attempts == attempts
        assert await store.retry_at("a", str(entry.lease), 0, error=error, counted=counted)
    (entry,) = await claimed(store)
    assert (entry.attempts, entry.error) == (2, "second")


async def test_an_expired_item_is_handed_out_as_such(store: OutboxStore, clock: Clock) -> None:
    """It comes due at its expiry at the latest, so that it can be buried rather than forgotten."""
    await store.put(Draft("a", intent(), delay=100, lifetime=30))
    await store.put(Draft("b", intent(), lifetime=30))
    item, lease = await one(store)
    assert await store.retry_at(item, lease, 500, error="x")
    clock.now += 29
    assert await claimed(store) == []
    clock.now += 1
    assert [(entry.id, entry.expired) for entry in await claimed(store)] == [("a", True), ("b", True)]


async def test_only_the_asked_for_is_claimed(store: OutboxStore) -> None:
    """Another origin's items and those of skipped endpoints stay; the limit holds."""
    await store.put(Draft("other", intent(origin="http://other.test")))
    await store.put(Draft("skipped", intent(endpoint="PUT /a'b/{id}")))
    await store.put(Draft("a", intent(3)))
    await store.put(Draft("b", intent(4)))
    first = await store.claim(ORIGIN, limit=1, seconds=60, skip={"PUT /a'b/{id}", "GET /none"})
    rest = await store.claim(ORIGIN, limit=9, seconds=60, skip=["PUT /a'b/{id}"])
    assert [entry.id for entry in (*first, *rest)] == ["a", "b"]
    assert [entry.id for entry in await claimed(store)] == ["skipped"]
    assert [entry.id for entry in await store.claim("http://other.test", limit=9, seconds=60)] == ["other"]


async def test_an_ordered_endpoint_gives_out_one_after_another(store: OutboxStore, clock: Clock) -> None:
    """The next comes when the one before is final, be it delivered, dead or dropped; not while it waits or is leased."""
    for draft in drafts(4, ordered=True):
        await store.put(draft)
    await store.put(Draft("free", intent(9, endpoint="PUT /x"), ordered=True))
    entries = await claimed(store)
    assert [entry.id for entry in entries] == ["item-1", "free"]
    assert await claimed(store) == []
    assert await store.retry_at("item-1", str(entries[0].lease), 30, error="x")
    clock.now += 29
    assert await claimed(store) == []
    clock.now += 1
    item, lease = await one(store)
    assert item == "item-1"
    assert await store.ack(item, lease, status=200)
    item, lease = await one(store)
    assert item == "item-2"
    assert await store.bury(item, lease, error="422", status=422)
    assert await store.drop("item-3")
    item, _ = await one(store)
    assert item == "item-4"


async def test_a_revived_item_takes_its_place_in_the_order(store: OutboxStore) -> None:
    """A dead letter that is retried goes before those stored after it, and still one at a time."""
    for draft in drafts(3, ordered=True):
        await store.put(draft)
    item, lease = await one(store)
    assert await store.bury(item, lease, error="422", status=422)
    assert await store.revive("item-1")
    for expected in ("item-1", "item-2", "item-3"):
        (entry,) = await claimed(store)
        assert entry.id == expected
        assert await store.ack(entry.id, str(entry.lease), status=200)


async def test_a_duplicate_is_stored_once_while_the_first_is_pending(store: OutboxStore) -> None:
    """Per origin; once the first is final, the next of that name is an item of its own."""
    assert await store.put(Draft("a", intent(1), dedupe="d")) == "a"
    assert await store.put(Draft("b", intent(2), dedupe="d")) == "a"
    assert await store.put(Draft("c", intent(3), dedupe="e")) == "c"
    assert await store.put(Draft("d", intent(4, origin="http://other.test"), dedupe="d")) == "d"
    item, lease = await one(store)
    assert await store.put(Draft("e", intent(5), dedupe="d")) == "a"
    assert await store.ack(item, lease, status=200)
    assert await store.put(Draft("f", intent(6), dedupe="d")) == "f"
    assert (await store.stats()).pending == 3


async def test_an_id_is_taken_once(store: OutboxStore) -> None:
    """Storing under an id that is there is an error, and disturbs neither it nor what is stored beside it."""
    await store.put(Draft("a", intent(1)))
    results = await asyncio.gather(
        store.put(Draft("b", intent(2))),
        store.put(Draft("a", intent(3))),
        store.put(Draft("c", intent(4))),
        return_exceptions=True,
    )
    assert (results[0], results[2]) == ("b", "c")
    assert isinstance(results[1], OutboxError)
    # A gather promises no order, and a store with several connections keeps none.
    kept = {entry.id: entry.intent for entry in await claimed(store)}
    assert kept == {"a": intent(1), "b": intent(2), "c": intent(4)}


async def test_the_dead_are_listed_shown_revived_and_dropped(store: OutboxStore, clock: Clock) -> None:
    """What an operator does with dead letters."""
    for draft in drafts(5):
        await store.put(draft)
    for entry in await claimed(store, 3):
        assert await store.bury(entry.id, str(entry.lease), error="UnprocessableContent: 422", status=422, body=b"no")
    assert [entry.id for entry in await store.page("dead")] == ["item-1", "item-2", "item-3"]
    assert [entry.id for entry in await store.page("dead", after=1, limit=1)] == ["item-2"]
    assert [entry.id for entry in await store.page()] == [f"item-{number}" for number in range(1, 6)]
    dead = await store.get("item-1")
    assert dead is not None
    assert (dead.error, dead.status, dead.body) == ("UnprocessableContent: 422", 422, b"no")
    assert await store.revive("item-1")
    assert not await store.revive("nobody")
    assert await store.drop("item-2")
    assert not await store.drop("item-2")
    assert await store.get("item-2") is None
    clock.now += 1
    entries = await claimed(store)
    assert [(entry.id, entry.attempts) for entry in entries] == [("item-1", 1), ("item-4", 1), ("item-5", 1)]
    assert not await store.revive("item-4"), "it is being delivered"
    assert await store.ack("item-4", str(entries[1].lease), status=200)
    assert not await store.revive("item-4"), "it is delivered"


async def test_reviving_one_that_waits_makes_it_due(store: OutboxStore) -> None:
    """The operator who knows that the server is back need not wait."""
    await store.put(Draft("a", intent(), delay=500, lifetime=900))
    assert await claimed(store) == []
    assert await store.revive("a")
    (entry,) = await claimed(store)
    assert (entry.id, entry.expires) == ("a", math.inf)


async def test_reviving_one_that_waits_frees_its_name(store: OutboxStore) -> None:
    """What comes under that name after it is an item of its own, also where the revived one was not dead."""
    assert await store.put(Draft("a", intent(1), dedupe="d")) == "a"
    assert await store.revive("a")
    assert await store.put(Draft("b", intent(2), dedupe="d")) == "b"


async def test_dropping_what_is_being_delivered_fences_its_outcome(store: OutboxStore) -> None:
    """It is gone, and the deliverer is told so."""
    await store.put(Draft("a", intent()))
    item, lease = await one(store)
    assert await store.drop("a")
    assert not await store.ack(item, lease, status=200)
    assert await store.stats() == Stats()


async def test_what_is_final_is_kept_for_its_time(store: OutboxStore, clock: Clock) -> None:
    """What purge forgets goes by state and age, and never what is pending."""
    for draft in drafts(3):
        await store.put(draft)
    first, second, _ = await claimed(store)
    assert await store.ack(first.id, str(first.lease), status=200)
    clock.now += 50
    assert await store.bury(second.id, str(second.lease), error="x")
    clock.now += 50
    assert await store.purge("delivered", 100.1) == 0
    assert await store.purge("delivered", 100) == 1
    assert await store.purge("dead", 51) == 0
    assert await store.purge("pending", 0) == 0
    assert await store.purge("dead", 50) == 1
    assert [entry.id for entry in await store.page()] == ["item-3"]


async def test_stats_count(store: OutboxStore, clock: Clock) -> None:
    """By state; those being delivered just now; the age of the oldest; per endpoint."""
    assert await store.stats() == Stats()
    for draft in drafts(4):
        await store.put(draft)
    clock.now += 10
    await store.put(Draft("x", intent(9, endpoint="PUT /x")))
    entries = await claimed(store, 3)
    assert await store.ack(entries[0].id, str(entries[0].lease), status=200)
    assert await store.bury(entries[1].id, str(entries[1].lease), error="x")
    lanes = {(ORIGIN, "POST /orders"): 2, (ORIGIN, "PUT /x"): 1}
    assert await store.stats() == Stats(pending=3, leased=1, delivered=1, dead=1, oldest=10.0, endpoints=lanes)
    clock.now += 61
    assert (await store.stats()).leased == 0


@pytest.mark.parametrize("ahead", [3600.0, 10 * 365 * 86_400.0])
async def test_a_clock_that_was_ahead_leaves_nothing_stuck(store: OutboxStore, clock: Clock, ahead: float) -> None:
    """Set back by more than a minute, what was put, delayed or leased in the future is due at once."""
    await claimed(store)
    clock.now += ahead
    for draft in drafts(3):
        await store.put(draft)
    await store.put(Draft("delayed", intent(4), delay=10))
    item, lease = await one(store)
    assert await store.retry_at(item, lease, 100, error="x")
    await one(store)
    clock.now -= ahead
    assert len(await claimed(store)) == 4


async def test_a_clock_that_is_corrected_a_little_breaks_no_lease(store: OutboxStore, clock: Clock) -> None:
    """A step back of a second is no reason to deliver twice."""
    await store.put(Draft("a", intent()))
    await one(store)
    clock.now -= 1
    assert await claimed(store) == []


async def test_closing_loses_nothing(store: OutboxStore) -> None:
    """The next operation opens the store again."""
    await store.put(Draft("a", intent()))
    await store.aclose()
    await store.aclose()
    assert [entry.id for entry in await claimed(store)] == ["a"]
