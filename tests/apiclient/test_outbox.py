import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import ApiKey, StaticToken
from apiclient.middleware import Alert, Idempotency, StatusErrors
from apiclient.middleware.intent import Intent
from apiclient.outbox import Drained, MemoryOutbox, Outbox, Outcome, Ticket
from apiclient.stores import Entry, MemoryOutboxStore, OutboxStore, SqliteOutboxStore
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


@pytest.fixture
def store(tmp_path: Path) -> OutboxStore:
    return SqliteOutboxStore(tmp_path / "outbox.db")


async def order(client: ApiClient, number: int, **options: Any) -> Ticket:
    return await client.defer("POST", "/orders", json={"n": number}, idempotency_key=f"order-{number}", **options)


def options(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


async def everything(outbox: Outbox) -> list[Entry]:
    return [entry async for entry in outbox.items()]


async def test_defer_stores_at_once_and_drain_delivers(peer: Peer, store: OutboxStore) -> None:
    """Nothing is sent by defer; drain sends it as it was meant, credentials attached then."""
    outbox = Outbox(store)
    credentials = StaticToken("canary")
    async with ApiClient(f"{peer.url}/v1", outbox=outbox, credentials=credentials) as client:
        ticket = await order(client, 1, params={"dry": "no", "q": "a b"}, headers={"Prefer": "wait=1"})
        assert peer.count == 0
        assert (await outbox.stats()).pending == 1
        assert await outbox.drain() == Drained(delivered=1, dead=0, left=0)
        assert await ticket.wait(0) == Outcome(ok=True, status=200, body=b'{"fine": true}')
        found = await outbox.get(ticket.id)
    assert peer.seen == [("POST", "/v1/orders?dry=no&q=a+b", b'{"n": 1}')]
    sent = peer.headers[0]
    assert {name: sent[name] for name in ("Authorization", "Content-Type", "Idempotency-Key", "Prefer")} == {
        "Authorization": "Bearer canary",
        "Content-Type": "application/json",
        "Idempotency-Key": "order-1",
        "Prefer": "wait=1",
    }
    assert found is not None
    assert (found.state, found.status, found.body, found.attempts) == ("delivered", 200, b'{"fine": true}', 1)


async def test_a_stored_call_has_the_type_that_the_chain_would_have_given_it(peer: Peer, store: OutboxStore) -> None:
    """What ContentType puts right before sending is put right before storing; a stream is read into memory."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"n":'
        yield b" 1}"

    async with ApiClient(peer.url, outbox=Outbox(store)) as client:
        await client.defer("PUT", "/orders/{id}", path_params={"id": "a/b"}, data=body())
        await client.defer("PUT", "/orders/{id}", path_params={"id": 2}, data=b"{}")
        assert client.outbox is not None
        stored = [dict(entry.intent.headers)["Content-Type"] for entry in await everything(client.outbox)]
        assert stored[1] == "application/json"
        assert (await client.outbox.drain()).delivered == 2
    assert peer.seen == [("PUT", "/orders/a%2Fb", b'{"n": 1}'), ("PUT", "/orders/2", b"{}")]
    assert [headers["Content-Type"] for headers in peer.headers] == ["application/json"] * 2


async def test_compressed_bodies_are_compressed_once(peer: Peer, store: OutboxStore) -> None:
    """What aiohttp compresses on the way out is stored plain; what the caller compressed stays as it is."""
    bodies: list[tuple[str | None, bytes]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append((request.headers.get("Content-Encoding"), await request.read()))
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url, outbox=Outbox(store)) as client:
        await client.defer("PUT", "/a", data=b"x" * 100, compress="deflate", headers={"Content-Type": "text/plain"})
        assert client.outbox is not None
        assert (await client.outbox.drain()).delivered == 1
    assert [body for _, body in bodies] == [b"x" * 100]


@pytest.mark.parametrize("credential", [ApiKey("canary", query="api_key"), ApiKey("canary"), StaticToken("canary")])
async def test_no_credential_reaches_the_file(peer: Peer, tmp_path: Path, credential: Any) -> None:
    """Not by query, not by header, not in an error: the bytes of the file are searched for it."""
    peer.answers(503, body=b'{"detail": "down"}')
    path = tmp_path / "outbox.db"
    async with ApiClient(peer.url, outbox=Outbox(path), credentials=credential) as client:
        secret = {"Cookie": "sid=canary", "X-Secret": "canary"}
        with pytest.raises(errors.Deferred):
            await client.put("/orders/1", json={"n": 1}, params={"q": "kept"}, headers=secret, defer=True)
        await client.defer("PUT", "/orders/2", json={"n": 2}, headers=secret)
        assert client.outbox is not None
        assert (await client.outbox.drain(once=True)).left == 2
        seen = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"canary" not in seen
    assert b"q=kept" in seen
    assert "canary" in f"{peer.seen[-1]} {peer.headers[-1]}"


async def test_a_post_needs_a_key_to_be_stored(peer: Peer, store: OutboxStore) -> None:
    """At least once on the wire: what must not be sent twice is not taken; a policy that makes keys will do."""
    async with ApiClient(peer.url, outbox=Outbox(store)) as client:
        with pytest.raises(errors.InvalidRequest, match="A POST without an idempotency key cannot be stored"):
            await client.defer("post", "/orders", json={})
        keyed = client.pipeline.replace(Idempotency, Idempotency(methods={"POST"}, quoted=True))
        await client.defer("POST", "/orders", json={}, pipeline=keyed)
        assert client.outbox is not None
        (entry,) = await everything(client.outbox)
        assert entry.intent.idempotency_key
        assert (await client.outbox.drain()).delivered == 1
        assert peer.headers[0]["Idempotency-Key"] == entry.intent.idempotency_key
    async with ApiClient(peer.url) as client:
        with pytest.raises(RuntimeError, match="this client has no outbox"):
            await client.defer("GET", "/x")


async def test_a_made_key_is_the_same_before_and_after_deferral(peer: Peer, store: OutboxStore) -> None:
    """Law 12: each wire request of the call, then and later, carries the key that was made at first."""
    peer.answers(503)
    outbox = Outbox(store)
    base = ApiClient(peer.url, outbox=outbox).pipeline
    async with ApiClient(
        peer.url, outbox=outbox, pipeline=base.replace(Idempotency, Idempotency(methods={"POST"}))
    ) as client:
        with pytest.raises(errors.Deferred):
            await client.post("/orders", json={}, defer=True)
        first = peer.count
        await outbox.drain(once=True)
        peer.answers(200)
        assert (await outbox.drain()).delivered == 1
    keys = {headers["Idempotency-Key"] for headers in peer.headers}
    assert len(keys) == 1
    assert peer.count > first + 1


async def test_a_key_is_sent_also_where_no_policy_sends_it(peer: Peer, store: OutboxStore) -> None:
    """The key that the caller gave as a header is part of the item."""
    outbox = Outbox(store)
    async with ApiClient(peer.url, outbox=outbox, pipeline=Pipeline([StatusErrors()])) as client:
        await client.defer("POST", "/a", json={}, headers={"Idempotency-Key": "by hand"})
        await outbox.drain()
    assert peer.headers[0]["Idempotency-Key"] == "by hand"


async def test_the_same_call_is_stored_once(peer: Peer, store: OutboxStore) -> None:
    """Same key and alike in everything, or the same dedupe; another body is another item, and never lost."""
    async with ApiClient(peer.url, outbox=Outbox(store)) as client:
        first = await order(client, 1)
        assert (await order(client, 1)) is first
        other = await client.defer("POST", "/orders", json={"n": 2}, idempotency_key="order-1")
        assert other.id != first.id
        named = await client.defer("PUT", "/a", json=1, dedupe="a")
        assert (await client.defer("PUT", "/a", json=2, dedupe="a")).id == named.id
        await client.defer("PUT", "/a", json=1)
        await client.defer("PUT", "/a", json=1)
        assert client.outbox is not None
        assert (await client.outbox.drain()).delivered == 5
        assert (await first.wait(0)).ok


async def test_a_permanent_answer_makes_a_dead_letter(peer: Peer, store: OutboxStore) -> None:
    """It is kept with what was answered, told once, can be exported, retried and dropped."""
    dead: list[tuple[str, Outcome]] = []
    outbox = Outbox(store, on_dead=lambda entry, outcome: dead.append((entry.state, outcome)))
    async with ApiClient(f"{peer.url}/v1", outbox=outbox) as client:
        peer.answers(422, body=b'{"title": "no"}')
        ticket = await order(client, 1)
        assert await outbox.drain() == (0, 1, 0)
        outcome = await ticket.wait()
        assert (outcome.ok, outcome.status) == (False, 422)
        assert "UnprocessableContent: 422" in (outcome.error or "")
        assert dead == [("dead", outcome)]
        (line,) = [line async for line in outbox.export()]
        assert line == {
            "id": ticket.id,
            "method": "POST",
            "url": f"{peer.url}/v1/orders",
            "headers": {"Accept": line["headers"]["Accept"], "Content-Type": "application/json"},
            "idempotency_key": "order-1",
            "json": {"n": 1},
        }
        peer.answers(200)
        assert await outbox.retry(ticket.id)
        assert await outbox.drain() == (1, 0, 0)
        assert await outbox.drop(ticket.id)
        assert await everything(outbox) == []


async def test_after_so_many_attempts_it_is_given_up(peer: Peer, store: OutboxStore) -> None:
    """Each delivery counts one, on a growing schedule; the last error is kept."""
    peer.answers(500)
    outbox = Outbox(store, attempts=3, wait=10.0, random=lambda: 1.0)
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def on_dead(entry: Entry, _: Outcome) -> None:
        times.append(loop.time())
        assert entry.error == "Given up after 3 attempts; last: ServerError: 500 Internal Server Error"

    outbox = Outbox(MemoryOutboxStore(now=loop.time), attempts=3, wait=10.0, random=lambda: 1.0, on_dead=on_dead)
    async with ApiClient(peer.url, outbox=outbox, pipeline=Pipeline([StatusErrors()])) as client:
        await client.defer("PUT", "/a")
        assert await outbox.drain() == (0, 1, 0)
    assert peer.count == 3
    assert times == [pytest.approx(30, abs=3)]


async def test_what_expires_is_given_up_unsent(peer: Peer) -> None:
    """An order for this evening is not delivered tomorrow."""
    loop = asyncio.get_running_loop()
    outbox = Outbox(MemoryOutboxStore(now=loop.time), lifetime=60.0)
    async with ApiClient(peer.url, outbox=outbox) as client:
        tickets = [
            await client.defer("PUT", f"/{number}", lifetime=lifetime) for number, lifetime in ((1, None), (2, 600))
        ]
        await asyncio.sleep(61)
        assert await outbox.drain() == (1, 1, 0)
        assert (await tickets[0].wait()).error == "Expired before it could be delivered; last: None"
    assert [path for _, path, _ in peer.seen] == ["/2"]


async def test_a_delay_is_kept(peer: Peer) -> None:
    """delay= holds an item back, and drain(once=True) does not wait for it."""
    loop = asyncio.get_running_loop()
    outbox = Outbox(MemoryOutboxStore(now=loop.time))
    async with ApiClient(peer.url, outbox=outbox) as client:
        await client.defer("PUT", "/a", delay=100)
        assert await outbox.drain(once=True) == (0, 0, 1)
        assert await outbox.drain() == (1, 0, 0)
    assert loop.time() == pytest.approx(100, abs=2)


async def test_the_outbox_refuses_what_it_cannot_keep(peer: Peer, tmp_path: Path) -> None:
    """Body over the cap, a full disk: OutboxError, and the call's own failure is its cause."""
    peer.answers(503)
    outbox = Outbox(tmp_path / "outbox.db", max_body=100)
    async with ApiClient(peer.url, outbox=outbox) as client:
        with pytest.raises(
            errors.OutboxError, match="The body has 200 bytes, and max_body of the outbox is 100"
        ) as caught:
            await client.put("/a", data=b"x" * 200, defer=True)
        assert isinstance(caught.value.__cause__, errors.ServerError)
        assert caught.value.attempts == peer.count
        with pytest.raises(errors.OutboxError, match="max_body"):
            await client.defer("PUT", "/a", data=b"x" * 200)
        store: Any = outbox._store
        await store._worker.write(lambda database: database.execute("DROP TABLE items"))
        with pytest.raises(errors.OutboxError, match="no such table") as caught:
            await client.put("/a", data=b"x", defer=True)
        assert isinstance(caught.value.__cause__, errors.ServerError)


async def test_a_store_that_breaks_in_an_unforeseen_way_hides_nothing(peer: Peer) -> None:
    """Whatever a store of somebody's own raises, the call's failure is behind it."""

    class Broken(MemoryOutboxStore):
        async def put(self, draft: Any) -> str:
            raise sqlite3.ProgrammingError(draft.id)

    peer.answers(503)
    async with ApiClient(peer.url, outbox=Outbox(Broken())) as client:
        with pytest.raises(sqlite3.ProgrammingError) as caught:
            await client.put("/a", defer=True)
    assert isinstance(caught.value.__context__, errors.ServerError)


async def test_an_item_never_goes_to_another_origin(peer: Peer, store: OutboxStore) -> None:
    """Law 11: a client of another origin on the same file leaves it alone, and cannot be made to send it."""
    outbox = Outbox(store)
    async with ApiClient("http://api.invalid", outbox=outbox) as client:
        await client.defer("PUT", "/secret", json={"n": 1})
    async with ApiClient(peer.url, outbox=outbox) as client:
        assert await outbox.drain() == (0, 0, 0)
        (entry,) = await everything(outbox)
        with pytest.raises(errors.InvalidRequest, match=r"is for http://api\.invalid, and this client for"):
            await client.send(entry.intent)
    assert peer.count == 0


async def test_ordered_endpoints_keep_their_order(peer: Peer, store: OutboxStore) -> None:
    """One after another, though the first needs several attempts; others go on meanwhile."""
    peer.answers(500, 500, 500, 200)
    outbox = Outbox(store, ordered={"POST /orders"}, wait=0.5)
    async with ApiClient(peer.url, outbox=outbox, pipeline=Pipeline([StatusErrors()])) as client:
        for number in range(6):
            await client.defer("POST", "/orders", json=number, headers={"Idempotency-Key": f"k{number}"})
        assert await outbox.drain() == (6, 0, 0)
    bodies = [body for _, _, body in peer.seen]
    assert bodies == [b"0", b"0", b"0", b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_ticket_tells_everybody_who_waits(peer: Peer, store: OutboxStore) -> None:
    """Before and after; one who stops waiting disturbs nobody; tickets nobody holds are not kept."""
    outbox = Outbox(store)
    async with ApiClient(peer.url, outbox=outbox) as client:
        ticket = await order(client, 1)
        with pytest.raises(TimeoutError):
            await ticket.wait(5)
        waiting = [asyncio.create_task(ticket.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await order(client, 2)
        assert list(outbox._tickets) == [ticket.id]
        assert "done" not in repr(ticket)
        await outbox.drain()
        assert [(await each).status for each in waiting[1:]] == [200, 200]
        assert repr(ticket) == f"<Ticket {ticket.id} done>"
        assert not list(outbox._tickets)


async def test_the_alert_hears_of_the_outbox(peer: Peer) -> None:
    """An oldest item that is too old, or a dead letter, is told to whoever is on duty."""
    loop = asyncio.get_running_loop()
    outbox = Outbox(MemoryOutboxStore(now=loop.time))
    told: list[str] = []
    peer.answers(422)
    async with ApiClient(peer.url, outbox=outbox) as client:
        alert = Alert(sinks=[lambda notice: told.append(notice.cause)])
        pipeline = client.pipeline.replace(Alert, alert)
        async with ApiClient(peer.url, outbox=outbox, pipeline=pipeline) as alerting, outbox.running():
            await alerting.defer("PUT", "/a")
            await asyncio.sleep(120)
            await alert.aclose()
    assert told
    assert "dead" in told[0]


def test_options_are_checked(tmp_path: Path) -> None:
    """A wrong option is refused by name and value."""
    path = tmp_path / "outbox.db"
    for option, value in (("concurrency", 0), ("attempts", 0), ("max_body", 0), ("max_answer", -1)):
        with pytest.raises(ValueError, match=f"{option} must be at least"):
            Outbox(path, **options(option, value))
    for option in ("wait", "max_wait", "max_pause", "lifetime", "lease", "timeout", "retention", "poll"):
        with pytest.raises(ValueError, match=f"{option} must be above 0 seconds, got 0"):
            Outbox(path, **options(option, 0))
    with pytest.raises(TypeError, match="ordered must be a collection"):
        Outbox(path, ordered="POST /orders")
    wrong: Any = object()
    with pytest.raises(TypeError, match="store must be a path or an outbox store, got object"):
        Outbox(wrong)
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        MemoryOutbox(capacity=0)
    assert not path.exists(), "nothing is opened before it is used"
    assert repr(Outbox("outbox.db")) == "Outbox(SqliteOutboxStore('outbox.db'))"
    assert repr(MemoryOutbox()) == "MemoryOutbox(0 of 10000)"


async def test_put_checks_what_it_is_given() -> None:
    """Times that make no sense are refused before anything is stored."""
    outbox = MemoryOutbox()
    intent = Intent(method="PUT", origin="http://api.test", path="/a", endpoint="PUT /a")
    for name, value in (("delay", -1), ("delay", math.inf), ("lifetime", 0)):
        with pytest.raises(ValueError, match=name):
            await outbox.put(intent, **options(name, value))
    assert len(outbox) == 0
    with pytest.raises(RuntimeError, match="belongs to no client"):
        await outbox.drain()
    with pytest.raises(RuntimeError, match="belongs to no client"):
        async with outbox.running():
            pass


async def test_who_waits_for_what_is_dropped_is_told(peer: Peer, store: OutboxStore) -> None:
    """Nothing will come of it any more: a wait without a limit ends."""
    outbox = Outbox(store)
    async with ApiClient(peer.url, outbox=outbox) as client:
        ticket = await order(client, 1)
        waiting = asyncio.create_task(ticket.wait(60))
        await asyncio.sleep(0)
        assert await outbox.drop(ticket.id)
        assert await waiting == Outcome(ok=False, status=None, error="Dropped")
        assert await outbox.drain() == Drained(delivered=0, dead=0, left=0)
