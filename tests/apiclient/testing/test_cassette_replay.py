"""What was recorded is found again: whatever travelled in it, and however often."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, MultipartReader

from apiclient import ApiClient, errors
from apiclient.pagination import by_cursor
from apiclient.testing import Cassette, MockTransport, UnmatchedRequest, set_testing
from apiclient.testing._interaction import Interaction

from .conftest import OpenSession

Ask = Callable[[ClientSession], Awaitable[Any]]


async def both(path: Path, open_session: OpenSession, transport: MockTransport, ask: Ask) -> None:
    """Fail unless *ask* gets from the cassette what it got from *transport*."""
    cassette = Cassette(path, mode="record")
    recorded = await ask(open_session(cassette, transport))
    cassette.save()
    cassette = Cassette(path)
    assert await ask(open_session(cassette)) == recorded
    cassette.assert_all_used()


async def test_an_answer_in_parts_can_be_read(tmp_path: Path, open_session: OpenSession) -> None:
    """Its boundary is the one that its header names, though that of a request may be any."""
    transport = MockTransport()
    body = b"--XX\r\nContent-Type: text/plain\r\n\r\nhello\r\n--XX--\r\n"
    transport.any().respond(body=body, headers={"Content-Type": "multipart/mixed; boundary=XX"})
    boundaries = count()

    async def ask(session: ClientSession) -> list[str]:
        sent = body.replace(b"XX", b"%d" % next(boundaries))
        kind = f"multipart/mixed; boundary={next(boundaries) - 1}"
        response = await session.post("http://a.test/x", data=sent, headers={"Content-Type": kind})
        part: Any = await MultipartReader.from_response(response).next()
        return [await part.text()]

    await both(tmp_path / "a.json", open_session, transport, ask)


async def test_a_body_that_the_caller_compressed_is_compared_unpacked(
    tmp_path: Path, open_session: OpenSession
) -> None:
    """The time that gzip writes into it makes no other request of it."""
    transport = MockTransport()
    transport.any().respond(json=1)
    times = count()

    async def ask(session: ClientSession) -> int:
        body = gzip.compress(b'{"a": 1, "password": "Zq7-s3cretvalue"}', mtime=next(times))
        return (await session.post("http://a.test/x", data=body, headers={"Content-Encoding": "gzip"})).status

    await both(tmp_path / "a.json", open_session, transport, ask)
    session = open_session(Cassette(tmp_path / "a.json"))
    with pytest.raises(UnmatchedRequest, match=r"body\.a is 2, recorded 1"):
        await session.post("http://a.test/x", data=gzip.compress(b'{"a": 2, "password": "b"}'))


@pytest.mark.parametrize(
    "headers",
    [
        {"Referer": "http://a.test/"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Own": "DELETE"},
        {"X-Own": "http://a.test"},
        {"X-Own": "Location, Content-Type"},
    ],
    ids=str,
)
async def test_a_header_that_says_what_the_request_says(
    tmp_path: Path, open_session: OpenSession, headers: dict[str, str]
) -> None:
    """Its value is hidden, but neither the method nor the origin is: they are no secrets, and lead to the answer."""
    transport = MockTransport()
    transport.route("DELETE", "/x").respond(status=303, headers={"Location": "/y", "Content-Type": "text/plain"})
    transport.get("/y").respond(json={"a": 1})

    async def ask(session: ClientSession) -> Any:
        return await (await session.delete("http://a.test/x", headers=headers)).json()

    await both(tmp_path / "a.json", open_session, transport, ask)


@pytest.mark.parametrize("cursor", ["nextPageToken", "continuation_token"])
async def test_a_list_is_followed_to_its_end(tmp_path: Path, cursor: str) -> None:
    """Cursors come again as they were, so that none looks like the one before, and the last page has none."""
    transport = MockTransport()
    for token in ("page-abc-1", "page-abc-2", None):
        transport.get("/x").respond(json={"items": [token], cursor: token, "password": None})

    async def ask() -> list[Any]:
        async with ApiClient("http://a.test") as client:
            pages = client.paginate("/x", following=by_cursor(cursor, "pageToken"))
            return [await page.json() async for page in pages]

    with set_testing(innermost=[transport]), Cassette(tmp_path / "a.json", mode="record"):
        recorded = await ask()
    with Cassette(tmp_path / "a.json") as cassette:
        assert await ask() == recorded
    cassette.assert_all_used()
    assert len(recorded) == 3


async def test_an_answer_that_is_no_http_comes_again(tmp_path: Path) -> None:
    """What aiohttp says of it is recorded as well, and the caller is told the same in the replay."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"garbage\r\n\r\n")
        writer.close()

    async def ask() -> tuple[str, int]:
        async with ApiClient(base) as client:
            with pytest.raises(errors.ApiError) as caught:
                await client.get("/x", timeout=5)
            return type(caught.value).__name__, caught.value.attempts

    path = tmp_path / "a.json"
    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        base = "http://{}:{}".format(*server.sockets[0].getsockname())
        with Cassette(path, mode="record"):
            recorded = await ask()
    assert [each["failure"]["type"] for each in json.loads(path.read_text())["interactions"]] == ["ClientResponseError"]
    with Cassette(path) as cassette:
        assert await ask() == recorded
    cassette.assert_all_used()


@pytest.mark.parametrize("host", ["a.test", "b.test"])
async def test_equal_requests_are_each_looked_for_once(
    tmp_path: Path, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Of hundreds alike none is compared with all the others, whichever host is asked."""
    transport = MockTransport()
    transport.any().respond(json=1)
    cassette = Cassette(tmp_path / "a.json", mode="record")
    session = open_session(cassette, transport)
    for _ in range(200):
        await session.get("http://a.test/x")
    cassette.save()
    compared = 0
    differences = Interaction.differences

    def counting(self: Interaction, live: Interaction) -> Any:
        nonlocal compared
        compared += 1
        return differences(self, live)

    monkeypatch.setattr(Interaction, "differences", counting)
    cassette = Cassette(tmp_path / "a.json")
    session = open_session(cassette)
    for _ in range(200):
        await session.get(f"http://{host}/x")
    cassette.assert_all_used()
    assert compared == 200
