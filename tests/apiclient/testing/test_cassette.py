"""A cassette gives again what it heard, without a network."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import ClientCredentials
from apiclient.middleware import Retry
from apiclient.sandbox import Sandbox
from apiclient.testing import Cassette, MockTransport, UnmatchedRequest
from apiclient.testing._cassette import Mode
from tests.authority import Authority
from tests.conftest import Peer

from .conftest import OpenSession

Work = Callable[[], Awaitable[Any]]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns what makes every attempt to connect fail the test."""

    async def connect(*_: Any, **__: Any) -> Any:
        raise AssertionError("a replay opened a connection")

    def forbid() -> None:
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)

    return forbid


async def both(path: Path, work: Work, forbid: Callable[[], None], **options: Any) -> tuple[Any, Any]:
    """Return what *work* gives while it is recorded, and what it gives again without a network."""
    with Cassette(path, mode="record", **options):
        recorded = await work()
    forbid()
    with Cassette(path, **options) as cassette:
        replayed = await work()
    cassette.assert_all_used()
    return recorded, replayed


async def told(call: Awaitable[aiohttp.ClientResponse]) -> Any:
    """Return all that a caller sees of a call."""
    try:
        response = await call
    except errors.ApiError as error:
        return type(error).__name__, error.attempts, getattr(error, "status", None), error.hint
    return response.status, response.reason, await response.read(), response.content_type


@pytest.mark.looptime
async def test_the_default_chain_sees_the_same(tmp_path: Path, no_network: Callable[[], None]) -> None:
    """Tokens that expire and are refused, quotas met, 503s, 415, 403, paging: recorded and replayed alike."""
    async with Sandbox(seed=4, limit=3, token_lifetime=3.0, failure_rate=0.7) as sandbox:
        urls = sandbox.api_url, sandbox.token_url

        async def work() -> list[Any]:
            now = asyncio.get_running_loop().time
            credentials = ClientCredentials(token_url=urls[1], client_id="demo", client_secret="demo-secret", now=now)
            async with ApiClient(urls[0], credentials=credentials) as client:
                seen = [await told(client.get("/employees/{id}", path_params={"id": id_})) for id_ in range(1, 9)]
                if not replaying:
                    sandbox.revoke_tokens()
                seen += [await told(client.get("/flaky/{id}", path_params={"id": n})) for n in range(4)]
                seen.append(await told(client.get("/maintenance/1")))
                seen.append(await told(client.post("/timesheets", json={"hours": 8}, idempotency_key="k-1")))
                seen.append(await told(client.get("/payroll/1")))
                seen.append(await told(client.get("/audit")))
                return seen

        replaying = False
        with Cassette(tmp_path / "api.json", mode="record"):
            recorded = await work()
        statuses = {entry.status for entry in sandbox.ledger}
    replaying = True
    no_network()
    with Cassette(tmp_path / "api.json") as cassette:
        assert await work() == recorded
    cassette.assert_all_used()
    assert {200, 401, 403, 429, 500, 503} <= statuses


@pytest.mark.looptime
@pytest.mark.parametrize("fault", ["disconnect", "truncate", "refuse", "silence"])
async def test_failures_of_the_transport_come_again(
    peer: Peer, tmp_path: Path, no_network: Callable[[], None], fault: str
) -> None:
    """A first attempt that ends without an answer, or halfway through it, does so in the replay, and is tried again."""
    count = 0
    base = "http://127.0.0.1:1" if fault == "refuse" else peer.url

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count > 1:
            return web.Response(text="fine")
        assert request.transport is not None
        if fault == "silence":
            await asyncio.Event().wait()
        if fault == "truncate":
            response = web.StreamResponse(headers={"Content-Length": "10"})
            await response.prepare(request)
            await response.write(b"123")
        request.transport.close()
        return web.Response()

    peer.handler = handler

    async def work() -> Any:
        async with ApiClient(base) as client:
            return await told(client.get("/x"))

    recorded, replayed = await both(tmp_path / "a.json", work, no_network)
    assert recorded == replayed
    assert recorded[0] == ("ConnectFailed" if fault == "refuse" else 200)


