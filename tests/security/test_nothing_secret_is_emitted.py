"""A failing call of each kind with everything switched on: logs with bodies, spans, metrics, waterfalls, statistics."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient._drawn import drawn
from apiclient.cli._trace import traced
from apiclient.credentials import ApiKey, StaticToken
from apiclient.middleware import AccessLog, Alert, AttemptTimeout, CircuitBreaker, RateLimit, Retry, current_call
from apiclient.middleware._body_shown import SECRET_NAMES
from apiclient.outbox import MemoryOutbox
from tests.collector import Collector
from tests.conftest import Handler, Peer

CANARY = "c4n4ry-b1rd"
SECRETS: dict[str, Any] = {
    "json": {"password": CANARY, "nested": [{"clientSecret": CANARY}], "fine": 1},
    "params": {"api_key": CANARY, "page": "1"},
    "headers": {"X-Custom-Auth": CANARY, "Cookie": f"session={CANARY}"},
    "path_params": {"id": CANARY},
    "idempotency_key": f"{CANARY}-key",
}
ECHO = json.dumps({"title": "no", "detail": f"you sent Bearer {CANARY}-token", "token": CANARY, "key": f"{CANARY}-key"})


def answering(status: int, kind: str = "application/problem+json", **headers: str) -> Handler:
    """Return a handler that says no and echoes what is secret."""

    async def handler(request: web.Request) -> web.StreamResponse:
        text = f"<h1>{ECHO}</h1>" if "html" in kind else ECHO
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, content_type=kind, headers={"Set-Cookie": f"s={CANARY}", **more})

    return handler


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(ECHO.encode())
    assert request.transport is not None
    request.transport.close()
    return response


async def garbled(_: web.Request) -> web.StreamResponse:
    return web.Response(body=ECHO.encode(), headers={"Content-Encoding": "gzip"})


KINDS: dict[str, tuple[Handler, type[BaseException] | None]] = {
    "success": (answering(200, "application/json"), None),
    "400": (answering(400), errors.BadRequest),
    "401": (answering(401, WWW_Authenticate=f'Bearer realm="{CANARY}", error="invalid_token"'), errors.Unauthorized),
    "403": (
        answering(
            403, WWW_Authenticate=f'Bearer error="insufficient_scope", scope="pay", error_description="{CANARY}"'
        ),
        errors.Forbidden,
    ),
    "404 html": (answering(404, "text/html"), errors.NotFound),
    "415": (answering(415), errors.UnsupportedMediaType),
    "429": (answering(429, Retry_After="3600"), errors.ApiError),
    "500": (answering(500), errors.ServerError),
    "503 text": (answering(503, "text/plain"), errors.ServerError),
    "redirect": (answering(302, Location=f"http://elsewhere.example/{CANARY}?token={CANARY}"), errors.RedirectRefused),
    "drop": (drop, errors.TransportError),
    "hang": (hang, errors.ApiError),
    "half": (half, errors.ApiError),
    "garbled": (garbled, errors.ApiError),
    "deferred": (answering(503), errors.Deferred),
    "refused by the outbox": (answering(503), errors.OutboxError),
}


@contextlib.asynccontextmanager
async def watched(
    peer: Peer, credentials: Any, sink: Callable[[Any], None]
) -> AsyncIterator[tuple[ApiClient, Collector]]:
    """Return a client that tells all that it can tell."""
    seen = Collector()
    outbox = MemoryOutbox()
    pipeline = seen.into(ApiClient(peer.url, credentials=credentials, outbox=outbox).pipeline)
    for each in (
        AccessLog(body=5000, redact=["fine"]),
        Alert(consecutive=1, sinks=[sink]),
        Retry(attempts=2, max_wait=0.01),
        CircuitBreaker(minimum=3),
        AttemptTimeout(2.0),
        RateLimit(default="100/1s", attempts=2),
    ):
        pipeline = pipeline.replace(type(each), each)
    async with ApiClient(peer.url, pipeline=pipeline, outbox=outbox, timeout=10.0, debug=True) as client:
        yield client, seen
    seen.close()


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "credentials", [StaticToken(f"{CANARY}-token"), ApiKey(f"{CANARY}-token", query="key")], ids=["header", "query"]
)
async def test_a_failing_call_of_each_kind_emits_no_secret(
    peer: Peer, kind: str, credentials: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that a call can tell is told, in every place, and no secret is in any of it."""
    peer.handler, expected = KINDS[kind]
    caplog.set_level(logging.DEBUG)
    emitted: list[tuple[str, str]] = []
    async with watched(peer, credentials, lambda notice: emitted.append(("notice", f"{notice} {notice!r}"))) as (
        client,
        seen,
    ):
        calls: list[Any] = []

        async def noting(request: Any, handler: Any) -> Any:
            calls.append(current_call())
            return await handler(request)

        pipeline = Pipeline([noting, *client.pipeline], check=False)
        caught: list[BaseException] = []
        for method in ("PUT", "GET"):
            options = dict(SECRETS)
            if method == "GET":
                del options["json"], options["idempotency_key"]
            if kind == "deferred":
                options["params"] = {"q": CANARY}
            try:
                await client.request(
                    method,
                    "/things/{id}",
                    pipeline=pipeline,
                    defer=expected in {errors.Deferred, errors.OutboxError},
                    **options,
                )
            except errors.ApiError as error:
                caught.append(error)
        if expected is not None:
            assert any(isinstance(error, expected) for error in caught), caught
        emitted += [("error", f"{error} {error!r} {vars(error)!r}") for error in caught]
        emitted += [("describe", error.describe()) for error in caught if isinstance(error, errors.ApiError)]
        emitted += [("call", repr(call)) for call in calls]
        emitted.append(("stats", f"{client.stats()} {client.stats()!r}"))
        emitted.append(("client", f"{client!r} {client.pipeline!r} {drawn(client.pipeline)}"))
        emitted += [("metric", f"{name} {seen.points(name)}") for name in seen.metrics()]
        emitted += [("span", span.to_json()) for span in seen.spans()]
    emitted += [
        ("log", f"{record.getMessage()} {vars(record)!r}") for record in caplog.records if record.name == "apiclient"
    ]
    emitted.append(("printed", capsys.readouterr().err))
    assert calls
    assert {"log", "span", "metric", "stats", "call"} <= {place for place, _ in emitted}
    assert (kind == "success") == (dict(emitted)["printed"] == "")
    assert [(place, text[:3000]) for place, text in emitted if CANARY in text and not _users_own(place, text)] == []


