import asyncio
import io
import math
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import Retry
from tests.conftest import Peer


async def test_a_call_is_awaitable_and_buffered(peer: Peer) -> None:
    """Awaited, the body has been read: json() needs no more of the wire."""
    async with ApiClient(peer.url + "/v1") as client:
        response = await client.get("/employees/{id}", path_params={"id": "a/b c"}, params={"q": "x y"})
    assert await response.json() == {"fine": True}
    assert peer.seen == [("GET", "/v1/employees/a%2Fb%20c?q=x+y", b"")]


async def test_a_call_is_a_context_manager_and_streamed(peer: Peer) -> None:
    """Entered, the body arrives as it is asked for."""

    async def chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"x" * 70_000)
        return response

    peer.handler = chunks
    async with ApiClient(peer.url, connections=1) as client:
        async with client.get("/export") as response:
            first = await response.content.read(10)
        assert first == b"x" * 10
        async with client.get("/export") as response:
            assert sum([len(chunk) async for chunk in response.content.iter_chunked(65536)]) == 210_000


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_each_method_has_its_verb(peer: Peer, method: str) -> None:
    """The verbs are what they say."""
    async with ApiClient(peer.url) as client:
        await getattr(client, method)("/x")
    assert peer.seen[0][0] == method.upper()


async def test_a_session_of_ones_own_stays_open_and_gains_the_chain(peer: Peer) -> None:
    """The chain is given per request: any session does, and closing it is its owner's business."""
    peer.answers(503, 200)
    async with aiohttp.ClientSession() as session:
        async with ApiClient(peer.url, session=session, headers={"X-A": "b"}) as client:
            assert (await client.get("/x")).status == 200
        assert not session.closed
    assert peer.headers[1]["X-A"] == "b"
    assert peer.headers[1]["Accept"].startswith("application/json")


async def test_same_origin_redirects_are_followed_through_the_chain(peer: Peer) -> None:
    """A redirect within the origin is part of the call, with the deadline and the count of the call."""

    async def moved(request: web.Request) -> web.StreamResponse:
        if request.path == "/end":
            return web.Response(body=await request.read())
        return web.Response(status=307, headers={"Location": "/end"})

    peer.handler = moved
    async with ApiClient(peer.url) as client:
        pending = client.post("/start", json={"a": 1}, idempotency_key="k")
        response = await pending
        assert await response.read() == b'{"a": 1}'
        assert pending.call is not None
        assert pending.call.attempts == 2
        assert peer.headers[0]["Idempotency-Key"] == peer.headers[1]["Idempotency-Key"]


async def test_a_redirect_that_drops_the_body_becomes_a_get(peer: Peer) -> None:
    """303 after a POST is a GET without body."""

    async def moved(request: web.Request) -> web.StreamResponse:
        if request.path == "/end":
            return web.Response()
        return web.Response(status=303, headers={"Location": "/end"})

    peer.handler = moved
    async with ApiClient(peer.url) as client:
        await client.post("/start", json={"a": 1})
    assert peer.seen[1] == ("GET", "/end", b"")


async def test_a_body_that_can_be_sent_once_is_not_redirected(peer: Peer) -> None:
    """A file that aiohttp has closed by then is not sent empty."""
    peer.answers(307, headers={"Location": "/end"})
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.BodyNotReplayable):
            await client.put("/start", data=io.BytesIO(b"x"))
    assert peer.count == 1


async def test_per_call_options_win_over_the_clients(peer: Peer) -> None:
    """timeout, endpoint and pipeline may be given per call."""
    peer.answers(503, 200)
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.ServerError):
            await client.get("/x", pipeline=client.pipeline.replace(Retry, Retry(attempts=1)))
        pending = client.get("/x", endpoint="GET /named", timeout=math.inf)
        await pending
        assert pending.call is not None
        assert pending.call.endpoint == "GET /named"
        assert pending.call.deadline == math.inf


@pytest.mark.looptime
async def test_the_calls_own_timeout_ends_it(peer: Peer) -> None:
    """A call's timeout is its total: the answer that never comes ends there."""
    loop = asyncio.get_running_loop()

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(1000)
        return web.Response()

    peer.handler = never
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.DeadlineExceeded, match=r"0\.3 s"):
            await client.get("/x", timeout=0.3)
    assert loop.time() == pytest.approx(0.3, abs=0.02)