async def test_hundreds_at_once_get_their_own(peer: Peer, tmp_path: Path, no_network: Callable[[], None]) -> None:
    """Each of many concurrent calls gets the answer to its own request; equal ones get theirs in the order of sending."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"path": request.path, "count": peer.count})

    peer.handler = handler

    async def work() -> list[Any]:
        async with aiohttp.ClientSession(peer.url, middlewares=(cassette,)) as session:

            async def one(number: int) -> str:
                async with session.get(f"/things/{number % 75}") as response:
                    said = await response.json()
                    assert said["path"] == f"/things/{number % 75}"
                    return str(said)

            return await asyncio.gather(*(one(number) for number in range(300)))

    cassette = Cassette(tmp_path / "a.json", mode="record")
    recorded = await work()
    cassette.save()
    no_network()
    cassette = Cassette(tmp_path / "a.json")
    assert await work() == recorded
    assert repr(cassette) == f"Cassette({str(tmp_path / 'a.json')!r}, mode='replay', 300 of 300 used)"


async def test_bodies_of_every_kind_come_again(peer: Peer, tmp_path: Path, no_network: Callable[[], None]) -> None:
    """Streamed and buffered: JSON however it is written, text, bytes, compressed, latin-1, empty, HEAD."""
    bodies: dict[str, tuple[bytes, dict[str, str]]] = {
        "/json": (b'{"a": 1, "b": "\\u00fc"}', {"Content-Type": "application/json"}),
        "/compact": ('{"a":1,"b":"ü"}'.encode(), {"Content-Type": "application/json"}),
        "/odd": (b'{ "a":1 ,"a": 2.50}', {"Content-Type": "application/json"}),
        "/text": ("grüße\r\n".encode(), {"Content-Type": "text/plain"}),
        "/latin": ("grüße".encode("latin-1"), {"Content-Type": "text/plain; charset=latin-1"}),
        "/bytes": (bytes(range(256)) * 1000, {"Content-Type": "application/octet-stream"}),
        "/gzip": (gzip.compress(b"x" * 100_000), {"Content-Type": "text/plain", "Content-Encoding": "gzip"}),
        "/empty": (b"", {}),
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        body, headers = bodies[request.path]
        return web.Response(body=body, headers=headers)

    peer.handler = handler

    async def work() -> list[Any]:
        seen: list[Any] = []
        async with ApiClient(peer.url) as client:
            for path in bodies:
                seen.append(await told(client.get(path)))
                async with client.get(path) as response:
                    seen.append(b"".join([chunk async for chunk in response.content.iter_chunked(1000)]))
                head = await client.head(path)
                seen.append((head.status, head.headers.get("Content-Type"), await head.read()))
        return seen

    recorded, replayed = await both(tmp_path / "a.json", work, no_network)
    assert recorded == replayed
    assert recorded[1] == bodies["/json"][0]
    assert recorded[19] == b"x" * 100_000


async def test_uploads_are_sent_whole_and_compared(peer: Peer, tmp_path: Path, no_network: Callable[[], None]) -> None:
    """A generator, a form with files, compressed data: the server gets all of it, and the replay knows it again."""
    got: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        got.append(await request.read())
        return web.Response(text="got it")

    peer.handler = handler

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"piece %d " % number

    async def work() -> list[Any]:
        async with ApiClient(peer.url) as client:
            form = aiohttp.FormData()
            form.add_field("password", "correct-horse-9")
            form.add_field("file", b"\x00\x01", filename="a.bin")
            return [
                await told(client.put("/generator", data=pieces())),
                await told(client.put("/form", data=form)),
                await told(client.put("/json", json={"b": 1, "a": [True]})),
            ]

    recorded, replayed = await both(tmp_path / "a.json", work, no_network)
    assert recorded == replayed
    assert got[0] == b"".join([piece async for piece in pieces()])
    assert b"correct-horse-9" in got[1]
    assert b"\x00\x01" in got[1]
    assert "correct-horse" not in (tmp_path / "a.json").read_text()


async def test_the_origin_decides_between_equals(tmp_path: Path, open_session: OpenSession) -> None:
    """Two hosts with one path keep their answers apart; a host that was not recorded gets what is left."""
    transport = MockTransport()
    for host in ("a", "b", "c"):
        transport.get(f"http://{host}.test/x").respond(text=host)
    path = tmp_path / "a.json"
    cassette = Cassette(path, mode="record")
    for host in ("a", "b", "c"):
        await open_session(cassette, transport).get(f"http://{host}.test/x")
    cassette.save()
    session, got = open_session(Cassette(path)), list[str]()
    for host in ("b", "z", "c"):
        got.append(await (await session.get(f"http://{host}.test/x")).text())
    assert got == ["b", "a", "c"]


async def test_once_records_what_is_not_there_yet(peer: Peer, tmp_path: Path) -> None:
    """The first run asks the server and writes, the second asks nobody."""
    for _ in range(2):
        with Cassette(tmp_path / "deep" / "a.json", mode="once"):
            async with ApiClient(peer.url) as client:
                assert (await client.get("/x")).status == 200
    assert peer.count == 1


@pytest.mark.looptime
async def test_the_policies_that_a_session_lists_see_it_too(
    peer: Peer, tmp_path: Path, open_session: OpenSession, no_network: Callable[[], None]
) -> None:
    """Listed last on a bare session it records each attempt; entered as well, it is there once."""
    peer.answers(503, 200)
    path = tmp_path / "a.json"
    with Cassette(path, mode="record") as cassette:
        session = open_session(Retry(), cassette)
        assert (await session.get(peer.url)).status == 200
        async with ApiClient(peer.url, pipeline=Pipeline([cassette])) as client:
            await client.get("/y")
        assert repr(cassette) == f"Cassette({str(path)!r}, mode='record', 3 recorded)"
    no_network()
    cassette = Cassette(path)
    assert (await open_session(Retry(), cassette).get(peer.url)).status == 200
    with pytest.raises(AssertionError, match=r"to be used; this was not:\n  3\. GET http://.*/y -> 200$"):
        cassette.assert_all_used()


async def test_token_requests_are_recorded_as_well(tmp_path: Path, no_network: Callable[[], None]) -> None:
    """A client that gets its token by a grant needs no authorization server in the replay, also after a 401."""
    async with Authority() as authority:
        base, credentials = authority.url, authority.client

        async def work() -> list[Any]:
            async with ApiClient(base, credentials=given) as client:
                first = await told(client.get("/a"))
                authority.revoke()
                return [first, await told(client.get("/b"))]

        given = credentials()
        with Cassette(tmp_path / "a.json", mode="record"):
            recorded = await work()
        given = credentials()
        assert authority.token_requests == 2
    no_network()
    with Cassette(tmp_path / "a.json") as cassette:
        replayed = await work()
    cassette.assert_all_used()
    assert [each[0] for each in recorded] == [each[0] for each in replayed] == [200, 200]


@pytest.mark.parametrize("mode", ["replay", "record"])
async def test_a_call_cancelled_anywhere_leaves_the_rest_usable(peer: Peer, tmp_path: Path, mode: Mode) -> None:
    """Whatever becomes of one call, others are recorded and replayed."""
    path = tmp_path / "a.json"
    with Cassette(path, mode="record"):
        async with ApiClient(peer.url) as client:
            for number in range(20):
                await client.get(f"/{number}")
    with Cassette(path, mode=mode):
        async with ApiClient(peer.url) as client:
            for number in range(20):
                task = asyncio.create_task(client.get(f"/{number}"))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_what_was_not_recorded_is_refused(peer: Peer, tmp_path: Path) -> None:
    """The error shows the nearest recording, each part that differs, and what to do; no retry takes it for a fault."""
    path = tmp_path / "a.json"

    async def ask(page: str = "1", n: int = 1, *, url: str = "/list") -> None:
        async with ApiClient(peer.url) as client:
            await client.put(url, params={"page": page, "size": "5", "token": f"s3cret-{n}"}, json={"n": n, "ok": True})

    with Cassette(path, mode="record"):
        await ask()
    with Cassette(path) as cassette:
        with pytest.raises(UnmatchedRequest) as caught:
            await ask("2", n=3)
        assert str(caught.value) == (
            f"Nothing in {path} answers PUT {peer.url}/list?page=2&size=5&token=[hidden].\n"
            f"Nearest is 1. PUT {peer.url}/list?page=1&size=5&token=[hidden] -> 200, but\n"
            "  parameter page is '2', recorded '1'\n"
            "  body.n is 3, recorded 1\n"
            'Where the new request is right, record again: Cassette(path, mode="record"), '
            "pytest --apiclient-cassette=record for the fixture, or --record FILE on the command line"
        )
        with pytest.raises(UnmatchedRequest, match="path is /other, recorded /list"):
            await ask(url="/other")
        with pytest.raises(AssertionError, match=r"this was not:\n  1\. PUT"):
            cassette.assert_all_used()
        await ask()
        with pytest.raises(UnmatchedRequest, match="recorded 1 time, and was asked for once more"):
            await ask()
    assert peer.count == 1


async def test_what_is_compared_and_what_may_be_anything(tmp_path: Path, open_session: OpenSession) -> None:
    """Hidden parts fit anything, in path, query and body; a repeated parameter in any order; but 1 is not true."""
    transport = MockTransport()
    transport.any().respond(json={"token": "abc"})
    cassette = Cassette(tmp_path / "a.json", mode="record")
    session = open_session(cassette, transport)
    for _ in range(3):
        await session.post(
            "http://a.test/of/key-123456?a=2&a=key-123456&a=1",
            json={"note": "for key-123456 only", "on": True},
            headers={"X-Own": "key-123456"},
        )
    cassette.save()
    assert "key-123456" not in (tmp_path / "a.json").read_text()
    session = open_session(Cassette(tmp_path / "a.json"))
    response = await session.post("http://a.test/of/x?a=1&a=y&a=2", json={"on": True, "note": "for z only"})
    assert await response.json() == {"token": "[hidden]"}
    assert response.headers["Content-Length"] == str(len(await response.read()))
    for url, body in (
        ("http://a.test/of/x/y", {"on": 1, "note": "for z only"}),
        ("http://a.test/of/x?a=1&a=y&a=2", {"on": 1, "note": "for z only"}),
        ("http://a.test/of/x?a=1&a=y&a=2", {"on": True, "note": "for z"}),
        ("http://a.test/of/x?a=1&a=y&a=3", {"on": True, "note": "for z only"}),
    ):
        with pytest.raises(UnmatchedRequest):
            await session.post(url, json=body)
