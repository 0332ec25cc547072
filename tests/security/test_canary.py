"""Borders S23 and S26: what a caller passes in, and what a server makes of it, reaches no log and no error."""

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from apiclient import ApiClient
from apiclient.credentials import ApiKey, StaticToken
from apiclient.middleware import Retry
from tests.security.conftest import CANARY, Arrived, Origin

SECRETS: dict[str, Any] = {
    "path_params": {"id": CANARY},
    "params": {"q": CANARY},
    "headers": {"X-Mine": CANARY, "Cookie": CANARY},
    "idempotency_key": CANARY,
    "json": {"password": CANARY},
}


async def hang_up(_: Arrived, writer: asyncio.StreamWriter) -> None:
    """Break off before the answer."""
    writer.close()


async def half(_: Arrived, writer: asyncio.StreamWriter) -> None:
    """Break off within the answer."""
    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def nonsense(arrived: Arrived, writer: asyncio.StreamWriter) -> None:
    """Answer with no HTTP, quoting the request."""
    writer.write(b"HTTP/9 " + arrived.line.encode() + b"\r\n\r\n")


async def silence(_: Arrived, __: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


def quoting(status: int, content_type: str, text: str) -> Any:
    """Answer with everything that the request said."""

    def make(origin: Origin) -> Any:
        async def answer(arrived: Arrived, writer: asyncio.StreamWriter) -> None:
            said = " ".join(value for name, value in arrived.headers if name.lower() not in {"host", "content-type"})
            body = text.replace("$", said.replace('"', "'")).encode()
            await origin.reply(status, body, content_type)(arrived, writer)

        return answer

    return make


WAYS: dict[str, Callable[[Origin], Any]] = {
    "hang up": lambda _: hang_up,
    "half": lambda _: half,
    "nonsense": lambda _: nonsense,
    "silence": lambda _: silence,
    "400 quoted": quoting(400, "application/json", '{"message": "$", "detail": "$", "traceId": "$"}'),
    "401 quoted": quoting(401, "application/json", '{"error": "invalid_client", "error_description": "$"}'),
    "403 quoted": quoting(403, "text/plain", "scope $ $"),
    "404 quoted": quoting(404, "text/html", "<title>$</title><p>$"),
    "415 quoted": quoting(415, "application/problem+json", '{"title": "$", "errors": {"$": ["$"]}}'),
    "500 quoted": quoting(500, "text/plain", "$"),
    "page": quoting(200, "text/html", "<title>Sign in</title><p>$"),
    "redirect": lambda origin: origin.reply(302, Location=f"http://127.0.0.1:1/x?key={CANARY}"),
    "userinfo": lambda origin: origin.reply(302, Location=f"http://me:{CANARY}@127.0.0.1:1/x"),
    "bomb": lambda origin: origin.reply(200, b"x" * 2000),
    "chain": lambda origin: origin.reply(200, b"x", Content_Encoding="gzip, gzip"),
}


@pytest.mark.looptime
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "key", [StaticToken(CANARY), ApiKey(CANARY), ApiKey(CANARY, query="key")], ids=["bearer", "header", "query"]
)
async def test_no_failure_shows_what_was_passed_in(
    good: Origin, way: str, key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Canaries in path, query, headers, key, cookie and body: not in str, repr, block, pickle, traceback or log."""
    caplog.set_level(logging.DEBUG)
    good.handler = WAYS[way](good)
    async with ApiClient(good.url, credentials=key, max_body=1000, timeout=5) as client:
        pipeline = client.pipeline.replace(Retry, Retry(attempts=2))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it must not tell
            await client.post(
                "/employees/{id}",
                pipeline=pipeline,
                **(SECRETS | {"headers": SECRETS["headers"] | {"Accept": "application/json"}}),
            )
        failed: Any = caught.value
        shown = [
            str(failed),
            repr(failed),
            failed.describe(),
            pickle.dumps(failed).decode("latin-1"),
            repr(failed.__dict__),
        ]
        shown += ["".join(traceback.format_exception(failed)), repr(client), repr(pipeline)]
    shown += [
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name.startswith("apiclient")
    ]
    assert good.received.count(CANARY.encode()) >= 5
    for text in shown:
        assert CANARY not in text
    assert any("http." in text for text in shown)


@pytest.mark.parametrize("body", [b"<p>sign in", b"[NaN]", b"\xff"])
async def test_json_that_fails_shows_no_path(good: Origin, body: bytes) -> None:
    """``json()`` fails outside of the chain, and names the template all the same."""
    good.handler = good.reply(200, body, "text/html" if body[:1] == b"<" else "application/json")
    async with ApiClient(good.url) as client:
        response = await client.get("/employees/{id}", path_params={"id": CANARY}, params={"q": CANARY})
        with pytest.raises(Exception, match=r"GET /employees/\{id\}: ") as caught:
            await response.json()
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)


async def test_a_connection_refused_shows_no_url(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing listens there: the host is told, the path and the query are not."""
    async with ApiClient("http://127.0.0.1:1") as client:
        with pytest.raises(Exception, match="No connection") as caught:
            await client.get(
                "/{id}", path_params={"id": CANARY}, params={"q": CANARY}, pipeline=client.pipeline.without(Retry)
            )
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]0;pwned\x07", "a\r\nlevel=ERROR forged=1", "\u202etxt.exe", "%s%n {0} ${jndi:x}"]
)
async def test_what_a_server_says_is_text_and_one_line(
    good: Origin, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S23, S26: escape codes, line breaks and format strings of a server are shown escaped, in errors and logs."""
    caplog.set_level(logging.DEBUG)
    good.handler = good.reply(400, f"oops {text}".encode(), "text/plain")
    async with ApiClient(good.url) as client:
        with pytest.raises(Exception, match="oops") as caught:
            await client.get("/x")
    failed: Any = caught.value
    assert str(failed).isprintable()
    assert all(line.isprintable() for line in failed.describe().splitlines())
    assert all(record.getMessage().isprintable() for record in caplog.records)
