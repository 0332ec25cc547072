import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import CircuitBreaker, Deadline, Defer, Idempotency, RateLimit, StatusErrors
from apiclient.middleware.intent import Intent
from apiclient.outbox import MemoryOutbox, Outcome, Ticket
from apiclient.redirects import Redirects
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


async def deferred(client: ApiClient, **options: Any) -> errors.Deferred:
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
        assert await outbox.drain(once=True) == (0, 0, 1)
        peer.answers(200)
        assert await outbox.drain() == (1, 0, 0)
        assert await error.ticket.wait(1) == Outcome(ok=True, status=200, body=b"fine")
    assert {headers["Idempotency-Key"] for headers in peer.headers} == {peer.headers[0]["Idempotency-Key"]}
    assert peer.headers[-1]["Authorization"] == "Bearer canary"
    assert peer.headers[-1]["Content-Type"] == "application/json"
    assert peer.seen[-1] == ("POST", "/orders", b'{"n": 1}')


async def test_a_stored_request_holds_no_credential(peer: Peer) -> None:
    """What is kept is the intent: no token, no cookie."""
    kept: list[Intent] = []

    class Spy(MemoryOutbox):
        async def put(self, intent: Intent, **options: Any) -> Ticket:
            kept.append(intent)
            return await super().put(intent, **options)

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
        assert await outbox.drain() == (0, 1, 0)
        outcome = await waiting
    assert (outcome.ok, outcome.status) == (False, 422)
    with pytest.raises(ValueError, match="capacity"):
        MemoryOutbox(capacity=0)


class Keeper:
    """An outbox that only notes."""

    def __init__(self) -> None:
        self.kept: list[tuple[Intent, str | None]] = []

    async def put(self, intent: Intent, *, error: str | None = None) -> None:
        self.kept.append((intent, error))


async def test_what_is_kept_describes_the_request_and_nothing_else(peer: Peer) -> None:
    """The allowed headers in all their values, the origin, the template, the key, the cause; nothing of the session's."""
    peer.answers(503)
    keeper = Keeper()
    chain = Pipeline(
        [Defer(keeper, headers=("X-Tenant",)), StatusErrors(), Idempotency(methods={"POST"}, make=lambda: "made")]
    )
    headers = {
        "X-Tenant": "north",
        "X-Other": "no",
        "If-Match": '"1"',
        "Content-Type": "application/xml",
        "Cookie": "a=b",
    }
    async with ApiClient(f"{peer.url}/v1", pipeline=chain) as client:
        with pytest.raises(errors.Deferred):
            await client.post(
                "/orders/{id}", path_params={"id": 7}, data=b"<a/>", headers=headers, params={"q": "1"}, defer=True
            )
    ((intent, error),) = keeper.kept
    assert (intent.method, intent.origin, intent.path) == ("POST", peer.url, "/v1/orders/7?q=1")
    assert (intent.endpoint, intent.body, intent.idempotency_key) == ("POST /orders/{id}", b"<a/>", "made")
    assert dict(intent.headers).keys() == {"Accept", "Content-Type", "If-Match", "X-Tenant"}
    assert error == "ServerError: 503 Service Unavailable"


@pytest.mark.parametrize("name", ["api_key", "API-Key", "access_token", "sig", "X-Amz-Signature", "password"])
async def test_a_query_that_looks_like_a_credential_is_not_stored(peer: Peer, name: str) -> None:
    """Storing the call without it would make another request of it, so it is refused; the failure is behind it."""
    peer.answers(503)
    keeper = Keeper()
    async with ApiClient(peer.url, pipeline=Pipeline([Defer(keeper), StatusErrors()])) as client:
        with pytest.raises(errors.OutboxError, match="may not be stored") as caught:
            await client.get("/x", params={name: "canary"}, defer=True)
        assert isinstance(caught.value.__cause__, errors.ServerError)
        assert "canary" not in f"{caught.value}"
        listed = client.pipeline.replace(Defer, Defer(keeper, query=(name,)))
        with pytest.raises(errors.Deferred):
            await client.get("/x", params={name: "harmless"}, defer=True, pipeline=listed)
        with pytest.raises(errors.OutboxError, match="'other' may not be stored"):
            await client.get("/x", params={"other": 1}, defer=True, pipeline=listed)
    assert len(keeper.kept) == 1


async def test_a_body_that_is_gone_is_not_stored_empty(peer: Peer) -> None:
    """A stream that was sent cannot be stored; read into memory first, it can."""

    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    peer.answers(503)
    keeper = Keeper()
    async with ApiClient(peer.url, pipeline=Pipeline([Defer(keeper), StatusErrors()])) as client:
        with pytest.raises(errors.OutboxError, match="can be read only once") as caught:
            await client.put("/x", data=body(), defer=True)
        assert isinstance(caught.value.__cause__, errors.ServerError)
        with pytest.raises(errors.Deferred):
            await client.put("/x", data=body(), defer=True, buffer_body=True)
    assert [intent.body for intent, _ in keeper.kept] == [b"once"]


