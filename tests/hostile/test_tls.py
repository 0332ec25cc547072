"""A TLS server that stalls, ends midway, speaks something else, or is not who it says it is."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from apiclient import ApiClient, errors
from tests.hostile.certificates import made
from tests.hostile.rows import ASK, OK, TIMEOUT, sized
from tests.integration.scripted import (
    Close,
    Cut,
    Drip,
    Hello,
    Reset,
    Scripted,
    Send,
    Serve,
    Some,
    Stall,
    StartTls,
    Step,
)

pytestmark = pytest.mark.looptime
Script = Callable[[ssl.SSLContext], tuple[Step, ...]]
UNKNOWN = errors.TransportOutcomeUnknown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return made(folder)


class Row(NamedTuple):
    script: Script
    get: type[errors.ApiError]
    attempts: int
    within: float
    post: type[errors.ApiError]
    post_attempts: int = 1


def failing(script: Script, within: float = 1.0) -> Row:
    """No secure connection comes about, so nothing is sent and anything may be tried again."""
    return Row(script, errors.ConnectFailed, 4, within, errors.ConnectFailed, 4)


def alien(script: Script) -> Row:
    return Row(script, errors.ConnectFailed, 1, 0.1, errors.ConnectFailed)


def lost(*steps: Step) -> Row:
    return Row(lambda tls: (StartTls(tls), *steps), errors.ConnectionLost, 4, 1.0, UNKNOWN)


def cut(*steps: Step) -> Row:
    return Row(lambda tls: (StartTls(tls), *ASK, *steps), errors.ResponseBroken, 4, 1.0, UNKNOWN)


HALF = OK + b"Content-Length: 9\r\n\r\nhalf"
ROWS: dict[str, Row] = {
    "silent in the handshake": failing(lambda _: (Stall(),), 44.2),
    "closed in the handshake": failing(lambda _: (Close(),)),
    "closed after the hello": failing(lambda _: (Some(50), Close())),
    "reset after the hello": failing(lambda _: (Some(50), Reset())),
    "closed in its own hello": failing(lambda tls: (Hello(tls, 100), Close())),
    "reset in its own hello": failing(lambda tls: (Hello(tls, 100), Reset())),
    "silent in its own hello": failing(lambda tls: (Hello(tls, 100), Stall()), 44.2),
    "its hello drop by drop": failing(
        lambda _: (Some(50), Drip(b"\x16\x03\x03\x00\x7a" + bytes(100), 1.0), Stall()), 44.2
    ),
    "plain HTTP": alien(lambda _: (Some(50), Send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"), Stall())),
    "garbage": alien(lambda _: (Some(50), Send(b"garbage" * 10), Stall())),
    "a fatal alert": alien(lambda _: (Some(50), Send(b"\x15\x03\x03\x00\x02\x02\x28"), Close())),
    "silent after the handshake": Row(
        lambda tls: (Hello(tls, 65536), Stall()), errors.DeadlineExceeded, 2, TIMEOUT + 0.2, UNKNOWN
    ),
    "closed after the handshake": lost(Close()),
    "reset after the handshake": lost(Reset()),
    "closed after the request": lost(*ASK, Close()),
    "cut after the request": lost(*ASK, Cut()),
    "silent after the request": Row(
        lambda tls: (StartTls(tls), *ASK, Stall()), errors.DeadlineExceeded, 2, TIMEOUT + 0.2, UNKNOWN
    ),
    "closed in the body": cut(Send(HALF), Close()),
    "reset in the body": cut(Send(HALF), Reset()),
    "cut in the body": cut(Send(HALF), Cut()),
    "a body without a length reset": cut(Send(OK + b"\r\nhalf"), Reset()),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ROWS)
async def test_a_call_ends_as_the_table_says(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], name: str, method: str
) -> None:
    """Before the handshake is over nothing was sent; after it, a POST without a key is not repeated."""
    row, (own, trusting), loop = ROWS[name], contexts, asyncio.get_running_loop()
    async with (
        Scripted(otherwise=row.script(own)) as server,
        ApiClient(server.url.replace("http", "https"), connections=1, tls=trusting, timeout=TIMEOUT) as client,
    ):
        began = loop.time()
        with pytest.raises(errors.ApiError) as caught:
            await client.request(method, "/x")
        assert loop.time() - began <= row.within
        await asyncio.sleep(0.01)
        assert type(caught.value) is (row.get if method == "GET" else row.post)
        assert caught.value.attempts == server.connections == (row.attempts if method == "GET" else row.post_attempts)
        assert caught.value.recoverable is (row.attempts > 1 and caught.type is not UNKNOWN)
        server.otherwise = (StartTls(own), Serve())
        assert await (await client.get("/after")).text() == "fine"
        await asyncio.sleep(0.01)
        await clean(client)


async def clean(client: ApiClient) -> None:
    assert client._session is not None
    connector: Any = client._session.connector
    assert not connector._acquired
    assert not connector._waiters


@pytest.mark.parametrize("why", ["unknown authority", "another address", "expired"])
async def test_a_certificate_that_does_not_hold_is_final(folder: Path, why: str) -> None:
    """One attempt, nothing sent, and the error says what to look at."""
    address = "127.0.0.9" if why == "another address" else "127.0.0.1"
    own, trusting = made(folder, address=address, days=0 if why == "expired" else 1)
    async with (
        Scripted(otherwise=(StartTls(own), Serve())) as server,
        ApiClient(
            server.url.replace("http", "https"), connections=1, tls=None if why == "unknown authority" else trusting
        ) as client,
    ):
        with pytest.raises(errors.ConnectFailed, match="certificate") as caught:
            await client.post("/x", json={"secret": "s"})
        assert caught.value.attempts == server.connections == 1
        assert not server.requests
        assert not caught.value.recoverable
        await clean(client)


async def test_tls_with_good_manners(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The rows above fail for what they do, and not for being TLS."""
    own, trusting = contexts
    async with (
        Scripted(otherwise=(StartTls(own), *ASK, Send(sized(b"fine")), Serve())) as server,
        ApiClient(server.url.replace("http", "https"), connections=1, tls=trusting) as client,
    ):
        for _ in range(2):
            assert await (await client.get("/x")).text() == "fine"
        assert server.connections == 1
