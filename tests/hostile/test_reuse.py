"""Connections that are kept alive and die, answers that come too early, and requests that nobody reads."""

import asyncio
import io
from typing import Any

import pytest

from apiclient import ApiClient, errors
from tests.hostile.rows import ASK, OK, TIMEOUT, says, sized
from tests.integration.scripted import Close, HalfClose, Head, Pause, Reset, Scripted, Send, Serve, Some, Stall, Step

pytestmark = pytest.mark.looptime
ONCE: tuple[Step, ...] = (*ASK, Send(sized(b"fine")))
UPLOAD = b"x" * 3_000_000
# What happens to a kept connection once it has served one request.
ENDS: dict[str, tuple[Step, ...]] = {
    "closed": (Close(),),
    "reset": (Reset(),),
    "half-closed": (HalfClose(),),
    "closed by the next request": (Some(1), Close()),
    "reset by the next request": (Some(1), Reset()),
    "408 and closed": (Pause(0.01), Send(says(b"408 Idle")), Close()),
}


def paths(server: Scripted) -> list[bytes]:
    return [head.split(b" ", 2)[1] for head in server.requests]


@pytest.mark.parametrize("idle", [0.0, 1.0])
@pytest.mark.parametrize("end", ENDS)
async def test_a_get_on_a_dying_connection_is_made_again(end: str, idle: float) -> None:
    """It arrives exactly once whole, and the attempt that met the dead connection is counted with it."""
    async with Scripted((*ONCE, *ENDS[end])) as server, ApiClient(server.url, connections=1) as client:
        await client.get("/first")
        await asyncio.sleep(idle)
        pending = client.get("/second")
        assert await (await pending).text() == "fine"
        assert paths(server) == [b"/first", b"/second"]
        assert pending.call is not None
        assert pending.call.attempts - 1 == len(pending.call.trail) <= 1


@pytest.mark.parametrize("idle", [0.0, 1.0])
@pytest.mark.parametrize("end", ENDS)
async def test_a_post_on_a_dying_connection_is_sent_once_at_most(end: str, idle: float) -> None:
    """Where the death was noticed it goes out on another; else nobody knows, and the caller is told so."""
    async with Scripted((*ONCE, *ENDS[end])) as server, ApiClient(server.url, connections=1) as client:
        await client.get("/first")
        await asyncio.sleep(idle)
        (ended,) = await asyncio.gather(post(client), return_exceptions=True)
        if isinstance(ended, BaseException):
            assert isinstance(ended, errors.OutcomeUnknown)
            assert ended.attempts == 1
            assert paths(server) == [b"/first"]
        else:
            assert paths(server) == [b"/first", b"/second"]
        assert (await client.get("/after")).status == 200


async def post(client: ApiClient) -> int:
    return (await client.post("/second", json={})).status


MANY = pytest.mark.xfail(
    strict=True, reason="each attempt takes the next dead connection of the pool; aiohttp keeps them all"
)


@pytest.mark.parametrize("kept", [3, pytest.param(5, marks=MANY)])
async def test_kept_connections_that_are_all_dead(kept: int) -> None:
    """As after a deployment: a call goes through, however many dead connections the pool holds."""
    script = (*ASK, Pause(0.1), *ONCE[2:], Some(1), Close())
    async with Scripted(*[script] * kept) as server, ApiClient(server.url, connections=kept) as client:
        await asyncio.gather(*(fetch(client) for _ in range(kept)))
        assert server.connections == kept
        assert await fetch(client) == "fine"
        assert len(server.requests) == kept + 1


async def fetch(client: ApiClient) -> str:
    return await (await client.get("/x")).text()


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("end", [Close(), Stall(), Pause(1)])
async def test_an_answer_while_the_body_is_still_being_sent(method: str, end: Step) -> None:
    """413 in the middle of an upload is the answer, whatever becomes of the rest; it is not sent again."""
    script = (Head(), Send(says(b"413 Too Big")), end)
    async with Scripted(script) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.StatusError) as caught:
            await client.request(method, "/x", data=io.BytesIO(UPLOAD))
        assert caught.value.status == 413
        assert caught.value.attempts == server.wire == 1
        assert (await client.get("/after")).status == 200