def _users_own(place: str, text: str) -> bool:
    """A span's url.full has the path as it went out, the convention says: a path parameter is the user's to keep plain."""
    return place == "span" and text.replace(f"/things/{CANARY}", "").find(CANARY) < 0


@pytest.mark.looptime
async def test_the_trace_command_shows_no_secret(peer: Peer) -> None:
    """The same for what a person looks at, path parameters in the URL aside, which that person has typed."""
    peer.handler = answering(503)
    client = ApiClient(peer.url, credentials=StaticToken(f"{CANARY}-token"))
    options = {name: value for name, value in SECRETS.items() if name != "path_params"}
    _, lines = await traced(client, "PUT", "/things", show_headers=True, **options)
    assert [line for line in lines if CANARY in line] == []


async def test_structlog_gets_no_more_than_stdlib(peer: Peer) -> None:
    """The rendered lines of an application of structlog, bodies included."""
    out = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(out), processors=[structlog.processors.JSONRenderer()])
    peer.handler = answering(400)
    pipeline = ApiClient(peer.url, credentials=StaticToken(f"{CANARY}-token")).pipeline
    async with ApiClient(peer.url, pipeline=pipeline.replace(AccessLog, AccessLog(body=500)), logger=logger) as client:
        with pytest.raises(errors.BadRequest):
            await client.request("PUT", "/things/{id}", **SECRETS)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {"http.attempt", "http.call"} <= {line["event"] for line in lines}
    assert "[hidden]" in lines[-1]["request_body"]
    assert CANARY not in out.getvalue()


def test_what_is_looked_for_can_be_found() -> None:
    """A net with a hole as large as the fish would catch nothing."""
    assert CANARY in ECHO
    assert "password" in SECRET_NAMES
