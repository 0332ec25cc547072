"""The public API as a type checker sees it: mypy and pyright, both strict, read this file; nothing runs it.

A line that the checkers must refuse carries an ignore; one that either of them does not need fails the gate (mypy's
``warn_unused_ignores``, pyright's ``reportUnnecessaryTypeIgnoreComment``).
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator, Mapping
from typing import Any, assert_type

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

from apiclient import ApiClient, BatchResult, Pipeline, Rate, Request, current_call, default_pipeline, errors
from apiclient.credentials import ApiKey, Basic, ClientCredentials, Credential, RefreshToken, StaticToken, Token
from apiclient.middleware import (
    AccessLog,
    Alert,
    AttemptTimeout,
    Authorize,
    AuthRefresh,
    Call,
    CircuitBreaker,
    ConcurrencyLimit,
    ContentType,
    Deadline,
    Defer,
    Fallback,
    Idempotency,
    RateLimit,
    Retry,
    ScopeStepUp,
    StatusErrors,
    Substitute,
    Telemetry,
)
from apiclient.outbox import MemoryOutbox
from apiclient.sandbox import Sandbox


async def add_tenant(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Stand for a middleware of the user's own."""
    return await handler(request)


class OwnCredential:
    """Stand for a credential of the user's own: it derives from nothing."""

    async def token(self) -> Token:
        """Return the same one for ever."""
        return Token("value")

    def invalidate(self, token: Token) -> None:
        """Do nothing."""


async def calls(client: ApiClient) -> None:
    """See that a call is awaitable and a context manager, for every method."""
    assert_type(await client.get("/employees/{id}", path_params={"id": 7}), ClientResponse)
    assert_type(await client.post("/timesheets", json={"hours": 8}, idempotency_key="key"), ClientResponse)
    for call in (client.put("/a"), client.patch("/a"), client.delete("/a"), client.head("/a"), client.options("/a")):
        assert_type(await call, ClientResponse)
    async with client.request("GET", "/export", timeout=5.0) as response:
        assert_type(response, ClientResponse)
    assert_type(client.pipeline, Pipeline)
    await client.get("/a", path_parms={"id": 7})  # type: ignore[call-arg]
    await client.get("/a", timeout="5")  # type: ignore[arg-type]
    await client.get(7)  # type: ignore[arg-type]


async def batches(client: ApiClient) -> None:
    """See that a batch takes requests and gives results."""
    results = client.batch([Request(path="/ping", id=1)], concurrency=10)
    assert_type(results, AsyncIterator[BatchResult])
    async for result in results:
        assert_type(result.ok, bool)
        assert_type(result.status, int | None)
        assert_type(result.body, bytes)
        assert_type(result.error, Exception | None)
    client.batch(["/ping"])  # type: ignore[list-item]
    Request("/ping")  # type: ignore[call-arg]


def pipelines(credential: Credential) -> None:
    """See that a pipeline is a sequence of middlewares and a middleware, and that changing it gives another."""
    pipeline = default_pipeline(credentials=credential)
    assert_type(pipeline, Pipeline)
    assert_type(pipeline.before(RateLimit, add_tenant), Pipeline)
    assert_type(pipeline.after(Retry, add_tenant, AccessLog()), Pipeline)
    assert_type(pipeline.replace(Retry, Retry(attempts=5)), Pipeline)
    assert_type(pipeline.without(CircuitBreaker, Alert), Pipeline)
    assert_type(pipeline[0], ClientMiddlewareType)
    assert_type(pipeline[1:], Pipeline)
    whole: ClientMiddlewareType = pipeline
    Pipeline([whole, add_tenant], check=False)
    Pipeline([7])  # type: ignore[list-item]
    ApiClient("https://api.example.com", pipeline=pipeline, credentials=credential, timeout=30)
    ApiClient("https://api.example.com", pipelin=pipeline)  # type: ignore[call-arg]


def policies(credential: Credential) -> tuple[ClientMiddlewareType, ...]:
    """See that every policy is a native middleware, and that its options are keyword-only."""
    Retry(5)  # type: ignore[call-arg]
    Retry(attempts="5")  # type: ignore[arg-type]
    CircuitBreaker(per="host")  # type: ignore[arg-type]
    return (
        AccessLog(level=10),
        Alert(),
        AttemptTimeout(5),
        AuthRefresh(credential),
        Authorize(credential, origin="https://api.example.com"),
        CircuitBreaker(per="endpoint"),
        ConcurrencyLimit(8),
        ContentType(strict=["POST /orders"]),
        Deadline(10),
        Defer(MemoryOutbox(), endpoints=("POST /orders",)),
        Fallback({"GET /rates": Substitute(json={}), "GET /news": lambda call, error: None}),
        Idempotency(methods=["POST"]),
        RateLimit(limits={"GET /employees/{id}": "5/1s", "GET /all": [Rate(5), "100/min"]}, default=Rate(50, per=60)),
        Retry(statuses=(503,), when=lambda call, outcome: None),
        ScopeStepUp(credential),
        StatusErrors(hints={409: "Read it again", ("POST /orders", 409): "It is there already"}),
        Telemetry(),
    )


async def bare_session(credential: Credential) -> None:
    """See that a bare session takes them."""
    async with aiohttp.ClientSession(middlewares=policies(credential)) as session, session.get("/") as response:
        assert_type(response, ClientResponse)


async def credentials() -> None:
    """See that ours and anybody's own are credentials."""
    given: list[Credential] = [
        OwnCredential(),
        StaticToken("token"),
        ApiKey("key", header="X-Api-Key"),
        Basic("user", "password"),
        ClientCredentials(token_url="https://login.example.com/token", client_id="id", client_secret="secret"),
        RefreshToken(token_url="https://login.example.com/token", client_id="id", refresh_token="token"),
    ]
    assert_type(await given[0].token(), Token)
    Authorize("token")  # type: ignore[arg-type]


async def the_call_and_its_errors(client: ApiClient) -> None:
    """See what a middleware and an except clause have to work with."""
    call = current_call()
    assert_type(call, Call)
    assert_type(call.endpoint, str)
    assert_type(call.key, tuple[str, str])
    assert_type(call.deadline, float | None)
    assert_type(call.remaining(), float)
    assert_type(call.attempts, int)
    assert_type(call.waits, Mapping[str, float])
    assert_type(call.extra, dict[Any, Any])
    try:
        await client.get("/ping")
    except errors.StatusError as error:
        assert_type(error.status, int)
        assert_type(error.trace_id, str | None)
    except errors.DeadlineExceeded as error:
        assert_type(error.would_have_waited, float | None)
    except errors.ApiError as error:
        assert_type(error.hint, str)
        assert_type(error.recoverable, bool)
        assert_type(error.retry_after, float | None)
        assert_type(error.attempts, int)


async def sandbox() -> None:
    """See what a test of the user's own can ask of the sandbox."""
    async with Sandbox(limit=5, period=1.0) as server:
        assert_type(server.api_url, str)
        assert_type(server.count("GET /v1/ping", 200), int)
        assert_type(server.issue_token(), str)
        assert_type(server.ledger[-1].idempotency_key, str | None)