@pytest.mark.parametrize(
    ("method", "kind", "wire"), [("PUT", errors.DeadlineExceeded, 2), ("POST", errors.OutcomeUnknown, 1)]
)
async def test_an_upload_that_nobody_reads(method: str, kind: type[errors.ApiError], wire: int) -> None:
    """The buffers fill up, and the attempt's time ends it."""
    loop = asyncio.get_running_loop()
    async with (
        Scripted(otherwise=(Head(), Pause(1000))) as server,
        ApiClient(server.url, connections=1, timeout=TIMEOUT) as client,
    ):
        began = loop.time()
        with pytest.raises(kind) as caught:
            await client.request(method, "/x", data=io.BytesIO(UPLOAD * 3))
        assert loop.time() - began <= TIMEOUT + 0.2
        assert caught.value.attempts == server.connections == wire
        server.otherwise = None
        assert (await client.get("/after")).status == 200


async def test_a_body_in_answer_to_head() -> None:
    """It belongs to no answer: the connection is not used again."""
    async with (
        Scripted((Head(), Send(sized(b"fine")), Serve())) as server,
        ApiClient(server.url, connections=1) as client,
    ):
        with pytest.raises(errors.ResponseBroken):
            await client.head("/x")
        assert await (await client.get("/after")).text() == "fine"
        assert server.connections == 2


async def test_a_hundred_continue_that_never_comes() -> None:
    """The attempt's time ends it, and it is not sent again, as the body may be half out."""
    async with Scripted((Head(), Stall())) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.BodyNotReplayable) as caught:
            await client.put("/x", data=b"abc", expect100=True)
        assert caught.value.attempts == server.wire == 1
        assert (await client.get("/after")).status == 200


async def test_redirects_without_end() -> None:
    """Ten hops are followed, each counted as the request that it is."""
    scripts = [(*ASK, Send(says(b"302 Go", b"Location: /%d" % number)), Close()) for number in range(30)]
    async with Scripted(*scripts) as server, ApiClient(server.url, connections=1) as client:
        with pytest.raises(errors.RedirectRefused, match="more than 10 times") as caught:
            await client.get("/x")
        assert caught.value.attempts == server.wire == 11
        server.scripts = []
        assert (await client.get("/after")).status == 200


POISON = pytest.mark.xfail(
    strict=True, reason="aiohttp 3.14 takes an answer that came unasked for that of the next request"
)


@pytest.mark.parametrize("extra", [pytest.param(sized(b"poison"), marks=POISON), b"garbage", OK])
async def test_what_arrives_between_two_requests_answers_none(extra: bytes) -> None:
    """A kept connection on which bytes arrived unasked is not used again."""
    async with (
        Scripted((*ONCE, Pause(0.01), Send(extra), Serve())) as server,
        ApiClient(server.url, connections=1) as client,
    ):
        await client.get("/first")
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            assert await (await client.get("/second")).text() == "fine"


@pytest.mark.parametrize("head", [OK + b"Content-Length: 4\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_kept_connection_keeps_nothing_of_its_requests(head: bytes) -> None:
    """What watches for its end is taken off with each whole body, and its end later on is reported to nobody."""
    body = b"fine" if b"Length" in head else b"4\r\nfine\r\n0\r\n\r\n"
    script: tuple[Step, ...] = (*ASK, Send(head), Pause(0.001), Send(body)) * 20
    async with Scripted((*script, Stall())) as server, ApiClient(server.url, connections=1) as client:
        assert [await fetch(client) for _ in range(20)] == ["fine"] * 20
        assert server.connections == 1
        assert client._session is not None
        connector: Any = client._session.connector
        ((kept, _),) = next(iter(connector._conns.values()))
        assert len(kept.closed._callbacks) == 1
