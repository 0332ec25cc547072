import asyncio

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient import ApiClient, Pipeline, current_call, default_pipeline, errors
from apiclient.credentials import ApiKey, ClientCredentials
from apiclient.middleware import (
    AccessLog,
    AttemptTimeout,
    Authorize,
    AuthRefresh,
    CircuitBreaker,
    ConcurrencyLimit,
    Deadline,
    Defer,
    Fallback,
    Idempotency,
    RateLimit,
    Retry,
    ScopeStepUp,
    StatusErrors,
    Telemetry,
    calling,
)
from apiclient.outbox import MemoryOutbox
from tests.conftest import Peer


async def mine(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    request.headers["X-Mine"] = current_call().endpoint
    return await handler(request)


def credential() -> ClientCredentials:
    return ClientCredentials(token_url="https://login.example.com/token", client_id="id", client_secret="hush")


def names(pipeline: Pipeline) -> list[str]:
    return [type(each).__name__ for each in pipeline]


def test_the_default_chain_is_in_the_designed_order() -> None:
    """The order is a contract: whoever composes a chain of their own relies on it."""
    assert names(default_pipeline(credentials=credential(), outbox=MemoryOutbox(), telemetry=True)) == [
        "AccessLog", "Alert", "Defer", "StatusErrors", "Deadline", "Idempotency", "Retry", "CircuitBreaker", "ScopeStepUp",
        "AuthRefresh", "ContentType", "RateLimit", "Authorize", "AttemptTimeout", "Telemetry",
    ]  # fmt: skip


def test_what_has_nothing_to_do_is_left_out() -> None:
    """Without credentials, outbox and telemetry nobody pays for them."""
    bare = names(default_pipeline(telemetry=False))
    assert not {"Defer", "ScopeStepUp", "AuthRefresh", "Authorize", "Telemetry"} & set(bare)
    simple = names(default_pipeline(credentials=ApiKey("k"), telemetry=False))
    assert "Authorize" in simple
    assert not {"ScopeStepUp", "AuthRefresh"} & set(simple)


def test_a_changed_pipeline_is_a_new_one_and_shares_its_parts() -> None:
    """Pipelines are values: changing one leaves the old as it was."""
    retry = Retry(attempts=2)
    pipeline = Pipeline([StatusErrors(), Retry(), RateLimit()])
    changed = pipeline.replace(Retry, retry).before(RateLimit, mine).after(StatusErrors, AccessLog()).without(AccessLog)
    assert list(changed) == [pipeline[0], retry, mine, pipeline[2]]
    assert len(pipeline) == 3
    assert pipeline[:1] == pipeline[:1] or isinstance(pipeline[:1], Pipeline)
    assert pipeline.find(Retry) is pipeline[1]
    assert pipeline.find(Defer) is None


def test_repr_reads_as_the_chain() -> None:
    """The first thing a person sees is the order, with each option that matters."""
    assert repr(Pipeline([Deadline(5), mine])) == "Pipeline([\n    Deadline(5),\n    mine,\n])"
    assert repr(Pipeline()) == "Pipeline([])"


@pytest.mark.parametrize(
    ("outer", "inner", "reason"),
    [
        (RateLimit(), Retry(), "without a slot"),
        (Retry(), StatusErrors(), "exception in place of the response"),
        (Retry(), Deadline(), "each attempt"),
        (Retry(), Idempotency(), "key of its own"),
        (CircuitBreaker(), Retry(), "as one"),
        (AttemptTimeout(), RateLimit(), "attempt's time"),
        (AttemptTimeout(), Retry(), "all of them"),
        (Authorize(ApiKey("k")), AuthRefresh(ApiKey("k")), "rejected token"),
        (Authorize(ApiKey("k")), RateLimit(), "expire"),
        (RateLimit(), ScopeStepUp(ApiKey("k")), "slot"),
        (Telemetry(), Retry(), "several wire requests"),
        (Retry(), AccessLog(), "attempts instead of calls"),
        (Retry(), Fallback({}), "retry may still settle"),
        (ConcurrencyLimit(3), Retry(), "keep its place"),
    ],
)
def test_an_order_known_to_be_wrong_is_refused(outer: object, inner: object, reason: str) -> None:
    """A wrong order fails where it is written, with both names and the reason; check=False is the way round."""
    with pytest.raises(ValueError, match=reason) as caught:
        Pipeline([outer, inner])  # type: ignore[list-item]
    assert type(outer).__name__ in str(caught.value)
    assert type(inner).__name__ in str(caught.value)
    assert len(Pipeline([outer, inner], check=False)) == 2  # type: ignore[list-item]
    assert len(Pipeline([inner, outer])) == 2  # type: ignore[list-item]


def test_what_is_no_middleware_is_refused() -> None:
    """A class in place of an instance is the usual slip."""
    with pytest.raises(TypeError, match="instances"):
        Pipeline([Retry])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="'x'"):
        Pipeline(["x"])  # type: ignore[list-item]
    with pytest.raises(LookupError, match="no Retry in this pipeline; it has: Deadline"):
        Pipeline([Deadline()]).replace(Retry, Retry())