async def test_a_body_over_the_limit_is_refused(peer: Peer) -> None:
    """A buffered body is counted after decompression and cut off at max_body."""

    async def bomb(_: web.Request) -> web.StreamResponse:
        response = web.Response(body=b"\0" * 5_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    peer.handler = bomb
    async with ApiClient(peer.url, max_body=1_000_000, connections=1) as client:
        with pytest.raises(errors.BodyTooLarge, match="1000000"):
            await client.get("/x")
        peer.answers(200)
        assert (await client.get("/x")).status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout.*0"),
        ({"timeout": -1.5}, "timeout.*-1.5"),
        ({"max_body": 0}, "max_body.*0"),
        ({"connections": 0}, "connections.*0"),
        ({"headers": {"X": "a\r\nb"}}, "header 'X'"),
        ({"endpoints": ["/{"]}, "template"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    """A wrong option fails in the constructor and names option and value."""
    with pytest.raises(ValueError, match=message):
        ApiClient("http://127.0.0.1", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("http://evil.example/", {}, "origin"),
        ("//evil.example/", {}, "origin"),
        ("/{id}", {}, "needs the parameter 'id'"),
        ("/{id}", {"path_params": {"id": ".."}}, "dot segment"),
        ("/x", {"timeout": 0}, "timeout"),
        ("/x", {"cost": 0}, "cost"),
        ("/x", {"headers": {"A\r\nB": "x"}}, "header"),
        ("/x", {"headers": {"A": "canary\nB: x"}}, "header 'A'"),
    ],
)
async def test_a_bad_call_is_refused_before_anything_is_sent(
    peer: Peer, path: str, options: dict[str, Any], message: str
) -> None:
    """A call that cannot be built says why, and shows no value that could be secret."""
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.InvalidRequest, match=message) as caught:
            await client.get(path, **options)
    assert "canary" not in str(caught.value)
    assert peer.count == 0


async def test_an_unknown_option_is_a_type_error(peer: Peer) -> None:
    """A misspelt option does not vanish."""
    async with ApiClient(peer.url) as client:
        with pytest.raises(TypeError, match="'parms'"):
            await client.get("/x", parms={})  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="'ssl'"):
            await client.get("/x", ssl=False)  # type: ignore[call-arg]


async def test_a_closed_client_says_so(peer: Peer) -> None:
    """Using a closed client is a mistake with a name."""
    client = ApiClient(peer.url)
    await client.get("/x")
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.get("/x")


def test_reprs_are_readable() -> None:
    """The repr is the first thing a person sees."""
    client = ApiClient("https://api.example.com/v1", pipeline=Pipeline())
    assert repr(client) == "ApiClient('https://api.example.com/v1', 0 middlewares)"
    with pytest.warns(RuntimeWarning, match=r"^<PendingCall GET '/x'> was never awaited: nothing was sent$"):
        client.get("/x")


async def test_explain_answers_in_words(peer: Peer) -> None:
    """explain() tells why an outcome would or would not be retried, without sending anything."""
    async with ApiClient(peer.url) as client:
        assert "503" in client.explain("GET", "/x", 503)
        assert "retr" in client.explain("POST", "/x", 503)
        no_retry = ApiClient(peer.url, pipeline=Pipeline())
        assert "no Retry" in no_retry.explain("GET", "/x", 503)
    assert peer.count == 0


async def test_a_file_is_sent_again_from_where_it_stood(peer: Peer, tmp_path: Path) -> None:
    """A seekable file is the same at each attempt."""
    path = tmp_path / "upload"
    path.write_bytes(b"0123456789")
    peer.answers(503, 200)
    with path.open("rb") as file:
        file.seek(4)
        async with ApiClient(peer.url) as client:
            await client.put("/x", data=file)
    assert [body for _, _, body in peer.seen] == [b"456789"] * 2


async def test_closing_waits_for_a_refresh_under_way(peer: Peer) -> None:
    """A rotated refresh token is not lost because the client is closed at that moment."""
    ended: list[str] = []

    class Slow(StaticToken):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            ended.append("credential")

    async with ApiClient(peer.url, credentials=Slow("t")) as client:
        await client.get("/x")
    assert ended == ["credential"]