async def test_any_recoverable_failure_is_deferred(peer: Peer, unused_tcp_port: int) -> None:
    """Refused connection, deadline, open circuit, a quota beyond the deadline: whatever may work later."""
    keeper = Keeper()
    defer = Defer(keeper)
    async with ApiClient(f"http://127.0.0.1:{unused_tcp_port}", pipeline=Pipeline([defer])) as client:
        with pytest.raises(errors.Deferred):
            await client.put("/x", defer=True)

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1000)
        return web.Response()

    peer.handler = never
    async with ApiClient(peer.url, pipeline=Pipeline([defer, StatusErrors(), Deadline(1.0)])) as client:
        with pytest.raises(errors.Deferred):
            await client.put("/x", defer=True, timeout=1)
    peer.answers(503)
    breaker = CircuitBreaker(minimum=1, failure_ratio=0.1)
    async with ApiClient(peer.url, pipeline=Pipeline([defer, StatusErrors(), breaker])) as client:
        for _ in range(2):
            with pytest.raises(errors.Deferred):
                await client.put("/x", defer=True)
    peer.answers(200)
    limit = RateLimit(default="1/1h")
    async with ApiClient(peer.url, pipeline=Pipeline([defer, Deadline(1.0), limit])) as client:
        await client.put("/x", defer=True, timeout=1)
        with pytest.raises(errors.Deferred):
            await client.put("/x", defer=True, timeout=1)
    causes = [str(error).partition(":")[0] for _, error in keeper.kept]
    assert causes == ["ConnectFailed", "DeadlineExceeded", "ServerError", "CircuitOpen", "RateLimited"]


async def test_a_call_that_was_redirected_elsewhere_is_not_stored_for_here(peer: Peer) -> None:
    """Law 11: what failed at another origin would be delivered to this one."""
    keeper = Keeper()
    elsewhere = URL(peer.url).with_host("localhost")

    async def away(request: web.Request) -> web.StreamResponse:
        if request.path == "/away":
            return web.Response(status=307, headers={"Location": str(elsewhere / "gone")})
        return web.Response(status=503)

    peer.handler = away
    chain = Pipeline([Defer(keeper), StatusErrors()])
    async with ApiClient(peer.url, pipeline=chain, redirects=Redirects(to=[str(elsewhere)])) as client:
        with pytest.raises(errors.ServerError):
            await client.get("/away", defer=True)
    assert keeper.kept == []


async def test_cancellation_defers_nothing(peer: Peer) -> None:
    """Law 9: who cancels does not want it made later."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1000)
        return web.Response()

    peer.handler = never
    keeper = Keeper()
    async with ApiClient(peer.url, pipeline=Pipeline([Defer(keeper), StatusErrors()])) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(client.put("/x", defer=True)), 1)
    assert keeper.kept == []


async def test_on_a_bare_session_what_is_listed_is_deferred(peer: Peer) -> None:
    """Endpoints are listed there, and the header is the key; an ApiClient for that origin delivers it."""
    peer.answers(503)
    outbox = MemoryOutbox()
    chain = (Defer(outbox, endpoints=("POST /orders",)), StatusErrors())
    async with aiohttp.ClientSession(middlewares=chain) as session:
        with pytest.raises(errors.Deferred):
            await session.post(f"{peer.url}/orders", json={}, headers={"Idempotency-Key": "k"})
        with pytest.raises(errors.ServerError):
            await session.post(f"{peer.url}/others", json={}, headers={"Idempotency-Key": "k"})
    peer.answers(200)
    async with ApiClient(peer.url, outbox=outbox):
        assert await outbox.drain() == (1, 0, 0)
    assert {headers.get("Idempotency-Key") for headers in peer.headers} == {"k"}


async def test_a_call_that_is_not_deferred_costs_the_outbox_nothing(peer: Peer) -> None:
    """The store is not touched by calls that succeed."""
    keeper = Keeper()
    async with ApiClient(peer.url, pipeline=Pipeline([Defer(keeper), StatusErrors()])) as client:
        assert (await client.put("/x", data=b"x", defer=True)).status == 200
        assert (await client.put("/x", data=b"x")).status == 200
    assert keeper.kept == []


def test_options_are_checked() -> None:
    """A credential's header is refused; a string in place of a collection too; the repr shows what is kept."""
    keeper = MemoryOutbox()
    for header in ("Authorization", "cookie", "Proxy-Authorization", "X-API-Key"):
        with pytest.raises(ValueError, match=f"headers must not have '{header}': credentials are never stored"):
            Defer(keeper, headers=(header,))
    for option in ("endpoints", "headers", "query"):
        given: dict[str, Any] = {option: "POST /x"}
        with pytest.raises(TypeError, match=f"{option} must be a collection of names, got the string 'POST /x'"):
            Defer(keeper, **given)
    assert repr(Defer(keeper, query=("q",))) == (
        "Defer(MemoryOutbox(0 of 10000), endpoints=[], headers=[], query=['q'])"
    )


async def test_a_call_that_nobody_would_keep_is_refused(peer: Peer) -> None:
    """defer=True without a Defer in the chain would lose the work silently: nothing is sent, and the error says why."""
    outbox = MemoryOutbox()
    for client in (ApiClient(peer.url), ApiClient(peer.url, pipeline=Pipeline([StatusErrors()]), outbox=outbox)):
        async with client:
            with pytest.raises(errors.InvalidRequest, match="the pipeline has no Defer"):
                await client.post("/orders", json={"n": 1}, idempotency_key="k", defer=True)
            await client.post("/orders", json={"n": 1}, idempotency_key="k", defer=False)
    assert peer.count == 2


def test_an_intent_is_json_and_back() -> None:
    """Whatever the body: text as text, bytes as base64; what is no intent is said to be none."""
    for body in (b"", b"{}", "\u00e9\u2028".encode(), bytes(range(256))):
        intent = Intent(
            method="PUT", origin="http://a", path="/x", endpoint="PUT /x", headers=(("A", "b"), ("A", "c")), body=body
        )
        assert intent.to_json().isascii()
        assert Intent.from_json(intent.to_json()) == intent
    for text in ("{}", "[]", '{"method": 1', "null"):
        with pytest.raises(ValueError, match=r"intent|JSON|delimiter"):
            Intent.from_json(text)
