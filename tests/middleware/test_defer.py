import asyncio

import pytest

from apiclient import ApiClient, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import Defer
from apiclient.middleware.intent import Intent
from apiclient.outbox import MemoryOutbox, Outcome
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


async def deferred(client: ApiClient, **options: object) -> errors.Deferred:
    with pytest.raises(errors.Deferred) as caught:
        await client.post("/orders", json={"n": 1}, defer=True, **options)
    return caught.value


async def test_what_could_not_be_sent_is_sent_later_with_the_same_key(peer: Peer) -> None:
    """Law 12, in memory: deferred, then delivered once, the same key throughout, credentials attached anew."""
    peer.answers(503)
    outbox = MemoryOutbox()
    async with ApiClient(peer.url, outbox=outbox, credentials=StaticToken("canary")) as client:
        error = await deferred(client, idempotency_key="k-1")
        assert error.recoverable
        assert isinstance(error.__cause__, errors.ServerError)
        assert len(outbox) == 1
        assert await outbox.drain(client) == 0
        peer.answers(200)
        assert await outbox.drain(client) == 1
        assert await error.ticket.wait(1) == Outcome(ok=True, status=200)
    assert len(outbox) == 0
    assert {headers["Idempotency-Key"] for headers in peer.headers} == {peer.headers[0]["Idempotency-Key"]}
    assert peer.headers[-1]["Authorization"] == "Bearer canary"
    assert peer.headers[-1]["Content-Type"] == "application/json"
    assert peer.seen[-1] == ("POST", "/orders", b'{"n": 1}')


async def test_a_stored_request_holds_no_credential(peer: Peer) -> None:
    """What is kept is the intent: no token, no cookie."""
    kept: list[Intent] = []

    class Spy(MemoryOutbox):
        async def put(self, intent: Intent, *, error: str | None = None) -> object:  # type: ignore[override]
            kept.append(intent)
            return await super().put(intent, error=error)

    peer.answers(503)
    async with ApiClient(peer.url, outbox=Spy(), credentials=StaticToken("canary")) as client:
        await deferred(client, idempotency_key="k", headers={"Cookie": "canary", "X-Api-Key": "canary"})
    assert "canary" not in str([(intent.headers, intent.body, intent.path) for intent in kept])
    assert repr(kept[0]) == "<Intent POST /orders, 8 bytes>"


async def test_what_may_not_be_sent_twice_is_not_deferred(peer: Peer) -> None:
    """Without a key a POST that may have happened surfaces as it is."""
    peer.answers(503)
    async with ApiClient(peer.url, outbox=MemoryOutbox()) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.post("/orders", json={}, defer=True)


async def test_a_post_without_a_key_is_not_deferred_even_if_nothing_was_sent(unused_tcp_port: int) -> None:
    """Whoever delivers it later could not tell whether an earlier delivery had happened."""
    async with ApiClient(f"http://127.0.0.1:{unused_tcp_port}", outbox=MemoryOutbox()) as client:
        with pytest.raises(errors.ConnectFailed):
            await client.post("/orders", json={}, defer=True)


@pytest.mark.parametrize(("status", "defer"), [(400, True), (503, None), (503, False)])
async def test_only_the_recoverable_and_the_wanted_are_deferred(peer: Peer, status: int, *, defer: bool | None) -> None:
    """A permanent answer is the caller's, and so is a call that did not ask."""
    peer.answers(status)
    outbox = MemoryOutbox()
    async with ApiClient(peer.url, outbox=outbox) as client:
        with pytest.raises(errors.StatusError):
            await client.put("/orders/1", json={}, defer=defer)
    assert len(outbox) == 0


async def test_a_listed_endpoint_is_deferred_unasked(peer: Peer) -> None:
    """Defer(endpoints=...) decides where the call does not."""
    peer.answers(503)
    outbox = MemoryOutbox()
    async with ApiClient(peer.url, outbox=outbox) as client:
        pipeline = client.pipeline.replace(Defer, Defer(outbox, endpoints=("PUT /orders/{}",)))
        with pytest.raises(errors.Deferred):
            await client.put("/orders/1", json={}, pipeline=pipeline)


async def test_a_full_outbox_does_not_hide_the_failure(peer: Peer) -> None:
    """The outbox's own error is raised from the call's: nothing is lost silently."""
    peer.answers(503)
    async with ApiClient(peer.url, outbox=MemoryOutbox(capacity=1)) as client:
        await deferred(client, idempotency_key="a")
        with pytest.raises(errors.ApiError, match="takes no more") as caught:
            await client.post("/orders", json={}, defer=True, idempotency_key="b")
    assert isinstance(caught.value.__context__, errors.ServerError)


async def test_a_permanent_answer_settles_the_ticket(peer: Peer) -> None:
    """A stored request that is refused for good leaves the outbox, and its ticket says why."""
    peer.answers(503)
    outbox = MemoryOutbox()
    async with ApiClient(peer.url, outbox=outbox) as client:
        error = await deferred(client, idempotency_key="a")
        waiting = asyncio.ensure_future(error.ticket.wait())
        peer.answers(422)
        assert await outbox.drain(client) == 0
        outcome = await waiting
    assert (outcome.ok, outcome.status, len(outbox)) == (False, 422, 0)
    with pytest.raises(ValueError, match="capacity"):
        MemoryOutbox(capacity=0)