def test_a_pipeline_inside_a_pipeline_is_flattened() -> None:
    """One chain counts each wire request once."""
    inner = Pipeline([Retry(), RateLimit()])
    assert names(Pipeline([StatusErrors(), inner])) == ["StatusErrors", "Retry", "RateLimit"]


async def test_a_pipeline_is_a_middleware_of_a_bare_session(peer: Peer) -> None:
    """Any library that takes a session gains the whole chain."""
    peer.answers(503, 200)
    chain = Pipeline([StatusErrors(), Retry(), mine])
    async with aiohttp.ClientSession(middlewares=(chain,)) as session, session.get(peer.url + "/a/7") as response:
        assert response.status == 200
    assert peer.headers[0]["X-Mine"] == "GET /a/{}"
    assert peer.count == 2


async def test_a_strangers_middleware_works_in_our_chain(peer: Peer) -> None:
    """A plain aiohttp middleware that resends is counted like ours."""

    async def twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        (await handler(request)).release()
        return await handler(request)

    async with ApiClient(peer.url) as client:
        pending = client.get("/x", pipeline=client.pipeline.before(RateLimit, twice))
        await pending
    assert pending.call is not None
    assert pending.call.attempts == peer.count == 2


async def test_a_middlewares_own_error_is_not_swallowed_or_renamed(peer: Peer) -> None:
    """A bug in somebody's middleware surfaces as it is."""

    async def broken(_: ClientRequest, __: ClientHandlerType) -> ClientResponse:
        raise ZeroDivisionError

    async with ApiClient(peer.url) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/x", pipeline=Pipeline([StatusErrors(), Retry(), broken]))
    assert peer.count == 0


async def test_there_is_no_current_call_outside_a_call(peer: Peer) -> None:
    """The context is set for the call's time only, and the error says where it works."""
    async with ApiClient(peer.url) as client:
        await client.get("/x")
    with pytest.raises(LookupError, match="inside a middleware"):
        current_call()


async def test_calls_side_by_side_do_not_mix(peer: Peer) -> None:
    """Each task has its own logical call."""
    seen: list[tuple[str, str]] = []

    async def watch(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        before = current_call().endpoint
        response = await handler(request)
        seen.append((before, current_call().endpoint))
        return response

    async with ApiClient(peer.url, pipeline=Pipeline([watch])) as client:
        await asyncio.gather(*(_status(client, f"/p{letter}") for letter in "abcdef"))
    assert all(before == after for before, after in seen)
    assert len({before for before, _ in seen}) == 6


async def _status(client: ApiClient, path: str) -> int:
    return (await client.get(path)).status


async def test_an_error_tells_the_call(peer: Peer) -> None:
    """What only the chain knows is on the error when it leaves it."""
    peer.answers(404)
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.NotFound) as caught:
            await client.get("/things/{id}", path_params={"id": "secret-id"}, params={"token": "hush"})
    error = caught.value
    assert error.attempts == 1
    assert error.request is not None
    assert error.request.endpoint == "GET /things/{id}"
    assert "hush" not in str(error)
    assert "hush" not in repr(error.request_info)


async def test_two_pipelines_of_one_session_keep_apart(peer: Peer) -> None:
    """A resend of the outer chain passes the whole inner one again."""
    passed = 0

    async def count(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        nonlocal passed
        passed += 1
        return await handler(request)

    peer.answers(503, 503, 200)
    chains = (Pipeline([Retry()]), Pipeline([count]))
    async with aiohttp.ClientSession(middlewares=chains) as session, session.get(peer.url) as response:
        assert response.status == 200
    assert passed == peer.count == 3


async def test_each_request_of_a_bare_session_is_a_call_of_its_own(peer: Peer) -> None:
    """One call does not go on into the next request of the same task."""
    seen: list[str] = []

    async def watch(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        seen.append(current_call().id)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(Deadline(), watch)) as session:
        for _ in range(2):
            (await session.get(peer.url)).release()
    assert len(set(seen)) == 2
    with pytest.raises(LookupError):
        current_call()


async def test_a_middlewares_own_requests_can_leave_the_call(peer: Peer) -> None:
    """Detached, a middleware's own request is no part of the call, which goes on afterwards."""

    async def fetch(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        outer = current_call()
        with calling(None):
            (await request.session.get(peer.url + "/own", middlewares=(Retry(),))).release()
        assert current_call() is outer
        return await handler(request)

    async with ApiClient(peer.url, pipeline=Pipeline([fetch])) as client:
        pending = client.get("/x")
        await pending
    assert pending.call is not None
    assert pending.call.attempts == 1
    assert peer.count == 2
